//! Blocks of objects through a cache that is bounded in bytes.
//!
//! A load belongs to the cache: it goes on when who asked for it gives up, and everybody who wants one of its blocks
//! waits for it. Consecutive blocks come with one request; each stands or falls by itself. What is being loaded is bounded
//! by a budget of its own: who waits takes his turn, what is only read ahead is left out when there is none. What fails
//! is kept for [`FAILED_KEPT`]: who gave up before it failed is told when he comes again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use highwater_object_format::{BlockEntry, DataBlock, FormatError};
use highwater_object_storage::{IoClass, ObjectStorage, layout};
use highwater_runtime::{ByteBudget, BytePermit, TaskKind, Tasks};
use highwater_types::{ObjectId, StreamId};
use quick_cache::Weighter;
use tokio::sync::watch;

use super::extent::Extents;
use super::fixed_cache::{FixedCache, fixed_queue};
use super::turns::{Line, Turns, Wish};
use super::{FAILED_KEPT, of_format, same};
use crate::StreamError;

/// About what a block takes.
const BLOCK_BYTES: u64 = 512 << 10;

type BlockKey = (ObjectId, u64);
/// What a request came to for each block of its run.
type Loaded = Vec<Result<Arc<DataBlock>, Arc<StreamError>>>;

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<BlockKey, Arc<DataBlock>> for ByBytes {
    fn weight(&self, _key: &BlockKey, block: &Arc<DataBlock>) -> u64 {
        block.body.len() as u64 + block.batches.len() as u64 * 24
    }
}

/// A block that is wanted: at hand, or being loaded.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    Found(Arc<DataBlock>),
    Loading(Loading),
}

/// Which of its run a block is, and when that is done.
#[derive(Debug, Clone)]
pub(crate) struct Loading {
    place: usize,
    done: watch::Receiver<Option<Loaded>>,
}

impl Wanted {
    /// The block, once it is there. Cancellation safe: a load goes on.
    pub(crate) async fn get(self) -> Result<Arc<DataBlock>, StreamError> {
        let mut loading = match self {
            Self::Found(block) => return Ok(block),
            Self::Loading(loading) => loading,
        };
        let stopped = || StreamError::Unavailable {
            reason: "the node stops".to_owned(),
        };
        let loaded = loading.done.wait_for(Option::is_some).await;
        let loaded = loaded.map_err(|_closed| stopped())?;
        match loaded.as_ref().and_then(|run| run.get(loading.place)) {
            Some(Ok(block)) => Ok(Arc::clone(block)),
            Some(Err(error)) => Err(same(error)),
            None => Err(stopped()),
        }
    }
}

struct Inner {
    storage: Arc<dyn ObjectStorage>,
    cache: FixedCache<BlockKey, Arc<DataBlock>, ByBytes>,
    loading: Mutex<BTreeMap<BlockKey, Loading>>,
    budget: ByteBudget,
    /// What one request brings at most, when it is more than one block.
    run_bytes_max: u64,
    turns: Turns,
    tasks: Tasks,
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

    fn takes(&self, next: &BlockEntry, bytes_max: u64) -> bool {
        let Some(last) = self.blocks.last() else {
            return true;
        };
        last.position + u64::from(last.bytes) == next.position
            && self.bytes() + u64::from(next.bytes) <= bytes_max
    }
}

