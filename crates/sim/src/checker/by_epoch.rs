//! Values that never go back within a leader epoch, and from an epoch to a later one.

use std::collections::BTreeMap;

/// The largest value that was seen in each leader epoch.
///
/// A broker that was fenced and does not know it yet may answer reads with what it has. So an answer must be as new as
/// everything that was seen in its own epoch and in earlier ones, and later epochs say nothing about it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ByEpoch(BTreeMap<i32, i64>);

impl ByEpoch {
    pub(crate) fn note(&mut self, epoch: i32, value: i64) {
        let largest = self.0.entry(epoch).or_default();
        *largest = value.max(*largest);
    }

    /// The largest value in this epoch and earlier ones; 0 if there is none.
    pub(crate) fn until(&self, epoch: i32) -> i64 {
        self.0
            .range(..=epoch)
            .map(|(_, value)| *value)
            .max()
            .unwrap_or(0)
    }

    /// The largest value of all.
    pub(crate) fn last(&self) -> i64 {
        self.until(i32::MAX)
    }
}
