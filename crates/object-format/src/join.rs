//! Joins the directories of WAL objects into one directory for each leadership of a stream (W9). This code is pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use highwater_types::{LeaderEpoch, ObjectId, StreamId, StreamOffset};

use crate::{BlockSource, StreamDirectory};

/// The reason why WAL objects can't be joined: acknowledged batches are missing, or an object is not what its key says.
/// It is final.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The object's part of a stream does not begin where the part before it ends.
    #[error(
        "batches are missing before an object object_id={object} stream_id={stream} leader_epoch={leader_epoch} \
         expected={expected} first={first}"
    )]
    Gap {
        /// The object after the gap.
        object: ObjectId,
        /// The stream.
        stream: StreamId,
        /// The leader epoch of the part.
        leader_epoch: LeaderEpoch,
        /// The offset at which the part had to begin.
        expected: StreamOffset,
        /// The offset at which it begins.
        first: StreamOffset,
    },
    /// With the object, a later leader epoch of a stream begins before an earlier one ends.
    #[error(
        "leader epochs overlap in an object object_id={object} stream_id={stream} leader_epoch={leader_epoch}"
    )]
    Overlap {
        /// The object.
        object: ObjectId,
        /// The stream.
        stream: StreamId,
        /// The later leader epoch.
        leader_epoch: LeaderEpoch,
    },
    /// The object does not hold the blocks that it lists.
    #[error("object is an index of other objects object_id={object}")]
    Nested {
        /// The object.
        object: ObjectId,
    },
}

impl JoinError {
    /// The object that can't be joined to those before it.
    #[must_use]
    pub fn object(&self) -> ObjectId {
        match *self {
            Self::Gap { object, .. } | Self::Overlap { object, .. } | Self::Nested { object } => {
                object
            }
        }
    }
}

type Joined = BTreeMap<(StreamId, LeaderEpoch), StreamDirectory>;

/// Joins the directories of WAL objects, which come in the order of their sequences. Each joined directory names the
/// objects that hold its blocks. Parts without offsets are left out. The directories are ordered by stream and leader
/// epoch.
///
/// # Errors
/// [`JoinError`].
pub fn join(
    objects: impl IntoIterator<Item = (ObjectId, Vec<StreamDirectory>)>,
) -> Result<Vec<StreamDirectory>, JoinError> {
    let mut joined = Joined::new();
    for (object, directories) in objects {
        for mut part in directories {
            if part.range.is_empty() {
                continue;
            }
            if !part.sources.is_empty() {
                return Err(JoinError::Nested { object });
            }
            if !part.blocks.is_empty() {
                part.sources.push(BlockSource {
                    object,
                    first_block: 0,
                });
            }
            let stream = part.stream;
            match joined.entry((stream, part.leader_epoch)) {
                Entry::Vacant(vacant) => drop(vacant.insert(part)),
                Entry::Occupied(before) => append(before.into_mut(), part, object)?,
            }
            if let Some(leader_epoch) = overlapping(&joined, stream) {
                return Err(JoinError::Overlap {
                    object,
                    stream,
                    leader_epoch,
                });
            }
        }
    }
    Ok(joined.into_values().collect())
}

/// The leader epoch of a stream that begins before the one before it ends.
fn overlapping(joined: &Joined, stream: StreamId) -> Option<LeaderEpoch> {
    let of_stream = (stream, LeaderEpoch(i32::MIN))..=(stream, LeaderEpoch(i32::MAX));
    let epochs = joined.range(of_stream.clone());
    let mut pairs = epochs.zip(joined.range(of_stream).skip(1));
    let overlap = pairs.find(|((_, one), (_, next))| next.range.start < one.range.end);
    overlap.map(|(_, ((_, leader_epoch), _))| *leader_epoch)
}

/// Appends the next object's part of a leadership.
fn append(
    joined: &mut StreamDirectory,
    next: StreamDirectory,
    object: ObjectId,
) -> Result<(), JoinError> {
    if next.range.start != joined.range.end {
        return Err(JoinError::Gap {
            object,
            stream: joined.stream,
            leader_epoch: joined.leader_epoch,
            expected: joined.range.end,
            first: next.range.start,
        });
    }
    let blocks = joined.blocks.len();
    let sources = next.sources.into_iter().map(|source| BlockSource {
        first_block: blocks + source.first_block,
        ..source
    });
    joined.sources.extend(sources);
    joined.blocks.extend(next.blocks);
    joined.range.end = next.range.end;
    joined.max_timestamp = joined.max_timestamp.max(next.max_timestamp);
    joined.deltas.extend(next.deltas);
    joined.entries.extend(next.entries);
    // a roll that goes on over several objects is one part, as within one object (F6)
    for part in next.rolls {
        match joined.rolls.last_mut() {
            Some(last) if !part.begins => last.join(&part),
            _ => joined.rolls.push(part),
        }
    }
    // these three are as of the end of the range
    joined.checkpoint = next.checkpoint;
    joined.open_from = next.open_from;
    joined.leader_epochs = next.leader_epochs;
    Ok(())
}
