//! Blocks of objects through a cache that is bounded in bytes.
//!
//! A load belongs to the cache: it goes on when who asked for it gives up, and everybody who wants one of its blocks
//! waits for it. Consecutive blocks come with one request. What is being loaded is bounded by a budget of its own: who
//! waits takes his turn, what is only read ahead is left out when there is none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use highwater_object_format::{BlockEntry, DataBlock, FormatError};
use highwater_object_storage::{IoClass, ObjectStorage, layout};
use highwater_runtime::{ByteBudget, BytePermit, TaskKind, Tasks};
use highwater_types::{ObjectId, StreamId};
use quick_cache::Weighter;
use tokio::sync::watch;

use super::fixed_cache::{FixedCache, fixed_cache};
use super::{of_format, same};
use crate::StreamError;

/// What one request brings at most, when it is more than one block.
const RUN_BYTES_MAX: u64 = 4 << 20;
/// About what a block takes.
const BLOCK_BYTES: u64 = 512 << 10;

type BlockKey = (ObjectId, u64);
type Loaded = Result<Vec<Arc<DataBlock>>, Arc<StreamError>>;

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<BlockKey, Arc<DataBlock>> for ByBytes {
    fn weight(&self, _key: &BlockKey, block: &Arc<DataBlock>) -> u64 {
        block.body.len() as u64 + block.batches.len() as u64 * 24
    }
}

/// A block that is being loaded: which of its run it is, and when that is done.
#[derive(Debug, Clone)]
struct Loading {
    place: usize,
    done: watch::Receiver<Option<Loaded>>,
}

struct Inner {
    storage: Arc<dyn ObjectStorage>,
    cache: FixedCache<BlockKey, Arc<DataBlock>, ByBytes>,
    loading: Mutex<BTreeMap<BlockKey, Loading>>,
    budget: ByteBudget,
    tasks: Tasks,
}

/// Who wants a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Somebody who waits.
    Awaited,
    /// Nobody yet.
    Ahead,
}

/// The blocks of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Blocks(Arc<Inner>);

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blocks")
    }
}

/// Consecutive blocks of one stream in one object.
#[derive(Debug)]
struct Run {
    object: ObjectId,
    stream: StreamId,
    blocks: Vec<BlockEntry>,
}

impl Run {
    fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.bytes)).sum()
    }

    fn takes(&self, next: &BlockEntry) -> bool {
        let Some(last) = self.blocks.last() else {
            return true;
        };
        last.position + u64::from(last.bytes) == next.position
            && self.bytes() + u64::from(next.bytes) <= RUN_BYTES_MAX
    }
}

