//! What objects say of streams, through a cache. A load belongs to the cache: see [`super::loads`].

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use highwater_object_format::{BlockEntry, Footer, FormatError, RollPart, StreamDirectory};
use highwater_object_storage::{IoClass, ObjectKey, ObjectStorage, layout};
use highwater_runtime::Tasks;
use highwater_types::{LeaderEpoch, ObjectId, StreamId};
use quick_cache::{UnitWeighter, Weighter};

use super::fixed_cache::{FixedCache, fixed_cache, fixed_queue};
use super::loads::{Load, Loads, Teller};
use super::of_format;
use super::turns::{Line, Turns};
use crate::StreamError;

/// The first read of an object: its footer and index, and in a small object everything.
const SUFFIX_BYTES: u64 = 64 << 10;
/// About what a directory takes.
const DIRECTORY_BYTES: u64 = 4 << 10;
/// Ends of objects that are kept: who reads several streams of an object one beside the other asks for its end once.
const TAILS_MAX: usize = 32;

/// One leadership of a stream: what an object has a part of.
pub(crate) type Part = (StreamId, LeaderEpoch);
type Key = (ObjectId, Part);
type Telling = Teller<Arc<StreamDirectory>>;

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Key, Arc<StreamDirectory>> for ByBytes {
    fn weight(&self, _key: &Key, directory: &Arc<StreamDirectory>) -> u64 {
        let entries = directory.entries.iter().map(|(_, entry)| entry.len() + 48);
        let deltas = directory.deltas.iter().map(|(_, delta)| delta.len() + 48);
        let checkpoint = directory.checkpoint.as_ref().map_or(0, Bytes::len);
        let lists = directory.blocks.len() * size_of::<BlockEntry>()
            + directory.rolls.len() * size_of::<RollPart>()
            + directory.leader_epochs.len() * 16;
        (entries.sum::<usize>() + deltas.sum::<usize>() + checkpoint + lists + 512) as u64
    }
}

struct Inner {
    storage: Arc<dyn ObjectStorage>,
    cache: FixedCache<Key, Arc<StreamDirectory>, ByBytes>,
    loads: Loads<Key, Arc<StreamDirectory>>,
    tails: FixedCache<ObjectId, Arc<Known>, UnitWeighter>,
    tail_loads: Loads<ObjectId, Arc<Known>>,
    turns: Turns,
}

/// The directories of a node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Directories(Arc<Inner>);

impl Directories {
    /// Keeps about `bytes` of them.
    pub(super) fn new(
        storage: Arc<dyn ObjectStorage>,
        bytes: u64,
        turns: Turns,
        tasks: &Tasks,
    ) -> Self {
        let bytes = bytes.saturating_sub(TAILS_MAX as u64 * SUFFIX_BYTES);
        let expected = usize::try_from(bytes / DIRECTORY_BYTES).unwrap_or(1024);
        Self(Arc::new(Inner {
            storage,
            cache: fixed_cache(expected.max(16), bytes, ByBytes),
            loads: Loads::new(tasks.clone()),
            tails: fixed_queue(TAILS_MAX, TAILS_MAX as u64, UnitWeighter),
            tail_loads: Loads::new(tasks.clone()),
            turns,
        }))
    }

    /// Bytes that are kept, at most.
    pub(super) fn bytes(&self) -> u64 {
        self.0.cache.weight() + self.0.tails.len() as u64 * SUFFIX_BYTES
    }

    /// One directory, loaded where need be by requests that wait in a line; `silent` is called when it is known that the
    /// store does not answer. Cancellation safe: a load goes on.
    pub(super) async fn get(
        &self,
        object: ObjectId,
        part: Part,
        line: Line,
        silent: impl FnOnce(),
    ) -> Result<Arc<StreamDirectory>, StreamError> {
        let (inner, key) = (&self.0, (object, part));
        let mut load = inner.loads.get(
            key,
            || inner.cache.get(&key),
            |tell| {
                let directories = self.clone();
                async move {
                    let found = directories.read(key, line, tell).await?;
                    directories.0.cache.insert(key, Arc::clone(&found));
                    Ok(found)
                }
            },
        );
        if load.is_silent().await {
            silent();
        }
        load.end().await
    }

    async fn read(
        &self,
        (object, (stream, epoch)): Key,
        line: Line,
        tell: Telling,
    ) -> Result<Arc<StreamDirectory>, StreamError> {
        let key = layout::object(object);
        let mut tail = self.tail(object, line);
        if tail.is_silent().await {
            tell.silent();
        }
        let known = tail.end().await?;
        let damaged = |error: FormatError| of_format(&key, &error);
        let footer = Footer::parse(&known.suffix).map_err(damaged)?;
        let index = footer.position..footer.position.saturating_add(footer.bytes.into());
        let index = self.part(&key, &known, index, line, &tell).await?;
        let found = Footer::find(&index, stream, epoch).map_err(damaged)?;
        let missing = FormatError::Mismatch {
            part: "object index",
        };
        let found = found.ok_or_else(|| of_format(&key, &missing))?;
        let directory = found.position..found.position.saturating_add(found.bytes.into());
        let directory = self.part(&key, &known, directory, line, &tell).await?;
        // of its own memory, so that what is kept does not keep the whole suffix
        let directory = Bytes::copy_from_slice(&directory);
        Ok(Arc::new(
            StreamDirectory::parse(&directory).map_err(damaged)?,
        ))
    }

    /// The end of an object: who reads several streams of it one beside the other waits for the same.
    fn tail(&self, object: ObjectId, line: Line) -> Load<Arc<Known>> {
        let inner = &self.0;
        inner.tail_loads.get(
            object,
            || inner.tails.get(&object),
            |tell| {
                let inner = Arc::clone(inner);
                async move {
                    let key = layout::object(object);
                    let storage = &inner.storage;
                    let tail = storage.get_suffix(&key, SUFFIX_BYTES, IoClass::ColdRead);
                    let turns = &inner.turns;
                    let tail = turns.take((line, false), SUFFIX_BYTES, tail, || tell.silent());
                    let (suffix, length) = tail.await.map_err(StreamError::Storage)?;
                    let known = Arc::new(Known {
                        suffix,
                        from: length.saturating_sub(SUFFIX_BYTES),
                        length,
                    });
                    inner.tails.insert(object, Arc::clone(&known));
                    Ok(known)
                }
            },
        )
    }

    async fn part(
        &self,
        key: &ObjectKey,
        known: &Known,
        range: Range<u64>,
        line: Line,
        tell: &Telling,
    ) -> Result<Bytes, StreamError> {
        if range.end > known.length {
            return Err(of_format(
                key,
                &FormatError::Truncated {
                    part: "object index",
                },
            ));
        }
        if range.start >= known.from {
            let at = |position: u64| usize::try_from(position - known.from).unwrap_or(usize::MAX);
            return Ok(known.suffix.slice(at(range.start)..at(range.end)));
        }
        let bytes = range.end - range.start;
        let got = self.0.storage.get(key, range, IoClass::ColdRead);
        let turns = &self.0.turns;
        let got = turns.take((line, true), bytes, got, || tell.silent());
        got.await.map_err(StreamError::Storage)
    }
}

struct Known {
    suffix: Bytes,
    from: u64,
    length: u64,
}
