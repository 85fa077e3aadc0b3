//! The group commits that wait to be put. A batch is copied once, into memory in which it stays.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use highwater_io::Segments;
use highwater_object_format::{BatchEntry, ObjectHeader, ObjectWriter, SummedBytes, WrittenObject};
use highwater_runtime::BytePermit;
use highwater_types::{LeaderEpoch, StreamId, StreamOffset, WalPosition};

use crate::{AppendPermit, ConfirmedBatch, HEAD_BYTES, Leadership, StreamBatch};

/// Batches that are put as one object.
#[derive(Debug)]
pub(super) struct Group {
    /// Its sequence number.
    pub(super) number: u64,
    batches: Vec<ConfirmedBatch>,
    labels: BTreeMap<(StreamId, LeaderEpoch), Bytes>,
    bytes: usize,
    room: BytePermit,
}

/// A group without its labels, while it is put and after that.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) number: u64,
    pub(super) batches: Vec<ConfirmedBatch>,
    pub(super) room: BytePermit,
}

/// The groups that are not put yet, in order. The last one is filled.
#[derive(Debug)]
pub(super) struct Filling {
    groups: VecDeque<Group>,
    /// The number of the next group.
    next: u64,
    segment: BytesMut,
    segments: Segments,
    group_bytes_max: usize,
}

impl Filling {
    pub(super) fn new(group_bytes_max: usize) -> Self {
        Self {
            groups: VecDeque::new(),
            next: 0,
            segment: BytesMut::new(),
            segments: Segments::default(),
            group_bytes_max,
        }
    }

    /// Adds a batch to the group that is filled, and returns the group's number.
    pub(super) fn push(
        &mut self,
        permit: AppendPermit,
        of: &Leadership,
        base: StreamOffset,
        batch: &StreamBatch,
    ) -> u64 {
        let bytes = batch.head.len() + batch.tail.len();
        let is_full = |group: &Group| group.bytes + bytes > self.group_bytes_max;
        if self.groups.back().is_none_or(is_full) {
            self.groups.push_back(Group {
                number: self.next,
                batches: Vec::new(),
                labels: BTreeMap::new(),
                bytes: 0,
                room: BytePermit::empty(),
            });
            self.next += 1;
        }
        let copied = self.copy(batch, bytes);
        let group = self.groups.back_mut().expect("was made");
        group.bytes += bytes;
        group.room.merge(permit.room);
        let label = (of.stream, of.epoch);
        group
            .labels
            .entry(label)
            .or_insert_with(|| of.label.clone());
        group.batches.push(ConfirmedBatch {
            stream: of.stream,
            leader_epoch: of.epoch,
            base,
            count: batch.count,
            max_timestamp: batch.max_timestamp,
            delta: batch.delta.clone(),
            roll: batch.roll,
            append_time: batch.append_time,
            bytes: copied,
            tail_crc: batch.tail_crc,
            end: WalPosition::default(),
            memory: permit.memory,
        });
        group.number
    }

    fn copy(&mut self, batch: &StreamBatch, bytes: usize) -> Bytes {
        if self.segment.capacity() < bytes {
            let left = std::mem::take(&mut self.segment);
            self.segment = self.segments.exchange(left, bytes);
        }
        self.segment.put_slice(&batch.head);
        self.segment.put_slice(&batch.tail);
        self.segment.split().freeze()
    }

    /// The number of the first group that is not put yet.
    pub(super) fn first(&self) -> u64 {
        self.groups.front().map_or(self.next, |group| group.number)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Takes the first group, which is not filled any more.
    pub(super) fn pop(&mut self) -> Option<Group> {
        self.groups.pop_front()
    }

    pub(super) fn clear(&mut self) {
        self.groups.clear();
    }
}

impl Group {
    /// Encodes the group as an object, with a part for each leadership (W5). The batches are slices of it.
    pub(super) fn encode(mut self, header: &ObjectHeader) -> (WrittenObject, Sent) {
        let end = WalPosition {
            epoch: header.id.epoch,
            at: self.number + 1,
        };
        let mut writer = ObjectWriter::new(header);
        let mut parts: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (at, batch) in self.batches.iter_mut().enumerate() {
            batch.end = end;
            let part = (batch.stream, batch.leader_epoch);
            parts.entry(part).or_default().push(at);
        }
        for (part, places) in parts {
            let batches = places.into_iter().filter_map(|at| self.batches.get(at));
            let mut batches = batches.peekable();
            let first = batches.peek().map_or(0, |batch| batch.base);
            let label = self.labels.remove(&part).unwrap_or_default();
            writer.begin_stream(part.0, label, part.1, first);
            for batch in batches {
                let entry = BatchEntry {
                    base: batch.base,
                    count: batch.count,
                    bytes: u32::try_from(batch.bytes.len()).expect("batches are below 2 GiB"),
                    max_timestamp: batch.max_timestamp,
                };
                let body = SummedBytes {
                    bytes: batch.bytes.clone(),
                    summed_from: HEAD_BYTES,
                    crc: batch.tail_crc,
                };
                let delta = batch.delta.clone();
                writer.push_batch(entry, delta, batch.roll, batch.append_time, body);
            }
            writer.end_stream(None, Vec::new(), None, Vec::new());
        }
        let sent = Sent {
            number: self.number,
            batches: self.batches,
            room: self.room,
        };
        (writer.finish(), sent)
    }
}
