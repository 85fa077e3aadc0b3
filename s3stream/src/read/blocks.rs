//! Blocks of objects through a cache that is bounded in bytes.
//!
//! One request loads consecutive blocks (see [`super::loads`]), and each of them succeeds or fails by itself. A
//! separate budget bounds the blocks that are being loaded. A read that a caller waits for waits for its turn in it,
//! but a block that is only read ahead is left out if there is no room.

use std::sync::Arc;

use bytes::Bytes;
use highwater_object_format::{BlockEntry, DataBlock, FormatError};
use highwater_object_storage::{IoClass, ObjectStorage, layout};
use highwater_runtime::{ByteBudget, BytePermit, Tasks};
use highwater_types::{ObjectId, StreamId};
use quick_cache::Weighter;

use super::extent::Extents;
use super::fixed_cache::{FixedCache, fixed_queue};
use super::loads::{HeldLoads, Load, Loaded, Loads, Place};
use super::of_format;
use super::turns::{Line, TurnRequest, Turns};
use crate::StreamError;

/// The usual size of a block in bytes.
const BLOCK_BYTES: u64 = 512 << 10;

type BlockKey = (ObjectId, u64);
/// A block that is cached or being loaded.
pub(super) type BlockLoad = Load<Arc<DataBlock>>;
type HeldBlocks<'a> = HeldLoads<'a, BlockKey, Arc<DataBlock>>;

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<BlockKey, Arc<DataBlock>> for ByBytes {
    fn weight(&self, _key: &BlockKey, block: &Arc<DataBlock>) -> u64 {
        block.body.len() as u64 + block.batches.len() as u64 * 24
    }
}

struct Inner {
    storage: Arc<dyn ObjectStorage>,
    cache: FixedCache<BlockKey, Arc<DataBlock>, ByBytes>,
    loads: Loads<BlockKey, Arc<DataBlock>>,
    budget: ByteBudget,
    /// The largest number of bytes that a request for more than one block reads.
    run_bytes_max: u64,
    turns: Turns,
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
    /// Caches and loads blocks within `bytes`, a quarter of which is for blocks that are being loaded.
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
            loads: Loads::new(tasks),
            budget: ByteBudget::new((bytes / 4).max(1)),
            run_bytes_max: Extents::of_cache(bytes).bytes_max(),
            turns,
        }))
    }

    /// The bytes of blocks that are cached or being loaded.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.cache.weight() + self.0.budget.used()
    }

    #[cfg(test)]
    pub(crate) fn budget(&self) -> &ByteBudget {
        &self.0.budget
    }

    /// Returns some consecutive blocks of a stream in an object, and begins to load the missing ones, neighbours with
    /// one request. The returned blocks stay in memory even if the cache has no room for them.
    pub(crate) fn want(
        &self,
        object: ObjectId,
        stream: StreamId,
        blocks: &[BlockEntry],
    ) -> Vec<BlockLoad> {
        let mut loads = self.0.loads.hold();
        let known: Vec<Option<BlockLoad>> = blocks
            .iter()
            .map(|block| {
                let key = (object, block.position);
                loads.find(&key, || self.0.cache.get(&key))
            })
            .collect();
        let missing = blocks.iter().zip(&known);
        let missing = missing.filter_map(|(block, known)| known.is_none().then_some(*block));
        let mut begun = Vec::new();
        for run in self.runs(object, stream, missing) {
            begun.extend(self.load(&mut loads, run, None));
        }
        // the loads of the missing blocks were begun in the same order
        let mut begun = begun.into_iter().map(Load::UnderWay);
        let all = known.into_iter();
        all.filter_map(|known| known.or_else(|| begun.next()))
            .collect()
    }

    /// Begins to load the missing blocks among some, as far as there is room; returns whether there was room for all.
    pub(crate) fn read_ahead(
        &self,
        object: ObjectId,
        stream: StreamId,
        blocks: &[BlockEntry],
    ) -> bool {
        let mut loads = self.0.loads.hold();
        let missing = |block: &&BlockEntry| self.is_missing(&loads, object, block);
        let missing: Vec<BlockEntry> = blocks.iter().filter(missing).copied().collect();
        for run in self.runs(object, stream, missing) {
            let Some(permit) = self.0.budget.try_acquire(run.bytes()) else {
                return false;
            };
            self.load(&mut loads, run, Some(permit));
        }
        true
    }

    /// Whether one of some blocks is neither cached nor being loaded.
    pub(crate) fn lacks(&self, object: ObjectId, blocks: &[BlockEntry]) -> bool {
        let loads = self.0.loads.hold();
        let missing = |block| self.is_missing(&loads, object, block);
        blocks.iter().any(missing)
    }

    fn is_missing(&self, loads: &HeldBlocks<'_>, object: ObjectId, block: &BlockEntry) -> bool {
        let key = (object, block.position);
        loads.find(&key, || self.0.cache.peek(&key)).is_none()
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

    /// Begins to load a run of blocks once there is memory for it.
    fn load(
        &self,
        loads: &mut HeldBlocks<'_>,
        run: Run,
        permit: Option<BytePermit>,
    ) -> Vec<Place<Arc<DataBlock>>> {
        let blocks = self.clone();
        let keys = run.blocks.iter();
        let keys = keys.map(|block| (run.object, block.position)).collect();
        loads.begin(keys, |_teller| async move {
            let budget = &blocks.0.budget;
            let permit = match permit {
                Some(permit) => permit,
                None => {
                    let bytes = run.bytes().min(budget.limit());
                    let permit = budget.acquire(bytes).await;
                    permit.unwrap_or_else(|_never_too_large| BytePermit::empty())
                }
            };
            let loaded = blocks.read(&run).await;
            drop(permit);
            loaded
        })
    }

    /// Reads a run of blocks with one request. Each sound block is cached as soon as it is cut out.
    async fn read(&self, run: &Run) -> Loaded<Arc<DataBlock>> {
        let key = layout::object(run.object);
        let from = run.blocks.first().map_or(0, |block| block.position);
        let range = from..from + run.bytes();
        let got = self.0.storage.get(&key, range, IoClass::ColdRead);
        let turns = &self.0.turns;
        let turn_request = TurnRequest {
            line: Line::Serving,
            goes_on: false,
            object: run.object,
            bytes: run.bytes(),
        };
        let got = turns.take(turn_request, got, || ());
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
            // each block is copied, so that a cached block does not keep the memory of its neighbours
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
