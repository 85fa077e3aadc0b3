//! Directories: the description of one stream's part of an object.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use highwater_types::{
    LeaderEpoch, NodeEpoch, NodeId, ObjectId, ObjectKind, StreamId, StreamOffset, StreamRange,
    Timestamp,
};

use crate::{BatchEntry, BlockEntry, FormatError};

const PART: &str = "stream directory";

/// The share of one roll that lies in a stream's part of an object (F6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollPart {
    /// The base offset of its first batch.
    pub base: StreamOffset,
    /// Whether the roll begins with that batch; if not, it began before this object.
    pub begins: bool,
    /// The bytes of its batches.
    pub bytes: u64,
    /// The largest timestamp of its batches, or -1.
    pub max_timestamp: Timestamp,
    /// The largest timestamp of its first batch, or -1.
    pub first_timestamp: Timestamp,
    /// When its first batch was appended, by the broker's clock.
    pub first_append: Timestamp,
    /// When its last batch was appended.
    pub last_append: Timestamp,
}

impl RollPart {
    /// The share that consists of one batch.
    #[must_use]
    pub fn from_batch(batch: &BatchEntry, append_time: Timestamp, begins: bool) -> Self {
        Self {
            base: batch.base,
            begins,
            bytes: batch.bytes.into(),
            max_timestamp: batch.max_timestamp,
            first_timestamp: batch.max_timestamp,
            first_append: append_time,
            last_append: append_time,
        }
    }

    /// Extends the share by the one that follows it.
    pub fn join(&mut self, next: &Self) {
        self.bytes = self.bytes.saturating_add(next.bytes);
        self.max_timestamp = self.max_timestamp.max(next.max_timestamp);
        self.last_append = next.last_append;
    }
}

/// An object that holds some of the blocks which a directory in another object lists (W9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSource {
    /// The object.
    pub object: ObjectId,
    /// The index of the first block that it holds. Its blocks end where those of the next source begin.
    pub first_block: usize,
}

/// The description of a stream's part of an object: everything in the part except its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamDirectory {
    /// The stream.
    pub stream: StreamId,
    /// The topic id and the partition; opaque here.
    pub label: Bytes,
    /// The offsets that the part accounts for.
    pub range: StreamRange,
    /// The leader epoch that wrote its batches.
    pub leader_epoch: LeaderEpoch,
    /// The first offset of the oldest transaction that is open at its end (F3).
    pub open_from: Option<StreamOffset>,
    /// The largest timestamp of its batches, or -1.
    pub max_timestamp: Timestamp,
    /// Its blocks, in order.
    pub blocks: Vec<BlockEntry>,
    /// The objects that hold the blocks, in order. The list is empty if the blocks lie in the object of the directory.
    pub sources: Vec<BlockSource>,
    /// The leader epochs that the writer knew, each with its first offset (F7).
    pub leader_epochs: Vec<(LeaderEpoch, StreamOffset)>,
    /// Its rolls, in order.
    pub rolls: Vec<RollPart>,
    /// The delta of each batch that has one (F1).
    pub deltas: Vec<(StreamRange, Bytes)>,
    /// The entries, each with the offset of its marker (F3).
    pub entries: Vec<(StreamOffset, Bytes)>,
    /// The state that is folded up to exactly the end of the range (F2).
    pub checkpoint: Option<Bytes>,
}

