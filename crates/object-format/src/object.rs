//! Whole objects: they are written part by part, and the parts are found again by the index.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use highwater_types::{
    LeaderEpoch, NodeEpoch, NodeId, ObjectId, ObjectKind, StreamId, StreamOffset, Timestamp, Uuid,
    WalPosition,
};

use crate::block::{self, SummedBytes, VERSION};
use crate::directory::{Fields, checked};
use crate::{BatchEntry, BlockEntry, FormatError, RollPart, StreamDirectory};

const HEADER_MAGIC: &[u8; 4] = b"HWOB";
/// The size of the header, with which an object begins.
pub const HEADER_BYTES: usize = 88;
const FOOTER_MAGIC: &[u8; 4] = b"HWFT";
/// The version of a footer before which the header stands again.
const FOOTER_VERSION: u16 = 2;
/// The size of the footer, with which an object ends.
pub const FOOTER_BYTES: usize = 26;
/// A block is closed when its body has this many bytes.
const BLOCK_BYTES: usize = 512 << 10;

/// The header, which identifies an object (I10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectHeader {
    /// The cluster that it belongs to.
    pub cluster: highwater_types::ClusterId,
    /// The object's name.
    pub id: ObjectId,
    /// Sixteen random bytes of the process that wrote the object. They tell a process whether it wrote the object
    /// that it finds under a key (W1, U2).
    pub nonce: Uuid,
    /// If two objects cover the same offsets, the one with the greater number is read (F7); 0 for an upload.
    pub rewrite_number: u64,
    /// The WAL's floor as it was last committed (W5).
    pub floor: WalPosition,
}

impl ObjectHeader {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_BYTES);
        out.put_slice(HEADER_MAGIC);
        out.put_u16(VERSION);
        out.put_u8(self.id.kind.number());
        out.put_u8(0);
        out.put_slice(&self.cluster.0);
        out.put_i32(self.id.node.0);
        out.put_u64(self.id.epoch.0);
        out.put_u64(self.id.number);
        out.put_slice(&self.nonce.0);
        out.put_u64(self.rewrite_number);
        out.put_u64(self.floor.epoch.0);
        out.put_u64(self.floor.at);
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        out.freeze()
    }

    /// Decodes the header of an object.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn parse(object: &Bytes) -> Result<Self, FormatError> {
        const PART: &str = "object header";
        if object.len() < HEADER_BYTES {
            return Err(FormatError::Truncated { part: PART });
        }
        let mut fields = object.slice(..HEADER_BYTES);
        let whole = checked(&fields, PART);
        if &fields.split_to(4)[..] != HEADER_MAGIC {
            return Err(FormatError::Magic { part: PART });
        }
        let version = fields.get_u16();
        if version != VERSION {
            return Err(FormatError::Version {
                part: PART,
                version,
            });
        }
        whole?;
        let kind = ObjectKind::from_number(fields.get_u8());
        let kind = kind.ok_or(FormatError::Magic { part: PART })?;
        fields.advance(1);
        let mut cluster = Uuid::ZERO;
        fields.copy_to_slice(&mut cluster.0);
        let (node, epoch) = (NodeId(fields.get_i32()), NodeEpoch(fields.get_u64()));
        let id = ObjectId {
            node,
            epoch,
            kind,
            number: fields.get_u64(),
        };
        let mut nonce = Uuid::ZERO;
        fields.copy_to_slice(&mut nonce.0);
        let rewrite_number = fields.get_u64();
        let floor = WalPosition {
            epoch: NodeEpoch(fields.get_u64()),
            at: fields.get_u64(),
        };
        Ok(Self {
            cluster,
            id,
            nonce,
            rewrite_number,
            floor,
        })
    }
}

/// One stream's part of a written object.
#[derive(Debug, Clone)]
pub struct StreamPart {
    /// The part's description.
    pub directory: StreamDirectory,
    /// The positions of its blocks. If these lie in other objects, the range begins at 0 and is as long as they are.
    pub blocks: std::ops::Range<u64>,
}

