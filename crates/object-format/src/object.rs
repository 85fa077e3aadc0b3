//! Whole objects: writing them part by part, finding the parts again.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use highwater_types::{ClusterId, LeaderEpoch, ObjectId, StreamId, StreamOffset, WalPosition};

use crate::block::{self, VERSION};
use crate::directory::{Fields, checked};
use crate::{BatchEntry, BlockEntry, FormatError, StreamDirectory, StreamRoll};

const HEADER_MAGIC: &[u8; 4] = b"HWOB";
const HEADER_BYTES: usize = 64;
const FOOTER_MAGIC: &[u8; 4] = b"HWFT";
/// Bytes of the footer, at the very end.
pub const FOOTER_BYTES: usize = 26;
/// A block is cut when its body has this many bytes.
const BLOCK_BYTES: usize = 512 << 10;

/// Whose object it is (I10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectHeader {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its name.
    pub id: ObjectId,
    /// Where two objects cover the same offsets, the greater wins (F7); 0 for an upload.
    pub rewrite_number: u64,
    /// The WAL's floor as last committed (W5).
    pub floor: WalPosition,
}

impl ObjectHeader {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_BYTES);
        out.put_slice(HEADER_MAGIC);
        out.put_u16(VERSION);
        out.put_u16(HEADER_BYTES as u16);
        out.put_slice(&self.cluster.0);
        out.put_i32(self.id.node.0);
        out.put_u64(self.id.epoch.0);
        out.put_u64(self.id.number);
        out.put_u64(self.rewrite_number);
        out.put_u64(self.floor.at);
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        out.freeze()
    }
}

/// One stream's part of an object that was written.
#[derive(Debug, Clone)]
pub struct StreamPart {
    /// What the object says of it.
    pub directory: StreamDirectory,
    /// Where its blocks begin and end.
    pub blocks: std::ops::Range<u64>,
}

/// An object ready to be put.
#[derive(Debug)]
pub struct WrittenObject {
    /// Its bytes, linked.
    pub body: Vec<Bytes>,
    /// How many.
    pub bytes: u64,
    /// Its parts, in the order written.
    pub parts: Vec<StreamPart>,
}

/// Writes one object; batches are linked, never copied.
#[derive(Debug)]
pub struct ObjectWriter {
    body: Vec<Bytes>,
    position: u64,
    parts: Vec<StreamPart>,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    batches: Vec<BatchEntry>,
    stream_bytes: u64,
}

impl ObjectWriter {
    /// Begins an object.
    #[must_use]
    pub fn new(header: &ObjectHeader) -> Self {
        let header = header.encode();
        Self {
            position: header.len() as u64,
            body: vec![header],
            parts: Vec::new(),
            pending: Vec::new(),
            pending_bytes: 0,
            batches: Vec::new(),
            stream_bytes: 0,
        }
    }

    /// Begins the part of a stream.
    pub fn begin_stream(
        &mut self,
        stream: StreamId,
        label: Bytes,
        leader_epoch: LeaderEpoch,
        first: StreamOffset,
    ) {
        self.stream_bytes = 0;
        self.parts.push(StreamPart {
            directory: StreamDirectory {
                stream,
                label,
                range: first..first,
                leader_epoch,
                open_from: None,
                max_timestamp: -1,
                blocks: Vec::new(),
                leader_epochs: Vec::new(),
                rolls: Vec::new(),
                deltas: Vec::new(),
                entries: Vec::new(),
                checkpoint: None,
            },
            blocks: self.position..self.position,
        });
    }

    /// Adds a batch to the stream begun last; `roll` says that the stream rolls before it.
    ///
    /// # Panics
    /// Before any stream was begun.
    pub fn push_batch(&mut self, batch: BatchEntry, delta: Bytes, roll: bool, bytes: Bytes) {
        let part = self.parts.last_mut().expect("a stream was begun");
        let directory = &mut part.directory;
        if roll {
            directory.rolls.push(StreamRoll {
                base: batch.base,
                bytes_before: self.stream_bytes,
                max_timestamp_before: directory.max_timestamp,
            });
        }
        directory.range.end = batch.next();
        directory.max_timestamp = directory.max_timestamp.max(batch.max_timestamp);
        if !delta.is_empty() {
            directory.deltas.push((batch.base..batch.next(), delta));
        }
        self.stream_bytes += bytes.len() as u64;
        self.pending_bytes += bytes.len();
        self.pending.push(bytes);
        self.batches.push(batch);
        if self.pending_bytes >= BLOCK_BYTES {
            self.cut_block();
        }
    }

