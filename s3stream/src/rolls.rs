//! Where a stream rolled, put together from what claims and batches say (F6). Pure.

use highwater_object_format::RollPart;
use highwater_types::{StreamOffset, Timestamp};

use crate::Claim;

/// A roll: [base, end). The last of a stream is the active one, the others are closed (F6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roll {
    /// Its first offset.
    pub base: StreamOffset,
    /// Just after its last offset.
    pub end: StreamOffset,
    /// Bytes of its batches.
    pub bytes: u64,
    /// Its largest timestamp, or -1.
    pub max_timestamp: Timestamp,
    /// The largest timestamp of its first batch, or -1: time is counted from it until the next roll.
    pub first_timestamp: Timestamp,
    /// When its first batch was appended, by the broker's clock.
    pub first_append: Timestamp,
    /// When its last batch was appended.
    pub last_append: Timestamp,
}

/// Adds what follows, up to `end`, to the active roll, or begins a new one.
pub(crate) fn extend(rolls: &mut Vec<Roll>, part: &RollPart, end: StreamOffset) {
    match rolls.last_mut() {
        Some(active) if !part.begins => {
            active.end = end;
            active.bytes = active.bytes.saturating_add(part.bytes);
            active.max_timestamp = active.max_timestamp.max(part.max_timestamp);
            active.last_append = part.last_append;
        }
        _ => rolls.push(Roll {
            base: part.base,
            end,
            bytes: part.bytes,
            max_timestamp: part.max_timestamp,
            first_timestamp: part.first_timestamp,
            first_append: part.first_append,
            last_append: part.last_append,
        }),
    }
}

/// Forgets those below the start, but not the last: it is the active one.
pub(crate) fn forget(rolls: &mut Vec<Roll>, start: StreamOffset) {
    let closed = rolls.split_last().map_or(&[][..], |(_, closed)| closed);
    let gone = closed.iter().take_while(|roll| roll.end <= start).count();
    rolls.drain(..gone);
}

/// The rolls that claims tell of, those below the start left out.
pub(crate) fn of_claims(claims: &[Claim], start: StreamOffset) -> Vec<Roll> {
    let mut rolls: Vec<Roll> = Vec::new();
    for claim in claims {
        let next_bases = claim.rolls.iter().skip(1).map(|part| part.base);
        let ends = next_bases.chain([claim.range.end]);
        for (part, end) in claim.rolls.iter().zip(ends) {
            // what a claim was clipped of (U3) is in the one before it
            if end > claim.range.start {
                let begins = part.begins && part.base >= claim.range.start;
                let base = part.base.max(claim.range.start);
                let part = RollPart {
                    base,
                    begins,
                    ..*part
                };
                extend(&mut rolls, &part, end);
            }
        }
    }
    rolls.retain(|roll| roll.end > start);
    rolls
}

#[cfg(test)]
mod tests {
    use highwater_object_format::BatchEntry;
    use highwater_types::LeaderEpoch;

    use super::*;

    /// The part that a batch of ten records is, a thousand bytes long; it is appended at its timestamp and a half second.
    fn part(base: StreamOffset, timestamp: Timestamp, begins: bool) -> RollPart {
        let batch = BatchEntry {
            base,
            count: 10,
            bytes: 1000,
            max_timestamp: timestamp,
        };
        RollPart::of_batch(&batch, timestamp + 500, begins)
    }

    fn claim(range: std::ops::Range<StreamOffset>, rolls: Vec<RollPart>) -> Claim {
        Claim {
            range,
            object: None,
            part: 0..1,
            max_timestamp: rolls
                .iter()
                .map(|roll| roll.max_timestamp)
                .max()
                .unwrap_or(-1),
            rolls,
            open_from: None,
            checkpoint_bytes: None,
            leader_epoch: LeaderEpoch(0),
        }
    }

    fn seen(rolls: &[Roll]) -> Vec<(StreamOffset, StreamOffset, u64, Timestamp)> {
        let one = |roll: &Roll| (roll.base, roll.end, roll.bytes, roll.max_timestamp);
        rolls.iter().map(one).collect()
    }

    #[test]
    fn a_roll_that_begins_with_its_claim_is_a_roll_of_its_own() {
        let claims = [
            claim(0..10, vec![part(0, 100, true)]),
            claim(10..20, vec![part(10, 200, true)]),
            claim(20..30, vec![part(20, 150, false)]),
        ];
        let rolls = of_claims(&claims, 0);
        assert_eq!(seen(&rolls), [(0, 10, 1000, 100), (10, 30, 2000, 200)]);
        assert_eq!(seen(&of_claims(&claims, 10)), [(10, 30, 2000, 200)]);
        let active = rolls.last().expect("there is one");
        let times = (
            active.first_timestamp,
            active.first_append,
            active.last_append,
        );
        assert_eq!(times, (200, 700, 650));
    }

    #[test]
    fn a_claim_of_many_rolls_says_the_bytes_and_times_of_each() {
        let mut goes_on = part(10, 300, false);
        goes_on.join(&part(20, 100, false));
        let claims = [
            claim(0..10, vec![part(0, 100, true)]),
            claim(
                10..50,
                vec![goes_on, part(30, 50, true), part(40, 40, true)],
            ),
        ];
        let expected = [(0, 30, 3000, 300), (30, 40, 1000, 50), (40, 50, 1000, 40)];
        assert_eq!(seen(&of_claims(&claims, 0)), expected);
    }

    #[test]
    fn of_what_is_deleted_the_last_roll_stays_whole_until_the_next_begins() {
        let mut rolls = Vec::new();
        for next in [
            part(0, 100, true),
            part(10, 300, true),
            part(20, 200, false),
        ] {
            extend(&mut rolls, &next, next.base + 10);
        }
        forget(&mut rolls, 9);
        assert_eq!(rolls.len(), 2, "one record of the first is left");
        forget(&mut rolls, 30);
        assert_eq!(seen(&rolls), [(10, 30, 2000, 300)]);
        extend(&mut rolls, &part(30, 50, false), 40);
        forget(&mut rolls, 30);
        assert_eq!(seen(&rolls), [(10, 40, 3000, 300)]);
        forget(&mut rolls, 40);
        extend(&mut rolls, &part(40, 60, true), 50);
        forget(&mut rolls, 40);
        assert_eq!(seen(&rolls), [(40, 50, 1000, 60)]);
        forget(&mut Vec::new(), 5);
    }

    // U3: the claim after a repeat begins at the committed end, its object does not
    #[test]
    fn what_was_clipped_counts_once() {
        let claims = [
            claim(0..20, vec![part(0, 100, true), part(10, 200, true)]),
            claim(20..30, vec![part(10, 200, true), part(20, 300, true)]),
        ];
        let expected = [(0, 10, 1000, 100), (10, 20, 1000, 200), (20, 30, 1000, 300)];
        assert_eq!(seen(&of_claims(&claims, 0)), expected);
    }
}