/// An object that is ready to be put.
#[derive(Debug)]
pub struct WrittenObject {
    /// Its bytes, as a list of slices that aren't copied.
    pub body: Vec<Bytes>,
    /// Their number.
    pub bytes: u64,
    /// Its parts, in the order in which they were written.
    pub parts: Vec<StreamPart>,
}

/// Writes one object. Batches are added as slices and never copied.
#[derive(Debug)]
pub struct ObjectWriter {
    header: Bytes,
    body: Vec<Bytes>,
    position: u64,
    parts: Vec<StreamPart>,
    pending: Vec<SummedBytes>,
    pending_bytes: usize,
    batches: Vec<BatchEntry>,
}

impl ObjectWriter {
    /// Begins an object.
    #[must_use]
    pub fn new(header: &ObjectHeader) -> Self {
        let header = header.encode();
        Self {
            position: header.len() as u64,
            body: vec![header.clone()],
            header,
            parts: Vec::new(),
            pending: Vec::new(),
            pending_bytes: 0,
            batches: Vec::new(),
        }
    }

    /// Begins the part of one leadership of a stream. An object has at most one part of each.
    pub fn begin_stream(
        &mut self,
        stream: StreamId,
        label: Bytes,
        leader_epoch: LeaderEpoch,
        first: StreamOffset,
    ) {
        self.parts.push(StreamPart {
            directory: StreamDirectory {
                stream,
                label,
                range: first..first,
                leader_epoch,
                open_from: None,
                max_timestamp: -1,
                blocks: Vec::new(),
                sources: Vec::new(),
                leader_epochs: Vec::new(),
                rolls: Vec::new(),
                deltas: Vec::new(),
                entries: Vec::new(),
                checkpoint: None,
            },
            blocks: self.position..self.position,
        });
    }

    /// Adds a batch to the part that was begun last, without copying it. `roll` says whether the stream rolls before
    /// it.
    ///
    /// # Panics
    /// When no part was begun.
    pub fn push_batch(
        &mut self,
        batch: BatchEntry,
        delta: Bytes,
        roll: bool,
        append_time: Timestamp,
        body: SummedBytes,
    ) {
        // a block stores a batch's offset as a distance of 32 bits; after compaction a gap may exceed that
        if self
            .batches
            .first()
            .is_some_and(|first| u32::try_from(batch.base - first.base).is_err())
        {
            self.cut_block();
        }
        let part = self.parts.last_mut().expect("a stream was begun");
        let directory = &mut part.directory;
        let roll_part = RollPart::from_batch(&batch, append_time, roll);
        match directory.rolls.last_mut() {
            Some(last) if !roll => last.join(&roll_part),
            _ => directory.rolls.push(roll_part),
        }
        directory.range.end = batch.next();
        directory.max_timestamp = directory.max_timestamp.max(batch.max_timestamp);
        if !delta.is_empty() {
            directory.deltas.push((batch.base..batch.next(), delta));
        }
        self.pending_bytes += body.bytes.len();
        self.pending.push(body);
        self.batches.push(batch);
        if self.pending_bytes >= BLOCK_BYTES {
            self.cut_block();
        }
    }

    /// Ends the part that was begun last.
    ///
    /// # Panics
    /// When no part was begun.
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

    /// Adds a part whose blocks lie in other objects, between the parts that are begun and ended (W9).
    pub fn push_directory(&mut self, directory: StreamDirectory) {
        let bytes = directory.blocks.iter().map(|block| u64::from(block.bytes));
        self.parts.push(StreamPart {
            blocks: 0..bytes.sum(),
            directory,
        });
    }

