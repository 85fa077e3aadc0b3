//! The batches that the suite appends, and their identity when they are found again.

use bytes::Bytes;
use highwater_types::{LeaderEpoch, NodeEpoch, StreamId, StreamOffset, WalPosition};

use crate::{ConfirmedBatch, HEAD_BYTES, Known, Leadership, StreamBatch};

const LEADER: LeaderEpoch = LeaderEpoch(3);

pub(super) fn known(registered: NodeEpoch, floor: WalPosition) -> Known {
    Known {
        registered,
        floor: Some(floor),
        confirmed: floor,
    }
}

pub(super) fn leadership(stream: u64) -> Leadership {
    Leadership {
        stream: StreamId(stream),
        epoch: LEADER,
        label: Bytes::from_static(b"label"),
    }
}

pub(super) fn batch(base: StreamOffset, bytes: usize) -> StreamBatch {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&base.to_be_bytes());
    let fill = base.to_be_bytes()[7];
    let tail = Bytes::from(vec![fill; bytes]);
    StreamBatch {
        count: 2,
        max_timestamp: base * 10,
        head,
        tail_crc: crc32fast::hash(&tail),
        tail,
        delta: Bytes::from(vec![fill; 28]),
        roll: base == 4,
        append_time: base * 11,
    }
}

/// The identity of a batch: stream, base offset, bytes and end.
pub(super) type Seen = (StreamId, StreamOffset, usize, WalPosition);

/// Compares a batch with what was appended.
pub(super) fn seen(found: &ConfirmedBatch) -> Seen {
    let (base, bytes) = (found.base, found.bytes.len());
    let appended = batch(base, bytes - HEAD_BYTES);
    assert_eq!(found.bytes[..HEAD_BYTES], appended.head);
    assert_eq!(found.bytes[HEAD_BYTES..], appended.tail);
    assert_eq!((found.count, found.leader_epoch), (appended.count, LEADER));
    assert_eq!(found.max_timestamp, appended.max_timestamp);
    assert_eq!(found.append_time, appended.append_time);
    assert_eq!(found.tail_crc, appended.tail_crc);
    assert_eq!(found.delta, appended.delta);
    assert_eq!(found.roll, appended.roll);
    (found.stream, base, bytes, found.end)
}
