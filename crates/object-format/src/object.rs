//! Whole objects: writing them part by part, finding the parts again.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use highwater_types::{
    LeaderEpoch, NodeEpoch, NodeId, ObjectId, ObjectKind, StreamId, StreamOffset, Timestamp, Uuid,
    WalPosition,
};

use crate::block::{self, SummedBytes, VERSION};
use crate::directory::{Fields, checked};
use crate::{BatchEntry, BlockEntry, FormatError, RollPart, StreamDirectory};

const HEADER_MAGIC: &[u8; 4] = b"HWOB";
/// Bytes of the header, at the very beginning.
pub const HEADER_BYTES: usize = 88;
const FOOTER_MAGIC: &[u8; 4] = b"HWFT";
/// Bytes of the footer, at the very end.
pub const FOOTER_BYTES: usize = 26;
/// A block is cut when its body has this many bytes.
const BLOCK_BYTES: usize = 512 << 10;

/// Whose object it is (I10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectHeader {
    /// The cluster.
    pub cluster: highwater_types::ClusterId,
    /// Its name.
    pub id: ObjectId,
    /// Sixteen random bytes of the process that wrote it: whether an object under a key is one's own (W1, U2).
    pub nonce: Uuid,
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

    /// Reads the header at the beginning of an object.
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
            body: vec![header],
            parts: Vec::new(),
            pending: Vec::new(),
            pending_bytes: 0,
            batches: Vec::new(),
        }
    }

    /// Begins the part of one leadership of a stream; an object has one of each at most.
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
                leader_epochs: Vec::new(),
                rolls: Vec::new(),
                deltas: Vec::new(),
                entries: Vec::new(),
                checkpoint: None,
            },
            blocks: self.position..self.position,
        });
    }

    /// Adds a batch to the stream begun last, linked; `roll` says that the stream rolls before it.
    ///
    /// # Panics
    /// Before any stream was begun.
    pub fn push_batch(
        &mut self,
        batch: BatchEntry,
        delta: Bytes,
        roll: bool,
        append_time: Timestamp,
        body: SummedBytes,
    ) {
        // a block names its batches by 32-bit distances, which compaction's gaps may exceed
        if self
            .batches
            .first()
            .is_some_and(|first| u32::try_from(batch.base - first.base).is_err())
        {
            self.cut_block();
        }
        let part = self.parts.last_mut().expect("a stream was begun");
        let directory = &mut part.directory;
        let of_roll = RollPart::of_batch(&batch, append_time, roll);
        match directory.rolls.last_mut() {
            Some(last) if !roll => last.join(&of_roll),
            _ => directory.rolls.push(of_roll),
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
        footer.put_u16(VERSION);
        footer.put_slice(FOOTER_MAGIC);
        let crc = crc32fast::hash(&footer);
        footer.put_u32(crc);
        let bytes = self.position + index.len() as u64 + footer.len() as u64;
        self.body.push(index);
        self.body.push(footer.freeze());
        WrittenObject {
            body: self.body,
            bytes,
            parts: self.parts,
        }
    }
}

/// Where an object has the directory of one of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The part's stream.
    pub stream: StreamId,
    /// The leader epoch of its batches: two leaderships of a stream are two parts (C2).
    pub leader_epoch: LeaderEpoch,
    /// The directory's place.
    pub position: u64,
    /// Its bytes.
    pub bytes: u32,
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
            return Err(FormatError::Version {
                part: PART,
                version,
            });
        }
        whole?;
        Ok(Self { position, bytes })
    }

    /// The directories an index names, in the order written.
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

    /// Finds the directory of one leadership of a stream in the index.
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