    /// Ends the stream begun last.
    ///
    /// # Panics
    /// Before any stream was begun.
    pub fn end_stream(
        &mut self,
        checkpoint: Option<Bytes>,
        entries: Vec<(StreamOffset, Bytes)>,
        open_from: Option<StreamOffset>,
        leader_epochs: Vec<(LeaderEpoch, StreamOffset)>,
    ) {
        self.cut_block();
        let part = self.parts.last_mut().expect("a stream was begun");
        part.blocks.end = self.position;
        part.directory.checkpoint = checkpoint;
        part.directory.entries = entries;
        part.directory.open_from = open_from;
        part.directory.leader_epochs = leader_epochs;
    }

    fn cut_block(&mut self) {
        let (Some(first), Some(last)) = (self.batches.first(), self.batches.last()) else { return };
        let part = self.parts.last_mut().expect("batches belong to a stream");
        let head = block::encode(part.directory.stream, &self.batches, &self.pending);
        let bytes = head.len() + self.pending_bytes;
        part.directory.blocks.push(BlockEntry {
            position: self.position,
            bytes: u32::try_from(bytes).expect("a block is below 4 GiB"),
            base: first.base,
            next: last.next(),
            max_timestamp: self.batches.iter().map(|batch| batch.max_timestamp).max().unwrap_or(-1),
        });
        self.position += bytes as u64;
        self.body.push(head);
        self.body.append(&mut self.pending);
        self.pending_bytes = 0;
        self.batches.clear();
    }

    /// The whole object.
    ///
    /// # Panics
    /// When a directory is over 4 GiB, which its limits forbid.
    #[must_use]
    pub fn finish(mut self) -> WrittenObject {
        let mut index = BytesMut::new();
        let count = u32::try_from(self.parts.len()).expect("an object has few streams");
        index.put_u32(count);
        for part in &self.parts {
            let directory = part.directory.encode();
            index.put_u64(part.directory.stream.0);
            index.put_u64(self.position);
            index.put_u32(u32::try_from(directory.len()).expect("directories are small"));
            self.position += directory.len() as u64;
            self.body.push(directory);
        }
        let crc = crc32fast::hash(&index);
        index.put_u32(crc);
        let index = index.freeze();
        let mut footer = BytesMut::with_capacity(FOOTER_BYTES);
        footer.put_u64(self.position);
        footer.put_u32(u32::try_from(index.len()).expect("indexes are small"));
        footer.put_u32(count);
        footer.put_u16(VERSION);
        footer.put_slice(FOOTER_MAGIC);
        let crc = crc32fast::hash(&footer);
        footer.put_u32(crc);
        let bytes = self.position + index.len() as u64 + footer.len() as u64;
        self.body.push(index);
        self.body.push(footer.freeze());
        WrittenObject { body: self.body, bytes, parts: self.parts }
    }
}

/// Where the index of an object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Its place.
    pub position: u64,
    /// Its bytes.
    pub bytes: u32,
}

