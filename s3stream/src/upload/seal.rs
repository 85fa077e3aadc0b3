//! Prepares the registration of a sealed object WAL by an index of its objects (rules W8, W9).
//!
//! This file owns the index object and its number. It copies no batch and commits nothing: one command closes the epoch
//! and registers the claims, so that a start that dies before it leaves an index that nothing refers to (U5).

use std::sync::atomic::Ordering;

use highwater_object_format::{ObjectWriter, RollPart, StreamDirectory, join};
use highwater_object_storage::layout;
use highwater_runtime::crash_point;
use highwater_types::{ObjectId, ObjectKind, StreamId, WalPosition};
use highwater_wal::SealedRange;

use super::Uploads;
use super::backlog::ROLLS_MAX;
use super::commit::claim;
use crate::{Claim, StreamError};

/// The registration of a sealed range, which belongs into the command that closes its epoch (W8).
#[derive(Debug, Clone)]
pub struct SealedClaims {
    /// The position of the seal.
    pub at: WalPosition,
    /// The index of the sealed range, which was put; `None` for a range without records.
    pub index: Option<ObjectId>,
    /// The bytes of the index and of the objects in the range.
    pub bytes: u64,
    /// The claims on the index, one for each leadership of a stream.
    pub claims: Vec<(StreamId, Claim)>,
}

impl Uploads {
    /// Puts the index of a sealed range, and retries until it is there.
    ///
    /// # Errors
    /// The objects in the range can't be joined, or the put failed for good: see [`Self::put`].
    pub(super) async fn index(&self, range: SealedRange) -> Result<SealedClaims, StreamError> {
        let mut sealed = SealedClaims {
            at: range.end,
            index: None,
            bytes: range.objects.iter().map(|object| object.bytes).sum(),
            claims: Vec::new(),
        };
        self.recovery_status().bytes_total += sealed.bytes;
        let objects = range.objects.into_iter();
        let joined = join(objects.map(|object| (object.id, object.directories)));
        let joined = joined.map_err(|error| StreamError::Damaged {
            key: layout::object(error.object()).to_string(),
            reason: error.to_string(),
        })?;
        self.recovery_status().bytes += sealed.bytes;
        if joined.is_empty() {
            sealed.bytes = 0;
            return Ok(sealed);
        }
        let index = self.next_index();
        let mut writer = ObjectWriter::new(&self.header(index));
        for mut directory in joined {
            self.describe(&mut directory).await?;
            writer.push_directory(directory);
        }
        let written = writer.finish();
        crash_point("index-before-put");
        self.put(index, &written).await?;
        crash_point("index-after-put");
        self.succeeded();
        sealed.index = Some(index);
        sealed.bytes += written.bytes;
        let claims = written.parts.iter().map(|part| claim(index, part));
        sealed.claims = claims.collect();
        let rolls = sealed.claims.iter_mut().map(|(_, claim)| &mut claim.rolls);
        merge_rolls(rolls.collect(), ROLLS_MAX);
        Ok(sealed)
    }

    /// Adds what the metadata knows of a stream, and its WAL objects may not (I10, F7).
    async fn describe(&self, directory: &mut StreamDirectory) -> Result<(), StreamError> {
        if directory.label.is_empty() {
            directory.label = self.metadata.label(directory.stream).await?;
        }
        let leader_epochs = self.metadata.leader_epochs(directory.stream).await?;
        if !leader_epochs.is_empty() {
            directory.leader_epochs = leader_epochs;
        }
        Ok(())
    }

    /// The name of the next index object. A number names one body for ever (U2). A closing that is refused condemns its
    /// index (W8), so that no more numbers are in flight than the metadata accepts.
    fn next_index(&self) -> ObjectId {
        ObjectId {
            node: self.writer.node,
            epoch: self.writer.epoch,
            kind: ObjectKind::Index,
            number: self.last_index.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }
}

/// Merges neighbouring rolls of the streams until there are at most `max` in all, or one of each stream. A sealed range
/// may have more rolls than a command can list, and no other command could register it. Retention then removes larger
/// rolls, and so removes records later, never earlier (F6).
fn merge_rolls(mut streams: Vec<&mut Vec<RollPart>>, max: usize) {
    let all =
        |streams: &[&mut Vec<RollPart>]| -> usize { streams.iter().map(|rolls| rolls.len()).sum() };
    while all(&streams) > max && streams.iter().any(|rolls| rolls.len() > 1) {
        for rolls in &mut streams {
            let pairs = rolls.chunks(2).map(|pair| {
                let mut merged = pair[0];
                pair[1..].iter().for_each(|next| merged.join(next));
                merged
            });
            **rolls = pairs.collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_object_format::BatchEntry;

    use super::*;

    fn rolls(count: i64) -> Vec<RollPart> {
        let roll = |base| {
            let batch = BatchEntry {
                base,
                count: 1,
                bytes: 10,
                max_timestamp: 100 - base,
            };
            RollPart::from_batch(&batch, base, base > 0)
        };
        (0..count).map(roll).collect()
    }

    // F6: no byte is lost, no roll is younger than its records, and the order stays
    #[test]
    fn rolls_beyond_what_a_command_can_list_are_merged() {
        let (mut one, mut two) = (rolls(5), rolls(1));
        merge_rolls(vec![&mut one, &mut two], 6);
        assert_eq!((one, two), (rolls(5), rolls(1)), "they fit");
        let (mut one, mut two) = (rolls(5), rolls(1));
        merge_rolls(vec![&mut one, &mut two], 5);
        assert_eq!(two, rolls(1));
        let seen: Vec<_> = one
            .iter()
            .map(|roll| {
                (
                    roll.base,
                    roll.begins,
                    roll.bytes,
                    roll.max_timestamp,
                    roll.last_append,
                )
            })
            .collect();
        let expected = [
            (0, false, 20, 100, 1),
            (2, true, 20, 98, 3),
            (4, true, 10, 96, 4),
        ];
        assert_eq!(seen, expected);
        merge_rolls(vec![&mut one, &mut two], 1);
        assert_eq!((one.len(), two.len()), (1, 1), "no stream is left out");
        assert_eq!(
            (one[0].bytes, one[0].max_timestamp, one[0].begins),
            (50, 100, false)
        );
    }
}
