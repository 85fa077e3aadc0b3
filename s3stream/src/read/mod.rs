//! Reads objects: directories and blocks go through bounded caches, and sequential readers are read ahead for.

mod blocks;
mod directories;
mod extent;
mod fixed_cache;
mod loads;
mod readahead;
mod turns;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use highwater_object_format::{BlockEntry, DataBlock, FormatError, StreamDirectory};
use highwater_object_storage::{ObjectKey, ObjectStorage};
use highwater_runtime::{TaskKind, Tasks};
use highwater_types::{ObjectId, StreamId, StreamOffset, StreamRange, Timestamp};

use self::blocks::{BlockLoad, Blocks};
use self::directories::{Directories, Part};
use self::extent::Extents;
use self::readahead::Readahead;
pub(crate) use self::turns::Line;
use self::turns::Turns;
use crate::{Claim, FetchLimit, StreamError, StreamMetadata};

/// The number of claims that a read looks at together, so that its cost does not grow with the claims that follow.
const CLAIMS_MAX: usize = 16;
/// How many directories are read at once if a read needs several.
const DIRECTORIES_AT_ONCE: usize = 4;

/// Reads data objects. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ObjectReader(Arc<Inner>);

struct Inner {
    directories: Directories,
    blocks: Blocks,
    readahead: Mutex<Readahead>,
    extents: Extents,
    tasks: Tasks,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ObjectReader")
    }
}

/// The blocks of one directory that a read needs.
struct Needed {
    /// The object of the directory. If it is an index object, the blocks lie in others (W9).
    object: ObjectId,
    /// The offsets that its claim accounts for.
    range: StreamRange,
    directory: Arc<StreamDirectory>,
    /// The indexes of the blocks.
    blocks: Range<usize>,
}

impl ObjectReader {
    pub(crate) fn new(storage: Arc<dyn ObjectStorage>, cache_bytes: u64, tasks: Tasks) -> Self {
        let for_directories = cache_bytes / 8;
        let for_blocks = cache_bytes - for_directories;
        let turns = Turns::new(cache_bytes);
        let blocks = Arc::clone(&storage);
        Self(Arc::new(Inner {
            blocks: Blocks::new(blocks, for_blocks, turns.clone(), tasks.clone()),
            directories: Directories::new(storage, for_directories, turns, &tasks),
            // three quarters of the bytes are for cached blocks, a third of these for blocks that were read already, so
            // that half of the bytes are left to read ahead
            readahead: Mutex::new(Readahead::new(for_blocks / 2)),
            extents: Extents::of_cache(for_blocks),
            tasks,
        }))
    }

