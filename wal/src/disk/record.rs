//! One batch as it lies in the log.

use bytes::{Buf, BufMut, Bytes};
use highwater_disk_log::RecoveredGroup;
use highwater_runtime::BytePermit;
use highwater_types::{LeaderEpoch, NodeEpoch, StreamId, StreamOffset, WalPosition};

use crate::{ConfirmedBatch, HEAD_BYTES, Leadership, StreamBatch, WalError};

/// What the log keeps of a batch until it is durable.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) stream: StreamId,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) base: StreamOffset,
    pub(super) count: u32,
    pub(super) max_timestamp: i64,
    pub(super) roll: bool,
    pub(super) append_time: i64,
    pub(super) delta: Bytes,
    pub(super) tail_crc: u32,
    pub(super) memory: BytePermit,
    pub(super) room: BytePermit,
}

pub(super) const HEADER_BYTES: usize = 46;

/// The fixed part: stream, leader epoch, base offset, count, largest timestamp, append time, roll, lengths of
/// delta and batch.
pub(super) fn header(
    of: &Leadership,
    base: StreamOffset,
    batch: &StreamBatch,
) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let mut out = &mut header[..];
    out.put_u64(of.stream.0);
    out.put_i32(of.epoch.0);
    out.put_i64(base);
    out.put_u32(batch.count);
    out.put_i64(batch.max_timestamp);
    out.put_i64(batch.append_time);
    out.put_u8(batch.roll.into());
    out.put_u8(u8::try_from(batch.delta.len()).expect("deltas are at most 64 bytes"));
    let bytes = batch.head.len() + batch.tail.len();
    out.put_u32(u32::try_from(bytes).expect("batches are below 2 GiB"));
    header
}

/// The batches of a group that was read back.
pub(super) fn decode_group(group: RecoveredGroup) -> Result<Vec<ConfirmedBatch>, WalError> {
    let end = WalPosition {
        epoch: NodeEpoch(group.opening),
        at: group.end,
    };
    let mut body = group.body;
    let mut batches = Vec::new();
    while !body.is_empty() {
        let batch = decode(&mut body, end).ok_or_else(|| WalError::Damaged {
            reason: format!("a record cannot be read before position {end}"),
            path: "the write-ahead log".to_owned(),
        })?;
        batches.push(batch);
    }
    Ok(batches)
}

fn decode(body: &mut Bytes, end: WalPosition) -> Option<ConfirmedBatch> {
    if body.len() < HEADER_BYTES {
        return None;
    }
    let mut fields = body.split_to(HEADER_BYTES);
    let stream = StreamId(fields.get_u64());
    let leader_epoch = LeaderEpoch(fields.get_i32());
    let base = fields.get_i64();
    let count = fields.get_u32();
    let max_timestamp = fields.get_i64();
    let append_time = fields.get_i64();
    let roll = fields.get_u8() != 0;
    let delta_bytes = usize::from(fields.get_u8());
    let batch_bytes = usize::try_from(fields.get_u32()).ok()?;
    if body.len() < delta_bytes.checked_add(batch_bytes)? {
        return None;
    }
    let delta = body.split_to(delta_bytes);
    let bytes = body.split_to(batch_bytes);
    let tail_crc = crc32fast::hash(bytes.get(HEAD_BYTES..)?);
    Some(ConfirmedBatch {
        stream,
        leader_epoch,
        base,
        count,
        max_timestamp,
        delta,
        roll,
        append_time,
        bytes,
        tail_crc,
        end,
        memory: BytePermit::empty(),
    })
}