impl StreamDirectory {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u64(self.stream.0);
        put_bytes(&mut out, &self.label);
        out.put_i64(self.range.start);
        out.put_i64(self.range.end);
        out.put_i32(self.leader_epoch.0);
        out.put_i64(self.open_from.unwrap_or(-1));
        out.put_i64(self.max_timestamp);
        put_count(&mut out, self.blocks.len());
        for block in &self.blocks {
            out.put_u64(block.position);
            out.put_u32(block.bytes);
            out.put_i64(block.base);
            out.put_i64(block.next);
            out.put_i64(block.max_timestamp);
        }
        put_count(&mut out, self.sources.len());
        for source in &self.sources {
            put_count(&mut out, source.first_block);
            out.put_i32(source.object.node.0);
            out.put_u64(source.object.epoch.0);
            out.put_u8(source.object.kind.number());
            out.put_u64(source.object.number);
        }
        put_count(&mut out, self.leader_epochs.len());
        for (epoch, first) in &self.leader_epochs {
            out.put_i32(epoch.0);
            out.put_i64(*first);
        }
        put_count(&mut out, self.rolls.len());
        for roll in &self.rolls {
            out.put_i64(roll.base);
            out.put_u8(roll.begins.into());
            out.put_u64(roll.bytes);
            out.put_i64(roll.max_timestamp);
            out.put_i64(roll.first_timestamp);
            out.put_i64(roll.first_append);
            out.put_i64(roll.last_append);
        }
        put_count(&mut out, self.deltas.len());
        for (range, delta) in &self.deltas {
            out.put_i64(range.start);
            put_count(
                &mut out,
                usize::try_from(range.end - range.start).unwrap_or(usize::MAX),
            );
            put_bytes(&mut out, delta);
        }
        put_count(&mut out, self.entries.len());
        for (at, entry) in &self.entries {
            out.put_i64(*at);
            put_bytes(&mut out, entry);
        }
        out.put_u8(u8::from(self.checkpoint.is_some()));
        put_bytes(&mut out, self.checkpoint.as_deref().unwrap_or_default());
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        out.freeze()
    }

    /// Decodes a directory and verifies all of it.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn parse(bytes: &Bytes) -> Result<Self, FormatError> {
        let mut r = Fields {
            buf: checked(bytes, PART)?,
            part: PART,
        };
        let stream = StreamId(r.u64()?);
        let label = r.bytes()?;
        let range = r.i64()?..r.i64()?;
        let leader_epoch = LeaderEpoch(r.i32()?);
        let open_from = Some(r.i64()?).filter(|offset| *offset >= 0);
        let max_timestamp = r.i64()?;
        let blocks = r.list(36, |r| {
            Ok(BlockEntry {
                position: r.u64()?,
                bytes: r.u32()?,
                base: r.i64()?,
                next: r.i64()?,
                max_timestamp: r.i64()?,
            })
        })?;
        let sources = r.list(25, Fields::source)?;
        let leader_epochs = r.list(12, |r| Ok((LeaderEpoch(r.i32()?), r.i64()?)))?;
        let rolls = r.list(49, |r| {
            Ok(RollPart {
                base: r.i64()?,
                begins: r.u8()? != 0,
                bytes: r.u64()?,
                max_timestamp: r.i64()?,
                first_timestamp: r.i64()?,
                first_append: r.i64()?,
                last_append: r.i64()?,
            })
        })?;
        let deltas = r.list(16, |r| {
            let base = r.i64()?;
            let end = base.saturating_add(r.u32()?.into());
            Ok((base..end, r.bytes()?))
        })?;
        let entries = r.list(12, |r| Ok((r.i64()?, r.bytes()?)))?;
        let has_checkpoint = r.u8()? != 0;
        let checkpoint = Some(r.bytes()?).filter(|_| has_checkpoint);
        r.finish()?;
        check_sources(&sources, blocks.len())?;
        check_blocks(&range, &blocks, &sources)?;
        Ok(Self {
            stream,
            label,
            range,
            leader_epoch,
            open_from,
            max_timestamp,
            blocks,
            sources,
            leader_epochs,
            rolls,
            deltas,
            entries,
            checkpoint,
        })
    }

    /// The object that holds a block, and the indexes of all blocks of this directory that the object holds. `own` is
    /// the object of the directory itself.
    #[must_use]
    pub fn source(&self, block: usize, own: ObjectId) -> (ObjectId, Range<usize>) {
        let after = self
            .sources
            .partition_point(|source| source.first_block <= block);
        let end = self.sources.get(after);
        let end = end.map_or(self.blocks.len(), |next| next.first_block);
        match after.checked_sub(1).and_then(|at| self.sources.get(at)) {
            Some(source) => (source.object, source.first_block..end),
            None => (own, 0..end),
        }
    }
}