    /// The bytes of cached blocks and directories, and of blocks that are being loaded.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.0.blocks.bytes() + self.0.directories.bytes()
    }

    fn readahead(&self) -> MutexGuard<'_, Readahead> {
        let readahead = self.0.readahead.lock();
        readahead.unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads whole batches from the one that holds `from` on, from objects alone.
    pub(crate) async fn read(
        &self,
        metadata: &dyn StreamMetadata,
        stream: StreamId,
        from: StreamOffset,
        limit: FetchLimit,
    ) -> Result<Vec<Bytes>, StreamError> {
        let window = self.readahead().window(stream, from);
        let end = limit.before.max(from + 1);
        let mut at = from;
        // claims may be without batches (U4): the read continues after them
        while at < end {
            let claims = metadata.locate(stream, at..end, CLAIMS_MAX).await?;
            if claims.first().is_none_or(|claim| claim.range.start > at) {
                // U6: the image does not include the claim yet
                let reason = format!("no claim holds offset {at} of stream {stream}");
                return Err(StreamError::Unavailable { reason });
            }
            let taken = self.take(stream, at, limit, &claims, window).await?;
            if let Some(next) = taken.next {
                self.readahead().served(stream, from, next);
                self.read_ahead(stream, next, window, claims);
                return Ok(taken.out);
            }
            if taken.is_full {
                break;
            }
            at = taken.looked_to;
        }
        Ok(Vec::new())
    }

    /// Reads the batches of some claims.
    async fn take(
        &self,
        stream: StreamId,
        from: StreamOffset,
        limit: FetchLimit,
        claims: &[Claim],
        window: u64,
    ) -> Result<Taken, StreamError> {
        let needed = self.needed(stream, from, limit, claims).await?;
        let last_needed = needed.last().map(|needed| needed.range.end);
        let last = claims.last().map(|claim| claim.range.end);
        let mut taken = Taken {
            looked_to: last_needed.or(last).unwrap_or(StreamOffset::MAX),
            ..Taken::default()
        };
        for (range, wanted) in self.begin(stream, &needed, window) {
            for block in wanted {
                taken.take(&*block.end().await?, from, range, limit);
                if taken.is_full {
                    return Ok(taken);
                }
            }
        }
        Ok(taken)
    }

    /// Finds the blocks that a read needs, by the directories.
    async fn needed(
        &self,
        stream: StreamId,
        from: StreamOffset,
        limit: FetchLimit,
        claims: &[Claim],
    ) -> Result<Vec<Needed>, StreamError> {
        let mut needed: Vec<Needed> = Vec::new();
        let mut bytes = 0;
        let mut is_full = false;
        // directories are read one by one up to the first with blocks, then a few at once
        let with_objects = claims
            .iter()
            .filter_map(|claim| Some((claim, claim.object?)));
        let (first, rest): (Vec<_>, Vec<_>) = with_objects.enumerate().partition(|(i, _)| *i == 0);
        let directory = |(_, (claim, object)): (usize, (&Claim, ObjectId))| {
            let (reader, range) = (self.clone(), claim.range.clone());
            let part = (stream, claim.leader_epoch);
            async move { (reader.directory(object, part).await, range, object) }
        };
        let first = futures::stream::iter(first).then(directory);
        let rest = futures::stream::iter(rest)
            .map(directory)
            .buffered(DIRECTORIES_AT_ONCE);
        let mut directories = std::pin::pin!(first.chain(rest));
        while let Some((directory, range, object)) = directories.next().await {
            let directory = directory?;
            let all = &directory.blocks;
            let after = from.max(range.start);
            let start = all.partition_point(|block| block.next <= after);
            let mut end = start;
            let within = |block: &BlockEntry| block.base < limit.before.min(range.end);
            while let Some(block) = all.get(end).filter(|block| within(block)) {
                // the read may begin inside the first block, so that the first block does not count
                is_full = bytes > limit.bytes;
                if is_full {
                    break;
                }
                if end > start || !needed.is_empty() {
                    bytes += usize::try_from(block.bytes).unwrap_or(usize::MAX);
                }
                end += 1;
            }
            if end > start {
                needed.push(Needed {
                    object,
                    range,
                    blocks: start..end,
                    directory,
                });
            }
            if is_full {
                break;
            }
        }
        Ok(needed)
    }

    /// Begins to load all missing blocks together, each run with the rest of its extent if a window is read ahead.
    fn begin<'a>(
        &self,
        stream: StreamId,
        needed: &'a [Needed],
        window: u64,
    ) -> Vec<(&'a StreamRange, Vec<BlockLoad>)> {
        let extents = self.0.extents.at_most(window / 2);
        let begin = |one: &'a Needed| (&one.range, self.begin_blocks(stream, one, extents));
        needed.iter().map(begin).collect()
    }

    /// Begins to load the missing blocks of one directory, from each object that holds some of them.
    fn begin_blocks(&self, stream: StreamId, one: &Needed, extents: Extents) -> Vec<BlockLoad> {
        let (directory, blocks) = (&one.directory, &self.0.blocks);
        let mut wanted = Vec::with_capacity(one.blocks.len());
        let mut at = one.blocks.start;
        while at < one.blocks.end {
            let (object, held) = directory.source(at, one.object);
            let needed = at..one.blocks.end.min(held.end);
            let mut end = needed.end;
            if blocks.lacks(object, &directory.blocks[needed.clone()]) {
                end = extent_end(extents, directory, &held, end.saturating_sub(1));
            }
            let loads = blocks.want(object, stream, &directory.blocks[at..end]);
            wanted.extend(loads.into_iter().take(needed.len()));
            at = needed.end;
        }
        wanted
    }

    /// Begins to load half a window ahead of a reader, in the background. The other half of the window is for the
    /// extents that are being loaded at the time.
    fn read_ahead(&self, stream: StreamId, next: StreamOffset, window: u64, claims: Vec<Claim>) {
        if window == 0 {
            return;
        }
        let reader = self.clone();
        self.0.tasks.spawn(TaskKind::Readahead, async move {
            // the read that needs the block reports the error
            if let Err(error) = reader.begin_ahead(stream, next, window / 2, claims).await {
                tracing::debug!(%error, "cannot read ahead");
            }
        });
    }

    /// Begins to load extents, until one is `window` bytes away or there is no room for it.
    async fn begin_ahead(
        &self,
        stream: StreamId,
        next: StreamOffset,
        window: u64,
        claims: Vec<Claim>,
    ) -> Result<(), StreamError> {
        let extents = self.0.extents.at_most(window);
        let mut bytes = 0;
        for claim in claims {
            let Some(object) = claim.object.filter(|_| claim.range.end > next) else {
                continue;
            };
            let part = (stream, claim.leader_epoch);
            let directory = self.directory(object, part).await?;
            let all = &directory.blocks;
            let after = next.max(claim.range.start);
            let mut at = all.partition_point(|block| block.next <= after);
            let until = all.partition_point(|block| block.base < claim.range.end);
            while at < until {
                let (source, held) = directory.source(at, object);
                let end = extent_end(extents, &directory, &held, at).min(until);
                if bytes > window || !self.0.blocks.read_ahead(source, stream, &all[at..end]) {
                    return Ok(());
                }
                bytes += all[at..end]
                    .iter()
                    .map(|block| u64::from(block.bytes))
                    .sum::<u64>();
                at = end;
            }
        }
        Ok(())
    }

    /// The base offset of the first batch that overlaps a range and whose largest timestamp is `at` or later.
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
                let part = (stream, claim.leader_epoch);
                let directory = self.directory(object, part).await?;
                let after = from.max(claim.range.start);
                let reach = |(_, entry): &(usize, &BlockEntry)| {
                    entry.max_timestamp >= at && entry.next > after
                };
                for (block, entry) in directory.blocks.iter().enumerate().filter(reach) {
                    let (source, _) = directory.source(block, object);
                    let entry = std::slice::from_ref(entry);
                    let wanted = self.0.blocks.want(source, stream, entry);
                    let Some(wanted) = wanted.into_iter().next() else {
                        continue;
                    };
                    let block = wanted.end().await?;
                    let found = block
                        .batches
                        .iter()
                        .find(|batch| batch.max_timestamp >= at && batch.next() > after);
                    if let Some(batch) = found {
                        return Ok(Some(batch.base));
                    }
                }
            }
            from = claim.range.end;
        }
        Ok(None)
    }

    /// The directory that an object has of one leadership of a stream.
    pub(crate) async fn directory(
        &self,
        object: ObjectId,
        part: Part,
    ) -> Result<Arc<StreamDirectory>, StreamError> {
        let line = Line::Serving;
        self.directory_for_opening(object, part, line, || ()).await
    }

    /// The same for the opening of a stream; `silent` is called if the store turns out not to answer (F4).
    pub(crate) async fn directory_for_opening(
        &self,
        object: ObjectId,
        part: Part,
        line: Line,
        silent: impl FnOnce(),
    ) -> Result<Arc<StreamDirectory>, StreamError> {
        let directories = &self.0.directories;
        directories.get(object, part, line, silent).await
    }
}

