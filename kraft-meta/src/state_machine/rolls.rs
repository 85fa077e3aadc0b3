//! The rolls of a stream, summed up over its claims (rule F6).

use std::ops::Range;

use highwater_types::StreamOffset;

use crate::command::RollRecord;
use crate::image::StreamImage;

impl StreamImage {
    /// Adds a claim's parts of each roll, in order. Parts below the claim's start were clipped (U3), and are counted in
    /// the claim before it.
    pub(super) fn add_rolls(&mut self, parts: &[RollRecord], claim: Range<StreamOffset>) {
        let ends = parts.iter().skip(1).map(|part| part.base);
        for (part, end) in parts.iter().zip(ends.chain([claim.end])) {
            if end > claim.start {
                self.add_roll(part);
            }
        }
    }

    fn add_roll(&mut self, part: &RollRecord) {
        let active = self.rolls.get_max().map(|(base, _)| *base);
        if let Some(base) = active.filter(|_| !part.begins)
            && let Some(active) = self.rolls.get_mut(&base)
        {
            active.bytes = active.bytes.saturating_add(part.bytes);
            active.max_timestamp = active.max_timestamp.max(part.max_timestamp);
            active.last_append = part.last_append;
            return;
        }
        // If the claim before ended within the roll, this part has all of it and replaces it.
        let begun = RollRecord {
            begins: true,
            ..*part
        };
        self.rolls.insert(part.base, begun);
    }

    /// Drops the rolls that end at or below the start, except the last one: it is the active roll, and always counts as
    /// a whole.
    pub(super) fn forget_rolls(&mut self) {
        let start = self.start;
        while self.rolls.keys().nth(1).is_some_and(|next| *next <= start) {
            self.rolls = self.rolls.without_min().1;
        }
    }
}
