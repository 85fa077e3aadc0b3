//! Reading objects: directories and blocks through bounded caches, reading ahead of who goes on.

mod blocks;
mod directories;
mod fixed_cache;
mod readahead;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use highwater_object_format::{BlockEntry, DataBlock, FormatError, StreamDirectory};
use highwater_object_storage::{ObjectKey, ObjectStorage, StorageError};
use highwater_runtime::{TaskKind, Tasks};
use highwater_types::{ObjectId, StreamId, StreamOffset, StreamRange, Timestamp};

use self::blocks::{Blocks, Urgency};
use self::directories::Directories;
use self::readahead::Readahead;
use crate::{Claim, FetchLimit, StreamError, StreamMetadata};

/// Claims that are looked at for one read: what it costs does not grow with what lies behind.
const CLAIMS_MAX: usize = 16;
/// Directories that are read together, where a read needs several.
const DIRECTORIES_AT_ONCE: usize = 4;
/// The most that is read ahead of one reader.
const WINDOW_BYTES_MAX: u64 = 8 << 20;

/// Reads data objects. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ObjectReader(Arc<Inner>);

struct Inner {
    directories: Directories,
    blocks: Blocks,
    readahead: Mutex<Readahead>,
    tasks: Tasks,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ObjectReader")
    }
}

/// A block that a read needs, and the offsets that count of it.
struct Needed {
    object: ObjectId,
    block: BlockEntry,
    range: StreamRange,
}

impl ObjectReader {
    pub(crate) fn new(storage: Arc<dyn ObjectStorage>, cache_bytes: u64, tasks: Tasks) -> Self {
        let window = WINDOW_BYTES_MAX.min(cache_bytes / 8);
        let for_directories = cache_bytes / 8;
        Self(Arc::new(Inner {
            blocks: Blocks::new(
                Arc::clone(&storage),
                cache_bytes - for_directories,
                tasks.clone(),
            ),
            directories: Directories::new(storage, for_directories, tasks.clone()),
            readahead: Mutex::new(Readahead::new(usize::try_from(window).unwrap_or(0))),
            tasks,
        }))
    }

    /// Bytes of blocks and directories that are kept, and of blocks that are being loaded.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.0.blocks.bytes() + self.0.directories.bytes()
    }

    /// Whole batches from the one that holds `from`, out of objects alone.
    pub(crate) async fn read(
        &self,
        metadata: &dyn StreamMetadata,
        stream: StreamId,
        from: StreamOffset,
        limit: FetchLimit,
    ) -> Result<Vec<Bytes>, StreamError> {
        let range = from..limit.before.max(from + 1);
        let claims = metadata.locate(stream, range, CLAIMS_MAX).await?;
        if claims.first().is_none_or(|claim| claim.range.start > from) {
            // U6: the image does not know it yet
            let reason = format!("no claim holds offset {from} of stream {stream}");
            return Err(StreamError::Unavailable { reason });
        }
        let needed = self.needed(stream, from, limit, &claims).await?;
        self.begin(stream, &needed, Urgency::Awaited);
        let mut taken = Taken::default();
        for one in &needed {
            let block = self.0.blocks.get(one.object, stream, &one.block).await?;
            if !taken.take(&block, from, &one.range, limit) {
                break;
            }
        }
        let next = taken.next.unwrap_or(from);
        if next > from {
            self.read_ahead(stream, from, next, claims);
        }
        Ok(taken.out)
    }

    /// The blocks that a read touches, by what the directories say.
    async fn needed(
        &self,
        stream: StreamId,
        from: StreamOffset,
        limit: FetchLimit,
        claims: &[Claim],
    ) -> Result<Vec<Needed>, StreamError> {
        let mut needed: Vec<Needed> = Vec::new();
        let mut bytes = 0;
        // one after the other up to the first that counts, then a few at a time
        let with_objects = claims
            .iter()
            .filter_map(|claim| Some((claim, claim.object?)));
        let (first, rest): (Vec<_>, Vec<_>) = with_objects.enumerate().partition(|(i, _)| *i == 0);
        let directory = |(_, (claim, object)): (usize, (&Claim, ObjectId))| {
            let (reader, claim) = (self.clone(), claim.clone());
            async move { (reader.directory(object, stream).await, claim, object) }
        };
        let first = futures::stream::iter(first).then(directory);
        let rest = futures::stream::iter(rest)
            .map(directory)
            .buffered(DIRECTORIES_AT_ONCE);
        let mut directories = std::pin::pin!(first.chain(rest));
        while let Some((directory, claim, object)) = directories.next().await {
            let directory = directory?;
            for block in directory.blocks.iter().filter(|block| block.next > from) {
                let within = block.base < limit.before && block.base < claim.range.end;
                // the first may be used from its middle on, so it counts for nothing
                if !within || bytes > limit.bytes {
                    return Ok(needed);
                }
                if !needed.is_empty() {
                    bytes += usize::try_from(block.bytes).unwrap_or(usize::MAX);
                }
                needed.push(Needed {
                    object,
                    block: *block,
                    range: claim.range.clone(),
                });
            }
        }
        Ok(needed)
    }

    /// Begins to load all that is needed, together.
    fn begin(&self, stream: StreamId, needed: &[Needed], urgency: Urgency) {
        for of_object in needed.chunk_by(|a, b| a.object == b.object) {
            let blocks: Vec<BlockEntry> = of_object.iter().map(|one| one.block).collect();
            if let Some(first) = of_object.first() {
                self.0.blocks.begin(first.object, stream, &blocks, urgency);
            }
        }
    }

    /// Whether of what is to be read ahead less than half is there: so that it comes in large pieces.
    fn is_short(&self, needed: &[Needed], window: usize) -> bool {
        let known = needed
            .iter()
            .take_while(|one| self.0.blocks.knows(one.object, &one.block));
        let bytes: u64 = known.map(|one| u64::from(one.block.bytes)).sum();
        bytes < u64::try_from(window / 2).unwrap_or(u64::MAX)
    }

    /// Reads ahead of who goes on where he left off, in the background.
    fn read_ahead(
        &self,
        stream: StreamId,
        from: StreamOffset,
        next: StreamOffset,
        claims: Vec<Claim>,
    ) {
        let window = {
            let mut readahead = self
                .0
                .readahead
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            readahead.served(stream, from, next)
        };
        if window == 0 {
            return;
        }
        let reader = self.clone();
        self.0.tasks.spawn(TaskKind::Readahead, async move {
            let limit = FetchLimit {
                bytes: window,
                before: StreamOffset::MAX,
                at_least_one: true,
            };
            let ahead: Vec<Claim> = claims
                .into_iter()
                .filter(|claim| claim.range.end > next)
                .collect();
            match reader.needed(stream, next, limit, &ahead).await {
                Ok(needed) if reader.is_short(&needed, window) => {
                    reader.begin(stream, &needed, Urgency::Ahead);
                }
                Ok(_) => {}
                // whoever needs it will say so
                Err(error) => tracing::debug!(%error, "cannot read ahead"),
            }
        });
    }

    /// The base offset of the first batch in a range whose largest timestamp reaches `at`.
    pub(crate) async fn first_at(
        &self,
        metadata: &dyn StreamMetadata,
        stream: StreamId,
        range: StreamRange,
        at: Timestamp,
    ) -> Result<Option<StreamOffset>, StreamError> {
        let mut from = range.start;
        while from < range.end {
            let claim = metadata.locate_time(stream, from..range.end, at).await?;
            let Some(claim) = claim else { return Ok(None) };
            if let Some(object) = claim.object {
                let directory = self.directory(object, stream).await?;
                let reach =
                    |entry: &&BlockEntry| entry.max_timestamp >= at && entry.next > range.start;
                for entry in directory.blocks.iter().filter(reach) {
                    let block = self.0.blocks.get(object, stream, entry).await?;
                    let found = block
                        .batches
                        .iter()
                        .find(|batch| batch.max_timestamp >= at && batch.next() > range.start);
                    if let Some(batch) = found {
                        return Ok(Some(batch.base));
                    }
                }
            }
            from = claim.range.end;
        }
        Ok(None)
    }

    /// What an object says of a stream.
    pub(crate) async fn directory(
        &self,
        object: ObjectId,
        stream: StreamId,
    ) -> Result<Arc<StreamDirectory>, StreamError> {
        self.0.directories.get(object, stream).await
    }
}

