//! Where a log rolls and where it starts (F6), by Kafka's rules and from the batches of its only producer. A restart
//! changes neither.

use std::collections::{BTreeSet, VecDeque};

/// How a topic rolls, and its retention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeps {
    pub(crate) segment_ms: i64,
    pub(crate) segment_bytes: i64,
    /// -1 keeps records for ever.
    pub(crate) retention_ms: i64,
    /// -1 keeps all records.
    pub(crate) retention_bytes: i64,
}

/// A batch as it was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) records: i64,
    pub(crate) bytes: i64,
    /// The timestamp of all its records, which is never less than that of the batch before.
    pub(crate) timestamp: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Roll {
    end: i64,
    bytes: i64,
    first_timestamp: i64,
    max_timestamp: i64,
}

type Rolls = Vec<Roll>;

/// All logs that are possible. There are several because a batch may or may not be appended yet, and because a batch
/// that comes when all before it has expired begins a roll if retention ran first.
#[derive(Debug)]
pub(super) struct Retention {
    keeps: Keeps,
    /// The possible rolls of all batches that were answered.
    answered: BTreeSet<Rolls>,
    /// The end offset of all these logs.
    end: i64,
    on_their_way: VecDeque<Sent>,
}

impl Retention {
    pub(super) fn new(keeps: Keeps) -> Self {
        Self {
            keeps,
            answered: BTreeSet::from([Rolls::new()]),
            end: 0,
            on_their_way: VecDeque::new(),
        }
    }

    pub(super) fn sends(&mut self, batch: Sent) {
        self.on_their_way.push_back(batch);
    }

    pub(super) fn appended(&mut self, now_ms: i64) {
        if let Some(batch) = self.on_their_way.pop_front() {
            self.answered = self.append(&self.answered, self.end, batch, now_ms);
            self.end += batch.records;
        }
    }

    /// Forgets everything below a log start that a client saw.
    pub(super) fn starts_at(&mut self, start: i64) {
        let answered = std::mem::take(&mut self.answered);
        let left = answered.into_iter().map(|mut rolls| {
            rolls.retain(|roll| roll.end > start);
            rolls
        });
        self.answered = left.collect();
    }

    fn append(
        &self,
        logs: &BTreeSet<Rolls>,
        base: i64,
        batch: Sent,
        now_ms: i64,
    ) -> BTreeSet<Rolls> {
        let next = Roll {
            end: base + batch.records,
            bytes: batch.bytes,
            first_timestamp: batch.timestamp,
            max_timestamp: batch.timestamp,
        };
        let mut all = BTreeSet::new();
        for rolls in logs {
            let active = rolls.last().filter(|active| {
                active.bytes + batch.bytes <= self.keeps.segment_bytes
                    && batch.timestamp - active.first_timestamp <= self.keeps.segment_ms
            });
            let Some(active) = active else {
                all.insert([rolls.as_slice(), &[next]].concat());
                continue;
            };
            let mut joined = rolls.clone();
            joined.pop();
            joined.push(Roll {
                end: next.end,
                bytes: active.bytes + batch.bytes,
                max_timestamp: active.max_timestamp.max(batch.timestamp),
                ..*active
            });
            all.insert(joined);
            if self.start(rolls, now_ms) == base {
                all.insert([rolls.as_slice(), &[next]].concat());
            }
        }
        all
    }

    /// Follows `UnifiedLog.deleteOldSegments`.
    fn start(&self, rolls: &Rolls, now_ms: i64) -> i64 {
        let keeps = &self.keeps;
        let mut left: i64 = rolls.iter().map(|roll| roll.bytes).sum();
        let mut start = 0;
        for roll in rolls {
            let expired =
                keeps.retention_ms >= 0 && now_ms - roll.max_timestamp > keeps.retention_ms;
            left -= roll.bytes;
            let over = keeps.retention_bytes >= 0 && left >= keeps.retention_bytes;
            if !expired && !over {
                break;
            }
            start = roll.end;
        }
        start
    }