/// The end of the extent that holds a block. An extent is one request, and so within one object, which has the `held`
/// blocks of the directory.
fn extent_end(
    extents: Extents,
    directory: &StreamDirectory,
    held: &Range<usize>,
    block: usize,
) -> usize {
    let blocks = &directory.blocks[held.clone()];
    held.start + extents.end(blocks, block.saturating_sub(held.start))
}

fn of_format(key: &ObjectKey, error: &FormatError) -> StreamError {
    StreamError::Damaged {
        key: key.to_string(),
        reason: error.to_string(),
    }
}

/// The batches that a read has found so far.
#[derive(Default)]
struct Taken {
    out: Vec<Bytes>,
    bytes: usize,
    /// The offset after the last batch.
    next: Option<StreamOffset>,
    /// The end of the last claim that was read.
    looked_to: StreamOffset,
    /// Whether the next batch does not fit, or begins at or after the end of the read.
    is_full: bool,
}

impl Taken {
    /// Adds the batches of a block that are within a range, as one slice.
    fn take(
        &mut self,
        block: &DataBlock,
        from: StreamOffset,
        range: &StreamRange,
        limit: FetchLimit,
    ) {
        let mut at = 0;
        let mut slice = None;
        for batch in block
            .batches
            .iter()
            .take_while(|batch| batch.base < range.end)
        {
            let length = usize::try_from(batch.bytes).unwrap_or(usize::MAX);
            let end = at + length;
            if batch.next() > from && batch.base >= range.start {
                let fits = self.bytes + length <= limit.bytes;
                let first = self.out.is_empty() && slice.is_none() && limit.at_least_one;
                if batch.base >= limit.before || !(fits || first) {
                    self.is_full = true;
                    break;
                }
                self.bytes += length;
                self.next = Some(batch.next());
                slice = Some(slice.map_or(at..end, |taken: Range<usize>| taken.start..end));
            }
            at = end;
        }
        if let Some(slice) = slice {
            self.out.push(block.body.slice(slice));
        }
    }
}

#[cfg(test)]
mod tests;
