//! Reading objects: indexes and blocks through bounded caches; concurrent readers of one block share one GET.

use std::sync::Arc;

use bytes::Bytes;
use highwater_object_format::{BlockEntry, DataBlock, Footer, FormatError, StreamDirectory};
use highwater_object_storage::{IoClass, ObjectKey, ObjectStorage, layout};
use highwater_types::{ObjectId, StreamId, StreamOffset, StreamRange, Timestamp};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::{Claim, FetchLimit, StreamError, StreamMetadata};

/// The first read of an object: its footer and index, and in a small object everything.
const SUFFIX_BYTES: u64 = 64 << 10;
const DIRECTORIES_MAX: usize = 4096;

type BlockKey = (ObjectId, u64);

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<BlockKey, Arc<DataBlock>> for ByBytes {
    fn weight(&self, _key: &BlockKey, block: &Arc<DataBlock>) -> u64 {
        block.body.len() as u64 + block.batches.len() as u64 * 24
    }
}

/// Reads data objects.
pub(crate) struct ObjectReader {
    storage: Arc<dyn ObjectStorage>,
    directories: Cache<(ObjectId, StreamId), Arc<StreamDirectory>>,
    blocks: Cache<BlockKey, Arc<DataBlock>, ByBytes>,
}

impl std::fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ObjectReader")
    }
}

impl ObjectReader {
    pub(crate) fn new(storage: Arc<dyn ObjectStorage>, block_cache_bytes: u64) -> Self {
        let blocks_expected = usize::try_from(block_cache_bytes >> 19)
            .unwrap_or(1024)
            .max(16);
        Self {
            storage,
            directories: Cache::new(DIRECTORIES_MAX),
            blocks: Cache::with_weighter(blocks_expected, block_cache_bytes, ByBytes),
        }
    }

    /// Whole batches from the one that holds `from`, out of objects alone.
    pub(crate) async fn read(
        &self,
        metadata: &dyn StreamMetadata,
        stream: StreamId,
        from: StreamOffset,
        limit: FetchLimit,
    ) -> Result<Vec<Bytes>, StreamError> {
        let mut out = Vec::new();
        let mut bytes = 0;
        let claims = metadata
            .locate(stream, from..limit.before.max(from + 1))
            .await?;
        if claims.first().is_none_or(|claim| claim.range.start > from) {
            // U6: the image does not know it yet
            let reason = format!("no claim holds offset {from} of stream {stream}");
            return Err(StreamError::Unavailable { reason });
        }
        for claim in claims {
            let Some(object) = claim.object else { continue };
            let directory = self.directory(object, stream).await?;
            for entry in directory.blocks.iter().filter(|entry| entry.next > from) {
                let within = entry.base < limit.before && entry.base < claim.range.end;
                let room = bytes < limit.bytes || (out.is_empty() && limit.at_least_one);
                if !within || !room {
                    return Ok(out);
                }
                let block = self.block(object, stream, entry).await?;
                if !take(&block, from, &claim.range, limit, &mut out, &mut bytes) {
                    return Ok(out);
                }
            }
        }
        Ok(out)
    }

    /// The base offset of the first batch in a range whose largest timestamp reaches `at`.
    pub(crate) async fn first_at(
        &self,
        metadata: &dyn StreamMetadata,
        stream: StreamId,
        range: StreamRange,
        at: Timestamp,
    ) -> Result<Option<StreamOffset>, StreamError> {
        if range.is_empty() {
            return Ok(None);
        }
        let claims = metadata.locate(stream, range.clone()).await?;
        for claim in claims.iter().filter(|claim| claim.max_timestamp >= at) {
            let Some(object) = claim.object else { continue };
            let directory = self.directory(object, stream).await?;
            let reach = |entry: &&BlockEntry| entry.max_timestamp >= at && entry.next > range.start;
            for entry in directory.blocks.iter().filter(reach) {
                let block = self.block(object, stream, entry).await?;
                let found = block
                    .batches
                    .iter()
                    .find(|batch| batch.max_timestamp >= at && batch.next() > range.start);
                if let Some(batch) = found {
                    return Ok(Some(batch.base));
                }
            }
        }
        Ok(None)
    }