/// Checks that each block has one source, which has blocks of its own and is no index again.
fn check_sources(sources: &[BlockSource], blocks: usize) -> Result<(), FormatError> {
    let follow = sources
        .windows(2)
        .all(|pair| pair[0].first_block < pair[1].first_block);
    let within = sources
        .last()
        .is_none_or(|last| last.first_block < blocks && sources[0].first_block == 0);
    let is_index = |source: &BlockSource| source.object.kind == ObjectKind::Index;
    match follow && within && !sources.iter().any(is_index) {
        true => Ok(()),
        false => Err(FormatError::Mismatch { part: PART }),
    }
}

/// Checks that the blocks lie in the part's range, one after the other, that those of one object follow each other
/// there, and that no position overflows.
fn check_blocks(
    range: &StreamRange,
    blocks: &[BlockEntry],
    sources: &[BlockSource],
) -> Result<(), FormatError> {
    let (mut next, mut position) = (range.start, 0);
    let mut begins = sources.iter().map(|source| source.first_block).peekable();
    for (at, block) in blocks.iter().enumerate() {
        if begins.next_if_eq(&at).is_some() {
            position = 0;
        }
        let end = block.position.checked_add(block.bytes.into());
        let follows = block.base >= next && block.next > block.base && block.position >= position;
        match end {
            Some(end) if follows && block.next <= range.end => (next, position) = (block.next, end),
            _ => return Err(FormatError::Mismatch { part: PART }),
        }
    }
    if range.start > range.end {
        Err(FormatError::Mismatch { part: PART })
    } else {
        Ok(())
    }
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32(u32::try_from(count).expect("lists are short"));
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.put_slice(bytes);
}

/// Returns the bytes before the CRC at their end, if the CRC is right.
pub(crate) fn checked(bytes: &Bytes, part: &'static str) -> Result<Bytes, FormatError> {
    let Some(body) = bytes.len().checked_sub(4) else {
        return Err(FormatError::Truncated { part });
    };
    let stored = bytes.slice(body..).get_u32();
    if crc32fast::hash(&bytes[..body]) != stored {
        return Err(FormatError::Checksum { part });
    }
    Ok(bytes.slice(..body))
}

/// Reads fields, and checks each length against the bytes that are left.
pub(crate) struct Fields {
    pub(crate) buf: Bytes,
    pub(crate) part: &'static str,
}

impl Fields {
    fn want(&self, bytes: usize) -> Result<(), FormatError> {
        if bytes <= self.buf.len() {
            return Ok(());
        }
        Err(FormatError::Truncated { part: self.part })
    }

    fn source(&mut self) -> Result<BlockSource, FormatError> {
        let first_block = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        let (node, epoch) = (NodeId(self.i32()?), NodeEpoch(self.u64()?));
        let kind = ObjectKind::from_number(self.u8()?);
        let object = ObjectId {
            node,
            epoch,
            kind: kind.ok_or(FormatError::Mismatch { part: self.part })?,
            number: self.u64()?,
        };
        Ok(BlockSource {
            object,
            first_block,
        })
    }

    fn u8(&mut self) -> Result<u8, FormatError> {
        self.want(1)?;
        Ok(self.buf.get_u8())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.want(4)?;
        Ok(self.buf.get_u32())
    }

    pub(crate) fn i32(&mut self) -> Result<i32, FormatError> {
        self.want(4)?;
        Ok(self.buf.get_i32())
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        self.want(8)?;
        Ok(self.buf.get_u64())
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        self.want(8)?;
        Ok(self.buf.get_i64())
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, FormatError> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        self.want(length)?;
        Ok(self.buf.split_to(length))
    }

    pub(crate) fn list<T>(
        &mut self,
        bytes_min: usize,
        one: impl Fn(&mut Self) -> Result<T, FormatError>,
    ) -> Result<Vec<T>, FormatError> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        self.want(count.saturating_mul(bytes_min))?;
        (0..count).map(|_| one(self)).collect()
    }

    pub(crate) fn finish(&self) -> Result<(), FormatError> {
        if self.buf.is_empty() {
            Ok(())
        } else {
            Err(FormatError::Mismatch { part: self.part })
        }
    }
}