    fn cut_block(&mut self) {
        let (Some(first), Some(last)) = (self.batches.first(), self.batches.last()) else {
            return;
        };
        let part = self.parts.last_mut().expect("batches belong to a stream");
        let head = block::encode(part.directory.stream, &self.batches, &self.pending);
        let bytes = head.len() + self.pending_bytes;
        part.directory.blocks.push(BlockEntry {
            position: self.position,
            bytes: u32::try_from(bytes).expect("a block is below 4 GiB"),
            base: first.base,
            next: last.next(),
            max_timestamp: self
                .batches
                .iter()
                .map(|batch| batch.max_timestamp)
                .max()
                .unwrap_or(-1),
        });
        self.position += bytes as u64;
        self.body.push(head);
        self.body
            .extend(self.pending.drain(..).map(|body| body.bytes));
        self.pending_bytes = 0;
        self.batches.clear();
    }

    /// Completes the object.
    ///
    /// # Panics
    /// When a directory is larger than 4 GiB, which the limits of its fields exclude.
    #[must_use]
    pub fn finish(mut self) -> WrittenObject {
        let mut index = BytesMut::new();
        let count = u32::try_from(self.parts.len()).expect("an object has few streams");
        index.put_u32(count);
        for part in &self.parts {
            let directory = part.directory.encode();
            index.put_u64(part.directory.stream.0);
            index.put_i32(part.directory.leader_epoch.0);
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
        footer.put_u16(FOOTER_VERSION);
        footer.put_slice(FOOTER_MAGIC);
        let crc = crc32fast::hash(&footer);
        footer.put_u32(crc);
        let end = [index, self.header, footer.freeze()];
        let end_bytes: usize = end.iter().map(Bytes::len).sum();
        self.body.extend(end);
        WrittenObject {
            body: self.body,
            bytes: self.position + end_bytes as u64,
            parts: self.parts,
        }
    }
}

/// The place of a part's directory in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The part's stream.
    pub stream: StreamId,
    /// The leader epoch that wrote the part: two leaderships of a stream have two parts (C2).
    pub leader_epoch: LeaderEpoch,
    /// The directory's position.
    pub position: u64,
    /// The directory's size in bytes.
    pub bytes: u32,
}

/// The end of an object: the place of its index, and the header again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// The header, so that a reader of the end alone knows which object it reads (I10); `None` in an object of version
    /// 1, which has the header at its beginning only.
    pub header: Option<ObjectHeader>,
    /// The index's position.
    pub position: u64,
    /// The index's size in bytes.
    pub bytes: u32,
}

impl Footer {
    /// Decodes the footer, and the header before it, from the last bytes of an object.
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
        if version != VERSION && version != FOOTER_VERSION {
            return Err(FormatError::Version {
                part: PART,
                version,
            });
        }
        whole?;
        let header = match from.checked_sub(HEADER_BYTES) {
            _ if version == VERSION => None,
            Some(at) => Some(ObjectHeader::parse(&suffix.slice(at..from))?),
            None => return Err(FormatError::Truncated { part: PART }),
        };
        Ok(Self {
            header,
            position,
            bytes,
        })
    }

    /// The directories that an index lists, in the order in which they were written.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn directories(index: &Bytes) -> Result<Vec<IndexEntry>, FormatError> {
        let mut r = Fields {
            buf: checked(index, "object index")?,
            part: "object index",
        };
        let rows = r.list(24, |r| {
            Ok(IndexEntry {
                stream: StreamId(r.u64()?),
                leader_epoch: LeaderEpoch(r.i32()?),
                position: r.u64()?,
                bytes: r.u32()?,
            })
        })?;
        r.finish()?;
        Ok(rows)
    }

    /// Finds the directory of one leadership of a stream in an index.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn find(
        index: &Bytes,
        stream: StreamId,
        leader_epoch: LeaderEpoch,
    ) -> Result<Option<IndexEntry>, FormatError> {
        let entries = Self::directories(index)?;
        let wanted =
            |entry: &IndexEntry| entry.stream == stream && entry.leader_epoch == leader_epoch;
        Ok(entries.into_iter().find(wanted))
    }
}