    /// What an object says of a stream.
    pub(crate) async fn directory(
        &self,
        object: ObjectId,
        stream: StreamId,
    ) -> Result<Arc<StreamDirectory>, StreamError> {
        let read = self.read_directory(object, stream);
        self.directories
            .get_or_insert_async(&(object, stream), read)
            .await
    }

    async fn read_directory(
        &self,
        object: ObjectId,
        stream: StreamId,
    ) -> Result<Arc<StreamDirectory>, StreamError> {
        let key = layout::data_object(object);
        let suffix = self
            .storage
            .get_suffix(&key, SUFFIX_BYTES, IoClass::ColdRead)
            .await;
        let (suffix, length) = suffix.map_err(StreamError::Storage)?;
        let damaged = |error: FormatError| of_format(&key, &error);
        let footer = Footer::parse(&suffix).map_err(damaged)?;
        let known = Known {
            suffix,
            from: length.saturating_sub(SUFFIX_BYTES),
            length,
        };
        let index = self
            .part(&key, &known, footer.position, footer.bytes)
            .await?;
        let found = Footer::find(&index, stream).map_err(damaged)?;
        let missing = FormatError::Mismatch {
            part: "object index",
        };
        let (position, bytes) = found.ok_or_else(|| of_format(&key, &missing))?;
        let directory = self.part(&key, &known, position, bytes).await?;
        Ok(Arc::new(
            StreamDirectory::parse(&directory).map_err(damaged)?,
        ))
    }

    async fn part(
        &self,
        key: &ObjectKey,
        known: &Known,
        position: u64,
        bytes: u32,
    ) -> Result<Bytes, StreamError> {
        let end = position.saturating_add(bytes.into());
        if end > known.length {
            return Err(of_format(
                key,
                &FormatError::Truncated {
                    part: "object index",
                },
            ));
        }
        if position >= known.from {
            let at = |position: u64| usize::try_from(position - known.from).unwrap_or(usize::MAX);
            return Ok(known.suffix.slice(at(position)..at(end)));
        }
        let got = self
            .storage
            .get(key, position..end, IoClass::ColdRead)
            .await;
        got.map_err(StreamError::Storage)
    }

    async fn block(
        &self,
        object: ObjectId,
        stream: StreamId,
        entry: &BlockEntry,
    ) -> Result<Arc<DataBlock>, StreamError> {
        let read = async {
            let key = layout::data_object(object);
            let range = entry.position..entry.position + u64::from(entry.bytes);
            let got = self.storage.get(&key, range, IoClass::ColdRead).await;
            let bytes = got.map_err(StreamError::Storage)?;
            let block = DataBlock::parse(&bytes, stream, entry);
            block.map(Arc::new).map_err(|error| of_format(&key, &error))
        };
        self.blocks
            .get_or_insert_async(&(object, entry.position), read)
            .await
    }
}

struct Known {
    suffix: Bytes,
    from: u64,
    length: u64,
}

fn of_format(key: &ObjectKey, error: &FormatError) -> StreamError {
    StreamError::Damaged {
        key: key.to_string(),
        reason: error.to_string(),
    }
}

/// Adds what a block has of a range as one slice; false when there is no room for more.
fn take(
    block: &DataBlock,
    from: StreamOffset,
    range: &StreamRange,
    limit: FetchLimit,
    out: &mut Vec<Bytes>,
    bytes: &mut usize,
) -> bool {
    let mut at = 0;
    let mut slice = None;
    let mut whole = true;
    for batch in &block.batches {
        let length = usize::try_from(batch.bytes).unwrap_or(usize::MAX);
        let end = at + length;
        if batch.next() > from && batch.base >= range.start.min(from) {
            let fits = *bytes + length <= limit.bytes;
            let first = out.is_empty() && slice.is_none() && limit.at_least_one;
            if batch.base >= limit.before || batch.base >= range.end || !(fits || first) {
                whole = false;
                break;
            }
            *bytes += length;
            slice = Some(slice.map_or(at..end, |taken: std::ops::Range<usize>| taken.start..end));
        }
        at = end;
    }
    if let Some(slice) = slice {
        out.push(block.body.slice(slice));
    }
    whole
}

/// The claims whose directories must be read to open a stream after its checkpoint (F4).
pub(crate) fn after_checkpoint(claims: Vec<Claim>, checkpoint: StreamOffset) -> Vec<Claim> {
    claims
        .into_iter()
        .filter(|claim| claim.range.end > checkpoint)
        .collect()
}
