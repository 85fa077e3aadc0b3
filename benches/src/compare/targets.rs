//! The targets for Highwater beside Apache Kafka, and whether it reached them.

use std::fmt;

use serde::Serialize;

use super::disk;
use super::results::{Results, Spread, Subject};

/// The verdict on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Reached,
    Missed,
    /// Better in some rounds and worse in others.
    Tie,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reached => "reached",
            Self::Missed => "MISSED",
            Self::Tie => "tie",
        })
    }
}

/// One target beside the measured figures.
#[derive(Debug, Serialize)]
pub(super) struct Target {
    pub(super) case: &'static str,
    pub(super) what: String,
    pub(super) limit: f64,
    pub(super) measured: Spread,
    pub(super) verdict: Verdict,
}

/// The limit of a target, and the direction that is good.
#[derive(Debug, Clone, Copy)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Limit {
    fn judge(self, measured: &Spread) -> Verdict {
        let limit = self.value();
        let is_met = match self {
            Self::AtMost(_) => measured.median <= limit,
            Self::AtLeast(_) => measured.median >= limit,
        };
        // A target of "no worse" concerns the comparison itself, so a tie is possible; other targets have a margin.
        let is_comparison = (limit - 1.0).abs() < f64::EPSILON;
        match is_met {
            _ if is_comparison && measured.is_tie() => Verdict::Tie,
            true => Verdict::Reached,
            false => Verdict::Missed,
        }
    }

    fn value(self) -> f64 {
        match self {
            Self::AtMost(limit) | Self::AtLeast(limit) => limit,
        }
    }
}

/// A target on a ratio: the beginning of the cases' names, the metric, the other subject, and the limit.
const RATIOS: &[(&str, &str, Subject, Limit)] = &[
    ("produce-", "cpu s/GiB", Subject::Kafka, Limit::AtMost(0.5)),
    ("first-", "cpu s/GiB", Subject::Kafka, Limit::AtMost(0.25)),
    ("tail-", "cpu s/GiB", Subject::Kafka, Limit::AtMost(1.0)),
    ("saturated-", "MiB/s", Subject::Kafka, Limit::AtLeast(2.0)),
    ("one", "ack p50 us", Subject::KafkaFlush, Limit::AtMost(1.0)),
    (
        "one",
        "end-to-end p50 us",
        Subject::KafkaFlush,
        Limit::AtMost(1.0),
    ),
    ("one", "ack p99 us", Subject::Kafka, Limit::AtMost(1.0)),
    ("one", "ack p99 us", Subject::KafkaFlush, Limit::AtMost(1.0)),
    (
        "one",
        "end-to-end p99 us",
        Subject::Kafka,
        Limit::AtMost(1.0),
    ),
    (
        "one",
        "end-to-end p99 us",
        Subject::KafkaFlush,
        Limit::AtMost(1.0),
    ),
    ("half", "ack p99 us", Subject::Kafka, Limit::AtMost(1.0)),
    (
        "half",
        "end-to-end p99 us",
        Subject::Kafka,
        Limit::AtMost(1.0),
    ),
    (
        "half",
        "ack p99 us",
        Subject::KafkaFlush,
        Limit::AtMost(1.0),
    ),
    (
        "half",
        "end-to-end p99 us",
        Subject::KafkaFlush,
        Limit::AtMost(1.0),
    ),
    (
        "java-produce",
        "MB/s",
        Subject::KafkaFlush,
        Limit::AtLeast(5.0),
    ),
];

/// A target on Highwater's own figure.
const ABSOLUTES: &[(&str, &str, f64)] = &[
    ("idle", "resident MB", 40.0),
    ("idle", "cpu % of a core", 0.5),
    ("start", "listens after ms", 300.0),
];

const OVER_KAFKA_MAX: f64 = 1.5;

/// The targets whose cases were measured.
pub(super) fn judge(results: &Results) -> Vec<Target> {
    let measured = results.measured();
    let mut targets = Vec::new();
    for &(cases, metric, of, limit) in RATIOS {
        for &(case, _) in measured
            .iter()
            .filter(|(case, one)| case.starts_with(cases) && *one == metric)
        {
            let Some(ratio) = results.ratio((case, metric), of) else {
                continue;
            };
            let sign = match limit {
                Limit::AtMost(_) => "<=",
                Limit::AtLeast(_) => ">=",
            };
            targets.push(Target {
                case,
                what: format!("{metric} / {} {sign} {}", of.name(), limit.value()),
                limit: limit.value(),
                measured: ratio,
                verdict: limit.judge(&ratio),
            });
        }
    }
    targets.extend(over_kafka(results));
    for &(case, metric, limit) in ABSOLUTES {
        if let Some(spread) = results.spread((case, metric), Subject::Highwater) {
            let verdict = if spread.median < limit {
                Verdict::Reached
            } else {
                Verdict::Missed
            };
            targets.push(Target {
                case,
                what: format!("{metric} < {limit}"),
                limit,
                measured: spread,
                verdict,
            });
        }
    }
    targets
}

/// The latency of one request at a time above that of Kafka with its defaults, in units of this disk's fdatasync.
fn over_kafka(results: &Results) -> Option<Target> {
    const CASE: &str = "one";
    let sync = results.median((CASE, disk::METRIC), Subject::Machine)?;
    let over = results.difference((CASE, "ack p50 us"), Subject::Kafka)?;
    let measured = Spread {
        median: over.median / sync,
        min: over.min / sync,
        max: over.max / sync,
    };
    let limit = Limit::AtMost(OVER_KAFKA_MAX);
    Some(Target {
        case: CASE,
        what: format!("(ack p50 - kafka's) / fdatasync p50 <= {OVER_KAFKA_MAX}"),
        limit: OVER_KAFKA_MAX,
        measured,
        verdict: limit.judge(&measured),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_comparison_can_be_a_tie() {
        let spread = |median, min, max| Spread { median, min, max };
        let around_one = spread(0.9, 0.8, 1.1);
        assert_eq!(Limit::AtMost(1.0).judge(&around_one), Verdict::Tie);
        assert_eq!(Limit::AtMost(0.5).judge(&around_one), Verdict::Missed);
        let low = spread(0.4, 0.3, 0.6);
        assert_eq!(Limit::AtMost(0.5).judge(&low), Verdict::Reached);
        assert_eq!(Limit::AtMost(1.0).judge(&low), Verdict::Reached);
        assert_eq!(Limit::AtLeast(2.0).judge(&low), Verdict::Missed);
    }
}