impl Blocks {
    /// Keeps and loads within `bytes`, of which a quarter is for what is being loaded.
    pub(super) fn new(
        storage: Arc<dyn ObjectStorage>,
        bytes: u64,
        turns: Turns,
        tasks: Tasks,
    ) -> Self {
        let kept = bytes / 4 * 3;
        let expected = usize::try_from(kept / BLOCK_BYTES).unwrap_or(1024).max(16);
        Self(Arc::new(Inner {
            storage,
            cache: fixed_queue(expected, kept, ByBytes),
            loading: Mutex::default(),
            budget: ByteBudget::new((bytes / 4).max(1)),
            run_bytes_max: Extents::of_cache(bytes).bytes_max(),
            turns,
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

    #[cfg(test)]
    pub(crate) fn budget(&self) -> &ByteBudget {
        &self.0.budget
    }

    /// Some blocks of a stream in an object, in order; what is missing is begun, neighbours together. What is returned stays
    /// at hand, also when the cache has no room for it.
    pub(crate) fn want(
        &self,
        object: ObjectId,
        stream: StreamId,
        blocks: &[BlockEntry],
    ) -> Vec<Wanted> {
        let mut loading = self.lock();
        let known: Vec<Option<Wanted>> = blocks
            .iter()
            .map(|block| {
                let key = (object, block.position);
                let known = loading.get(&key).cloned().map(Wanted::Loading);
                known.or_else(|| self.0.cache.get(&key).map(Wanted::Found))
            })
            .collect();
        let missing = blocks.iter().zip(&known);
        let missing = missing.filter_map(|(block, known)| known.is_none().then_some(*block));
        for run in self.runs(object, stream, missing) {
            self.load(&mut loading, run, None);
        }
        // the lock is held: what was begun can't have left the list
        let begun = |block: &BlockEntry| loading.get(&(object, block.position)).cloned();
        let all = blocks.iter().zip(known);
        all.filter_map(|(block, known)| known.or_else(|| begun(block).map(Wanted::Loading)))
            .collect()
    }

    /// Begins to load what of some blocks is missing, as far as there is room; whether there was.
    pub(crate) fn read_ahead(
        &self,
        object: ObjectId,
        stream: StreamId,
        blocks: &[BlockEntry],
    ) -> bool {
        let mut loading = self.lock();
        let missing = |block: &&BlockEntry| self.is_missing(&loading, object, block);
        let missing: Vec<BlockEntry> = blocks.iter().filter(missing).copied().collect();
        for run in self.runs(object, stream, missing) {
            let Some(permit) = self.0.budget.try_acquire(run.bytes()) else {
                return false;
            };
            self.load(&mut loading, run, Some(permit));
        }
        true
    }

    /// Whether one of some blocks is neither there nor being loaded.
    pub(crate) fn lacks(&self, object: ObjectId, blocks: &[BlockEntry]) -> bool {
        let loading = self.lock();
        let missing = |block| self.is_missing(&loading, object, block);
        blocks.iter().any(missing)
    }

    fn is_missing(
        &self,
        loading: &BTreeMap<BlockKey, Loading>,
        object: ObjectId,
        block: &BlockEntry,
    ) -> bool {
        let key = (object, block.position);
        !loading.contains_key(&key) && self.0.cache.peek(&key).is_none()
    }

    fn runs(
        &self,
        object: ObjectId,
        stream: StreamId,
        blocks: impl IntoIterator<Item = BlockEntry>,
    ) -> Vec<Run> {
        let bytes_max = self.0.run_bytes_max;
        let mut runs: Vec<Run> = Vec::new();
        for block in blocks {
            match runs.last_mut().filter(|run| run.takes(&block, bytes_max)) {
                Some(run) => run.blocks.push(block),
                None => runs.push(Run {
                    object,
                    stream,
                    blocks: vec![block],
                }),
            }
        }
        runs
    }

    /// Loads a run in a task of its own.
    fn load(
        &self,
        loading: &mut BTreeMap<BlockKey, Loading>,
        run: Run,
        permit: Option<BytePermit>,
    ) {
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
            let permit = match permit {
                Some(permit) => permit,
                None => {
                    let bytes = run.bytes().min(inner.budget.limit());
                    let permit = inner.budget.acquire(bytes).await;
                    permit.unwrap_or_else(|_never_too_large| BytePermit::empty())
                }
            };
            let loaded = blocks.read(&run).await;
            drop(permit);
            let (mut found, mut failed) = (Vec::new(), Vec::new());
            for (key, block) in keys.into_iter().zip(&loaded) {
                match block {
                    Ok(_) => found.push(key),
                    Err(_) => failed.push(key),
                }
            }
            blocks.forget(&found);
            tell.send_replace(Some(loaded));
            if !failed.is_empty() {
                tokio::time::sleep(FAILED_KEPT).await;
                blocks.forget(&failed);
            }
        });
    }

    fn forget(&self, keys: &[BlockKey]) {
        let mut loading = self.lock();
        for key in keys {
            loading.remove(key);
        }
    }

    /// Reads a run with one request. Each block that is sound goes into the cache as it is taken out.
    async fn read(&self, run: &Run) -> Loaded {
        let key = layout::object(run.object);
        let from = run.blocks.first().map_or(0, |block| block.position);
        let range = from..from + run.bytes();
        let got = self.0.storage.get(&key, range, IoClass::ColdRead);
        let turns = &self.0.turns;
        let wish = Wish {
            line: Line::Serving,
            goes_on: false,
            object: run.object,
            bytes: run.bytes(),
        };
        let got = turns.take(wish, got, || ());
        let mut rest = match got.await {
            Ok(got) => got,
            Err(error) => {
                let error = Arc::new(StreamError::Storage(error));
                return run.blocks.iter().map(|_| Err(error.clone())).collect();
            }
        };
        let alone = run.blocks.len() == 1;
        let mut take = |entry: &BlockEntry| {
            let length = usize::try_from(entry.bytes).unwrap_or(usize::MAX);
            if rest.len() < length {
                let part = "data block";
                return Err(FormatError::Truncated { part });
            }
            let part = rest.split_to(length);
            // a block of its own memory, so that one that is kept does not keep its neighbours
            let part = if alone {
                part
            } else {
                Bytes::copy_from_slice(&part)
            };
            DataBlock::parse(&part, run.stream, entry)
        };
        let block = |entry: &BlockEntry| {
            let block = take(entry).map_err(|error| Arc::new(of_format(&key, &error)))?;
            let block = Arc::new(block);
            let place = (run.object, entry.position);
            self.0.cache.insert(place, Arc::clone(&block));
            Ok(block)
        };
        run.blocks.iter().map(block).collect()
    }
}
