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
    /// A later leader epoch of a stream begins before an earlier one ends.
    #[error("leader epochs overlap stream_id={stream} leader_epoch={leader_epoch} first={first}")]
    Overlap {
        /// The stream.
        stream: StreamId,
        /// The later leader epoch.
        leader_epoch: LeaderEpoch,
        /// Its first offset.
        first: StreamOffset,
    },
    /// The object does not hold the blocks that it lists.
    #[error("object is an index of other objects object_id={object}")]
    Nested {
        /// The object.
        object: ObjectId,
    },
}

/// Joins the directories of WAL objects, which come in the order of their sequences. Each joined directory names the
/// objects that hold its blocks. Parts without offsets are left out. The directories are ordered by stream and leader
/// epoch.
///
/// # Errors
/// [`JoinError`].
pub fn join(
    objects: impl IntoIterator<Item = (ObjectId, Vec<StreamDirectory>)>,
) -> Result<Vec<StreamDirectory>, JoinError> {
    let mut joined: BTreeMap<(StreamId, LeaderEpoch), StreamDirectory> = BTreeMap::new();
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
            match joined.entry((part.stream, part.leader_epoch)) {
                Entry::Vacant(vacant) => drop(vacant.insert(part)),
                Entry::Occupied(before) => append(before.into_mut(), part, object)?,
            }
        }
    }
    let joined: Vec<StreamDirectory> = joined.into_values().collect();
    let overlap = joined
        .windows(2)
        .find(|pair| pair[0].stream == pair[1].stream && pair[1].range.start < pair[0].range.end);
    match overlap {
        Some(pair) => Err(JoinError::Overlap {
            stream: pair[1].stream,
            leader_epoch: pair[1].leader_epoch,
            first: pair[1].range.start,
        }),
        None => Ok(joined),
    }
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