fn of_format(key: &ObjectKey, error: &FormatError) -> StreamError {
    StreamError::Damaged {
        key: key.to_string(),
        reason: error.to_string(),
    }
}

/// The same error for another who waited.
fn same(error: &StreamError) -> StreamError {
    match error {
        StreamError::Damaged { key, reason } => StreamError::Damaged {
            key: key.clone(),
            reason: reason.clone(),
        },
        StreamError::Storage(StorageError::NotFound { key }) => {
            StreamError::Storage(StorageError::NotFound { key: key.clone() })
        }
        other => StreamError::Unavailable {
            reason: chain(other),
        },
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// What a read has so far.
#[derive(Default)]
struct Taken {
    out: Vec<Bytes>,
    bytes: usize,
    /// Just after the last batch taken.
    next: Option<StreamOffset>,
}

impl Taken {
    /// Adds what a block has of a range as one slice; false when there is no room for more.
    fn take(
        &mut self,
        block: &DataBlock,
        from: StreamOffset,
        range: &StreamRange,
        limit: FetchLimit,
    ) -> bool {
        let mut at = 0;
        let mut slice = None;
        let mut whole = true;
        for batch in &block.batches {
            let length = usize::try_from(batch.bytes).unwrap_or(usize::MAX);
            let end = at + length;
            if batch.next() > from && batch.base >= range.start.min(from) {
                let fits = self.bytes + length <= limit.bytes;
                let first = self.out.is_empty() && slice.is_none() && limit.at_least_one;
                if batch.base >= limit.before || batch.base >= range.end || !(fits || first) {
                    whole = false;
                    break;
                }
                self.bytes += length;
                self.next = Some(batch.next());
                slice =
                    Some(slice.map_or(at..end, |taken: std::ops::Range<usize>| taken.start..end));
            }
            at = end;
        }
        if let Some(slice) = slice {
            self.out.push(block.body.slice(slice));
        }
        whole
    }
}

/// The claims whose directories must be read to open a stream after its checkpoint (F4).
pub(crate) fn after_checkpoint(claims: Vec<Claim>, checkpoint: StreamOffset) -> Vec<Claim> {
    claims
        .into_iter()
        .filter(|claim| claim.range.end > checkpoint)
        .collect()
}