    fn starts(&self, now_ms: i64) -> Vec<i64> {
        let mut logs = self.answered.clone();
        let mut starts: Vec<i64> = logs.iter().map(|rolls| self.start(rolls, now_ms)).collect();
        let mut end = self.end;
        for batch in &self.on_their_way {
            logs = self.append(&logs, end, *batch, now_ms);
            end += batch.records;
            starts.extend(logs.iter().map(|rolls| self.start(rolls, now_ms)));
        }
        starts
    }

    /// The latest possible log start.
    pub(super) fn latest_start(&self, now_ms: i64) -> i64 {
        self.starts(now_ms).into_iter().max().unwrap_or(0)
    }

    /// The offset that the log start must have reached once retention has run.
    pub(super) fn earliest_start(&self, then_ms: i64) -> i64 {
        self.starts(then_ms).into_iter().min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps() -> Keeps {
        Keeps {
            segment_ms: 100,
            segment_bytes: 1000,
            retention_ms: 500,
            retention_bytes: -1,
        }
    }

    fn of(keeps: Keeps, batches: &[(i64, i64)]) -> Retention {
        let mut retention = Retention::new(keeps);
        for (timestamp, bytes) in batches {
            retention.sends(Sent {
                records: 1,
                bytes: *bytes,
                timestamp: *timestamp,
            });
            retention.appended(*timestamp);
        }
        retention
    }

    fn bounds(retention: &Retention, now_ms: i64) -> (i64, i64) {
        (
            retention.earliest_start(now_ms),
            retention.latest_start(now_ms),
        )
    }

    #[test]
    fn whole_rolls_expire_by_their_largest_timestamp() {
        let retention = of(keeps(), &[(0, 1), (100, 1), (101, 1), (150, 1)]);
        assert_eq!(bounds(&retention, 600), (0, 0));
        assert_eq!(bounds(&retention, 601), (2, 2));
        assert_eq!(bounds(&retention, 651), (4, 4));
    }

    #[test]
    fn what_is_over_the_size_goes_but_not_the_active_roll() {
        let keeps = Keeps {
            retention_ms: -1,
            retention_bytes: 900,
            ..keeps()
        };
        let retention = of(keeps, &[(0, 600), (0, 500), (0, 500), (0, 400)]);
        assert_eq!(bounds(&retention, 0), (1, 1));
    }

    #[test]
    fn a_batch_on_its_way_may_be_there_or_not() {
        let keeps = Keeps {
            retention_ms: -1,
            retention_bytes: 900,
            ..keeps()
        };
        let mut retention = of(keeps, &[(0, 600), (0, 600)]);
        retention.sends(Sent {
            records: 1,
            bytes: 900,
            timestamp: 0,
        });
        assert_eq!(bounds(&retention, 0), (0, 2));
        retention.appended(0);
        assert_eq!(bounds(&retention, 0), (2, 2));
    }

    // A retry keeps its timestamp, and batches before it may have expired since.
    #[test]
    fn a_late_batch_joins_the_roll_or_begins_one_if_retention_was_first() {
        let mut retention = of(keeps(), &[(0, 1)]);
        retention.sends(Sent {
            records: 1,
            bytes: 1,
            timestamp: 60,
        });
        assert_eq!(bounds(&retention, 540), (0, 1));
        retention.appended(540);
        assert_eq!(bounds(&retention, 540), (0, 1));
        retention.sends(Sent {
            records: 1,
            bytes: 1,
            timestamp: 140,
        });
        retention.appended(600);
        assert_eq!(
            bounds(&retention, 600),
            (1, 2),
            "is of the second's roll, or not"
        );
        retention.starts_at(2);
        assert_eq!(bounds(&retention, 640), (0, 0));
        assert_eq!(bounds(&retention, 641), (3, 3));
    }
}