impl Footer {
    /// Reads the footer at the end of an object's last bytes.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn parse(suffix: &Bytes) -> Result<Self, FormatError> {
        const PART: &str = "footer";
        let Some(from) = suffix.len().checked_sub(FOOTER_BYTES) else {
            return Err(FormatError::Truncated { part: PART });
        };
        let mut fields = suffix.slice(from..);
        let whole = checked(&fields, PART);
        let (position, bytes) = (fields.get_u64(), fields.get_u32());
        fields.advance(4);
        let version = fields.get_u16();
        if &fields[..4] != FOOTER_MAGIC {
            return Err(FormatError::Magic { part: PART });
        }
        if version != VERSION {
            return Err(FormatError::Version { part: PART, version });
        }
        whole?;
        Ok(Self { position, bytes })
    }

    /// Finds the directory of a stream in the index: its place and bytes.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn find(index: &Bytes, stream: StreamId) -> Result<Option<(u64, u32)>, FormatError> {
        let mut r = Fields { buf: checked(index, "object index")?, part: "object index" };
        let rows = r.list(20, |r| Ok((r.u64()?, r.u64()?, r.u32()?)))?;
        r.finish()?;
        let found = rows.into_iter().find(|(id, ..)| *id == stream.0);
        Ok(found.map(|(_, position, bytes)| (position, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use highwater_types::{NodeEpoch, NodeId, Uuid};

    use super::*;
    use crate::DataBlock;

    fn object() -> WrittenObject {
        let id = ObjectId { node: NodeId(1), epoch: NodeEpoch(2), rewrite: false, number: 3 };
        let header = ObjectHeader {
            cluster: Uuid([9; 16]),
            id,
            rewrite_number: 0,
            floor: WalPosition::default(),
        };
        let mut writer = ObjectWriter::new(&header);
        for stream in 0..2u64 {
            let label = Bytes::from_static(b"label");
            writer.begin_stream(StreamId(stream), label, LeaderEpoch(4), 10);
            for i in 0..3u8 {
                let base = 10 + i64::from(i) * 5;
                let body = Bytes::from(vec![i; 300 << 10]);
                let bytes = 300 << 10;
                let batch = BatchEntry { base, count: 5, bytes, max_timestamp: i64::from(i) };
                writer.push_batch(batch, Bytes::from_static(b"delta"), i == 2, body);
            }
            let checkpoint = (stream == 1).then(|| Bytes::from_static(b"state"));
            writer.end_stream(checkpoint, vec![(12, Bytes::from_static(b"e"))], Some(11), vec![]);
        }
        writer.finish()
    }

    fn joined(object: &WrittenObject) -> Bytes {
        let all: Vec<u8> = object.body.iter().flat_map(|part| part.iter().copied()).collect();
        assert_eq!(all.len() as u64, object.bytes);
        all.into()
    }

    fn slice(all: &Bytes, position: u64, bytes: u32) -> Bytes {
        let from = usize::try_from(position).expect("small");
        all.slice(from..from + usize::try_from(bytes).expect("small"))
    }

    #[test]
    fn an_object_is_found_again_part_by_part() {
        let object = object();
        let all = joined(&object);
        let footer = Footer::parse(&all).expect("sound");
        let index = slice(&all, footer.position, footer.bytes);
        assert_eq!(Footer::find(&index, StreamId(7)), Ok(None));
        for part in &object.parts {
            let stream = part.directory.stream;
            let (position, bytes) = Footer::find(&index, stream).expect("sound").expect("is there");
            let directory = StreamDirectory::parse(&slice(&all, position, bytes)).expect("sound");
            assert_eq!(directory, part.directory);
            assert_eq!((directory.range.clone(), directory.blocks.len()), (10..25, 2));
            assert_eq!(directory.rolls[0].bytes_before, 600 << 10);
            let mut batches = Vec::new();
            for entry in &directory.blocks {
                let bytes = slice(&all, entry.position, entry.bytes);
                batches.extend(DataBlock::parse(&bytes, stream, entry).expect("sound").batches);
                assert!(DataBlock::parse(&bytes, StreamId(99), entry).is_err());
            }
            assert_eq!(batches.len(), 3);
        }
    }

    // I9: every bit is under a checksum or refused for its meaning
    #[test]
    fn a_flipped_bit_is_noticed_wherever_it_is() {
        let object = object();
        let all = joined(&object);
        let read = |all: &Bytes| -> Result<(), FormatError> {
            let footer = Footer::parse(all)?;
            let end = footer.position.checked_add(footer.bytes.into());
            if end.is_none_or(|end| end > all.len() as u64) {
                return Err(FormatError::Truncated { part: "index" });
            }
            let index = slice(all, footer.position, footer.bytes);
            for stream in [StreamId(0), StreamId(1)] {
                let found = Footer::find(&index, stream)?;
                let (position, bytes) = found.ok_or(FormatError::Mismatch { part: "index" })?;
                let directory = StreamDirectory::parse(&slice(all, position, bytes))?;
                for entry in &directory.blocks {
                    DataBlock::parse(&slice(all, entry.position, entry.bytes), stream, entry)?;
                }
            }
            Ok(())
        };
        read(&all).expect("whole");
        let tail = all.len() - 1200;
        for at in (HEADER_BYTES..all.len()).filter(|at| at % 9973 == 0 || *at > tail) {
            let mut broken = BytesMut::from(&all[..]);
            broken[at] ^= 4;
            assert!(read(&broken.freeze()).is_err(), "byte {at}");
        }
    }
}