impl Blocks {
    /// Keeps and loads within `bytes`, of which a quarter is for what is being loaded.
    pub(crate) fn new(storage: Arc<dyn ObjectStorage>, bytes: u64, tasks: Tasks) -> Self {
        let kept = bytes / 4 * 3;
        let expected = usize::try_from(kept / BLOCK_BYTES).unwrap_or(1024).max(16);
        Self(Arc::new(Inner {
            storage,
            cache: fixed_cache(expected, kept, ByBytes),
            loading: Mutex::default(),
            budget: ByteBudget::new((bytes / 4).max(1)),
            tasks,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BlockKey, Loading>> {
        self.0
            .loading
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that are kept or being loaded.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.cache.weight() + self.0.budget.used()
    }

    /// Begins to load what of some blocks is not there; what is only read ahead, as far as there is room.
    pub(crate) fn begin(
        &self,
        object: ObjectId,
        stream: StreamId,
        blocks: &[BlockEntry],
        urgency: Urgency,
    ) {
        let mut loading = self.lock();
        for run in self.missing(&loading, object, stream, blocks) {
            let permit = match urgency {
                Urgency::Awaited => None,
                Urgency::Ahead => match self.0.budget.try_acquire(run.bytes()) {
                    Some(permit) => Some(permit),
                    None => return,
                },
            };
            self.load(&mut loading, run, permit);
        }
    }

    /// Whether a block is there or being loaded.
    pub(crate) fn knows(&self, object: ObjectId, block: &BlockEntry) -> bool {
        let key = (object, block.position);
        self.lock().contains_key(&key) || self.0.cache.peek(&key).is_some()
    }

    fn missing(
        &self,
        loading: &BTreeMap<BlockKey, Loading>,
        object: ObjectId,
        stream: StreamId,
        blocks: &[BlockEntry],
    ) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for block in blocks {
            let key = (object, block.position);
            if loading.contains_key(&key) || self.0.cache.peek(&key).is_some() {
                continue;
            }
            match runs.last_mut().filter(|run| run.takes(block)) {
                Some(run) => run.blocks.push(*block),
                None => runs.push(Run {
                    object,
                    stream,
                    blocks: vec![*block],
                }),
            }
        }
        runs
    }

    /// One block, loading it where need be. Cancellation safe: a load goes on.
    pub(crate) async fn get(
        &self,
        object: ObjectId,
        stream: StreamId,
        block: &BlockEntry,
    ) -> Result<Arc<DataBlock>, StreamError> {
        let key = (object, block.position);
        let mut waiting = {
            let mut loading = self.lock();
            if let Some(found) = self.0.cache.get(&key) {
                return Ok(found);
            }
            match loading.get(&key) {
                Some(known) => known.clone(),
                None => {
                    let run = Run {
                        object,
                        stream,
                        blocks: vec![*block],
                    };
                    self.load(&mut loading, run, None)
                }
            }
        };
        let loaded = waiting.done.wait_for(Option::is_some).await;
        let stopped = || StreamError::Unavailable {
            reason: "the node stops".to_owned(),
        };
        match loaded.as_deref() {
            Ok(Some(Ok(blocks))) => blocks.get(waiting.place).cloned().ok_or_else(stopped),
            Ok(Some(Err(error))) => Err(same(error)),
            Ok(None) | Err(_) => Err(stopped()),
        }
    }

    /// Loads a run in a task of its own; answers how to wait for its first block.
    fn load(
        &self,
        loading: &mut BTreeMap<BlockKey, Loading>,
        run: Run,
        permit: Option<BytePermit>,
    ) -> Loading {
        let (tell, done) = watch::channel(None);
        let keys: Vec<BlockKey> = run
            .blocks
            .iter()
            .map(|block| (run.object, block.position))
            .collect();
        for (place, key) in keys.iter().enumerate() {
            let done = done.clone();
            loading.insert(*key, Loading { place, done });
        }
        let blocks = self.clone();
        self.0.tasks.spawn(TaskKind::ColdRead, async move {
            let inner = &blocks.0;
            let _permit = match permit {
                Some(permit) => permit,
                None => {
                    let bytes = run.bytes().min(inner.budget.limit());
                    let permit = inner.budget.acquire(bytes).await;
                    permit.unwrap_or_else(|_never_too_large| BytePermit::empty())
                }
            };
            let loaded = blocks.read(&run).await;
            if let Ok(found) = &loaded {
                for (key, block) in keys.iter().zip(found) {
                    inner.cache.insert(*key, Arc::clone(block));
                }
            }
            let mut loading = blocks.lock();
            for key in &keys {
                loading.remove(key);
            }
            drop(loading);
            tell.send_replace(Some(loaded.map_err(Arc::new)));
        });
        Loading { place: 0, done }
    }

    async fn read(&self, run: &Run) -> Result<Vec<Arc<DataBlock>>, StreamError> {
        let key = layout::data_object(run.object);
        let from = run.blocks.first().map_or(0, |block| block.position);
        let range = from..from + run.bytes();
        let got = self.0.storage.get(&key, range, IoClass::ColdRead).await;
        let mut rest = got.map_err(StreamError::Storage)?;
        let alone = run.blocks.len() == 1;
        let mut blocks = Vec::with_capacity(run.blocks.len());
        for entry in &run.blocks {
            let length = usize::try_from(entry.bytes).unwrap_or(usize::MAX);
            if rest.len() < length {
                let part = "data block";
                return Err(of_format(&key, &FormatError::Truncated { part }));
            }
            let part = rest.split_to(length);
            // a block of its own memory, so that one that is kept does not keep its neighbours
            let part = if alone {
                part
            } else {
                Bytes::copy_from_slice(&part)
            };
            let block = DataBlock::parse(&part, run.stream, entry);
            blocks.push(Arc::new(block.map_err(|error| of_format(&key, &error))?));
        }
        Ok(blocks)
    }
}
