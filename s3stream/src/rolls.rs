//! The rolls of a stream, up to its last durable batch (F6). This code is pure.

use highwater_object_format::RollPart;
use highwater_types::{StreamOffset, Timestamp};

/// A roll [base, end). The last roll of a stream is the active one; the others are closed (F6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roll {
    /// The first offset.
    pub base: StreamOffset,
    /// The offset after the last one.
    pub end: StreamOffset,
    /// The bytes of its batches.
    pub bytes: u64,
    /// The largest timestamp, or -1.
    pub max_timestamp: Timestamp,
    /// The largest timestamp of its first batch, or -1; the roll's age counts from it.
    pub first_timestamp: Timestamp,
    /// The time when its first batch was appended, by the broker's clock.
    pub first_append: Timestamp,
    /// The time when its last batch was appended.
    pub last_append: Timestamp,
}

/// Adds a part of a stream, up to `end`, to the active roll, or begins a new roll with it.
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

/// Drops the rolls below the start, except the last one, which is active.
pub(crate) fn forget(rolls: &mut Vec<Roll>, start: StreamOffset) {
    let closed = rolls.split_last().map_or(&[][..], |(_, closed)| closed);
    let gone = closed.iter().take_while(|roll| roll.end <= start).count();
    rolls.drain(..gone);
}

/// Whether the batches from an offset on have at least so many bytes, if those of a roll are alike. Looks at the newest rolls
/// first, and at no more of them than it needs.
pub(crate) fn has_bytes(rolls: &[Roll], from: StreamOffset, bytes: u64) -> bool {
    let mut found: u64 = 0;
    for roll in rolls.iter().rev().take_while(|roll| roll.end > from) {
        let offsets = |first: StreamOffset| u64::try_from(roll.end - first).unwrap_or(0);
        let part = u128::from(roll.bytes) * u128::from(offsets(from.max(roll.base)));
        let part = part / u128::from(offsets(roll.base).max(1));
        found = found.saturating_add(u64::try_from(part).unwrap_or(u64::MAX));
        if found >= bytes {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use highwater_object_format::BatchEntry;

    use super::*;

    /// The part of a roll that is one batch of ten records and a thousand bytes, appended half a second after its
    /// timestamp.
    fn part(base: StreamOffset, timestamp: Timestamp, begins: bool) -> RollPart {
        let batch = BatchEntry {
            base,
            count: 10,
            bytes: 1000,
            max_timestamp: timestamp,
        };
        RollPart::from_batch(&batch, timestamp + 500, begins)
    }

    fn seen(rolls: &[Roll]) -> Vec<(StreamOffset, StreamOffset, u64, Timestamp)> {
        let one = |roll: &Roll| (roll.base, roll.end, roll.bytes, roll.max_timestamp);
        rolls.iter().map(one).collect()
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

    #[test]
    fn bytes_from_an_offset_on_are_those_of_later_rolls_and_a_part_of_its_own() {
        let mut rolls = Vec::new();
        for (base, begins) in [(0, true), (10, true), (20, true)] {
            extend(&mut rolls, &part(base, 50, begins), base + 10);
        }
        let all: u64 = rolls.iter().map(|roll| roll.bytes).sum();
        let each = all / 3;
        assert!(has_bytes(&rolls, 0, all) && !has_bytes(&rolls, 0, all + 1));
        assert!(has_bytes(&rolls, 15, each / 2 * 3) && !has_bytes(&rolls, 15, each * 2));
        assert!(
            has_bytes(&rolls, -5, all),
            "below the start all of it follows"
        );
        assert!(!has_bytes(&rolls, 30, 1) && !has_bytes(&[], 0, 1));
    }
}
