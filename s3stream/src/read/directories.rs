//! A cache of objects' directories, each of which describes the data of one stream in an object. See [`super::loads`]
//! for loading.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use highwater_object_format::{
    BlockEntry, BlockSource, Footer, FormatError, RollPart, StreamDirectory,
};
use highwater_object_storage::{IoClass, ObjectStorage, layout};
use highwater_runtime::Tasks;
use highwater_types::{LeaderEpoch, ObjectId, ObjectKind, StreamId};
use quick_cache::Weighter;

use super::fixed_cache::{FixedCache, fixed_cache, fixed_queue};
use super::loads::{Load, Loads, Teller};
use super::of_format;
use super::turns::{Line, TurnRequest, Turns};
use crate::StreamError;

/// The size of the first read of an object: it covers the footer and the index, and all of a small object.
const SUFFIX_BYTES: u64 = 64 << 10;
/// The same for an index object. It has nothing but directories, and a node that has taken over a sealed range opens all
/// streams in it at the same time (W9).
const INDEX_SUFFIX_BYTES: u64 = 1 << 20;
/// The usual size of a directory in bytes.
const DIRECTORY_BYTES: u64 = 4 << 10;
/// About how many ends of objects are cached, so that an end is requested once if several streams of its object are
/// read at the same time.
const ENDS: usize = 32;
const ENDS_BYTES: u64 = ENDS as u64 * SUFFIX_BYTES;

/// A leadership of a stream: an object has a part for each.
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
            + directory.sources.len() * size_of::<BlockSource>()
            + directory.rolls.len() * size_of::<RollPart>()
            + directory.leader_epochs.len() * 16;
        (entries.sum::<usize>() + deltas.sum::<usize>() + checkpoint + lists + 512) as u64
    }
}

struct Inner {
    storage: Arc<dyn ObjectStorage>,
    cache: FixedCache<Key, Arc<StreamDirectory>, ByBytes>,
    loads: Loads<Key, Arc<StreamDirectory>>,
    ends: FixedCache<ObjectId, Arc<End>, EndBytes>,
    end_loads: Loads<ObjectId, Arc<End>>,
    turns: Turns,
}

/// The directories of a node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Directories(Arc<Inner>);

impl Directories {
    /// Caches about `bytes` of directories.
    pub(super) fn new(
        storage: Arc<dyn ObjectStorage>,
        bytes: u64,
        turns: Turns,
        tasks: &Tasks,
    ) -> Self {
        let bytes = bytes.saturating_sub(ENDS_BYTES);
        let expected = usize::try_from(bytes / DIRECTORY_BYTES).unwrap_or(1024);
        Self(Arc::new(Inner {
            storage,
            cache: fixed_cache(expected.max(16), bytes, ByBytes),
            loads: Loads::new(tasks.clone()),
            ends: fixed_queue(ENDS, ENDS_BYTES, EndBytes),
            end_loads: Loads::new(tasks.clone()),
            turns,
        }))
    }

    /// The bytes of the cache, at most.
    pub(super) fn bytes(&self) -> u64 {
        self.0.cache.weight() + self.0.ends.weight()
    }

    /// Returns one directory and loads it if necessary, by requests that wait in a line. `silent` is called when the
    /// store turns out not to answer. Cancellation safe: a load continues.
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
        let mut end = self.end(object, line);
        if end.is_silent().await {
            tell.silent();
        }
        let end = end.end().await?;
        let damaged = |error: FormatError| of_format(&key, &error);
        let found = Footer::find(&end.index, stream, epoch).map_err(damaged)?;
        let missing = FormatError::Mismatch {
            part: "object index",
        };
        let found = found.ok_or_else(|| of_format(&key, &missing))?;
        let directory = found.position..found.position.saturating_add(found.bytes.into());
        let directory = self
            .0
            .part(object, &end.suffix, directory, line, || tell.silent());
        // copied, so that a cached directory does not keep the memory of the whole suffix
        let directory = Bytes::copy_from_slice(&directory.await?);
        Ok(Arc::new(
            StreamDirectory::parse(&directory).map_err(damaged)?,
        ))
    }

    /// The end of an object. Reads of several of its streams at the same time wait for the same load.
    fn end(&self, object: ObjectId, line: Line) -> Load<Arc<End>> {
        let inner = &self.0;
        inner.end_loads.get(
            object,
            || inner.ends.get(&object),
            |tell| {
                let inner = Arc::clone(inner);
                async move {
                    let end = Arc::new(inner.load_end(object, line, &tell).await?);
                    inner.ends.insert(object, Arc::clone(&end));
                    Ok(end)
                }
            },
        )
    }
}

impl Inner {
    async fn load_end(
        &self,
        object: ObjectId,
        line: Line,
        tell: &Teller<Arc<End>>,
    ) -> Result<End, StreamError> {
        let key = layout::object(object);
        let suffix_bytes = match object.kind {
            ObjectKind::Index => INDEX_SUFFIX_BYTES,
            ObjectKind::Upload | ObjectKind::Rewrite | ObjectKind::Wal => SUFFIX_BYTES,
        };
        let suffix = self
            .storage
            .get_suffix(&key, suffix_bytes, IoClass::ColdRead);
        let turn_request = TurnRequest {
            line,
            goes_on: false,
            object,
            bytes: suffix_bytes,
        };
        let suffix = self.turns.take(turn_request, suffix, || tell.silent());
        let (bytes, length) = suffix.await.map_err(StreamError::Storage)?;
        let footer = Footer::parse(&bytes).map_err(|error| of_format(&key, &error))?;
        let suffix = Suffix {
            bytes,
            from: length.saturating_sub(suffix_bytes),
            length,
        };
        let index = footer.position..footer.position.saturating_add(footer.bytes.into());
        let index = self.part(object, &suffix, index, line, || tell.silent());
        let index = index.await?;
        Ok(End { suffix, index })
    }

    /// A part of an object, from the suffix if that has it, or else by a request.
    async fn part(
        &self,
        object: ObjectId,
        suffix: &Suffix,
        range: Range<u64>,
        line: Line,
        silent: impl FnOnce(),
    ) -> Result<Bytes, StreamError> {
        let key = layout::object(object);
        if range.end > suffix.length {
            let part = "object index";
            return Err(of_format(&key, &FormatError::Truncated { part }));
        }
        if range.start >= suffix.from {
            let at = |position: u64| usize::try_from(position - suffix.from).unwrap_or(usize::MAX);
            return Ok(suffix.bytes.slice(at(range.start)..at(range.end)));
        }
        let turn_request = TurnRequest {
            line,
            goes_on: true,
            object,
            bytes: range.end - range.start,
        };
        let got = self.storage.get(&key, range, IoClass::ColdRead);
        let got = self.turns.take(turn_request, got, silent);
        got.await.map_err(StreamError::Storage)
    }
}

/// The last bytes of an object.
struct Suffix {
    bytes: Bytes,
    from: u64,
    length: u64,
}

/// The end of an object, read once for all its streams.
struct End {
    suffix: Suffix,
    /// The index; it is a slice of the suffix if that contains all of it.
    index: Bytes,
}

#[derive(Debug, Clone)]
struct EndBytes;

impl Weighter<ObjectId, Arc<End>> for EndBytes {
    fn weight(&self, _object: &ObjectId, end: &Arc<End>) -> u64 {
        (end.suffix.bytes.len() + end.index.len()) as u64
    }
}
