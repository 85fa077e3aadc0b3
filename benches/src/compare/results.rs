//! The figures of all runs, and the medians and ratios that follow from them.

use serde::Serialize;

/// The subject of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Subject {
    Highwater,
    Kafka,
    /// Kafka with `flush.messages=1`, which acknowledges after fsync, as Highwater does.
    KafkaFlush,
    Floor,
    /// The disk or the machine, not a broker.
    Machine,
}

impl Subject {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Highwater => "highwater",
            Self::Kafka => "kafka",
            Self::KafkaFlush => "kafka-flush",
            Self::Floor => "floor",
            Self::Machine => "machine",
        }
    }
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) case: &'static str,
    pub(super) metric: &'static str,
    pub(super) subject: Subject,
    /// Figures of one round are of the same minute, so ratios are computed within a round.
    pub(super) round: u32,
    pub(super) value: f64,
}

/// The median, the least and the greatest of some figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { median, min, max })
    }

    /// A ratio that is above one in some rounds and below one in others shows no difference.
    pub(super) fn is_tie(&self) -> bool {
        self.min <= 1.0 && self.max >= 1.0
    }
}

/// All figures of a run.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub(super) rows: Vec<Row>,
}

impl Results {
    fn find<'a>(
        &'a self,
        (case, metric): (&'a str, &'a str),
        subject: Subject,
    ) -> impl Iterator<Item = &'a Row> {
        let is_it =
            move |row: &&Row| row.case == case && row.metric == metric && row.subject == subject;
        self.rows.iter().filter(is_it)
    }

    pub(super) fn spread(&self, what: (&str, &str), subject: Subject) -> Option<Spread> {
        Spread::of(self.find(what, subject).map(|row| row.value).collect())
    }

    pub(super) fn median(&self, what: (&str, &str), subject: Subject) -> Option<f64> {
        Some(self.spread(what, subject)?.median)
    }

    /// Highwater's figure divided by another broker's, round by round.
    pub(super) fn ratio(&self, what: (&str, &str), of: Subject) -> Option<Spread> {
        let ratio = |own: &Row| {
            let mut others = self.find(what, of).filter(|row| row.round == own.round);
            Some(own.value / others.next()?.value)
        };
        let ratios = self.find(what, Subject::Highwater).filter_map(ratio);
        Spread::of(ratios.filter(|ratio| ratio.is_finite()).collect())
    }

    /// Highwater's figure minus another broker's, round by round.
    pub(super) fn difference(&self, what: (&str, &str), of: Subject) -> Option<Spread> {
        let difference = |own: &Row| {
            let mut others = self.find(what, of).filter(|row| row.round == own.round);
            Some(own.value - others.next()?.value)
        };
        Spread::of(
            self.find(what, Subject::Highwater)
                .filter_map(difference)
                .collect(),
        )
    }

    /// The cases and metrics that were measured, in their order.
    pub(super) fn measured(&self) -> Vec<(&'static str, &'static str)> {
        let mut all = Vec::new();
        for row in &self.rows {
            if !all.contains(&(row.case, row.metric)) {
                all.push((row.case, row.metric));
            }
        }
        // A case may be measured again; its rows belong together.
        let mut cases: Vec<&str> = Vec::new();
        for (case, _) in &all {
            if !cases.contains(case) {
                cases.push(case);
            }
        }
        all.sort_by_key(|(case, _)| cases.iter().position(|one| one == case));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut results = Results::default();
        for (round, own, other) in [(1, 1.0, 2.0), (2, 30.0, 20.0), (3, 4.0, 4.0)] {
            for (subject, value) in [(Subject::Highwater, own), (Subject::Kafka, other)] {
                results.rows.push(Row {
                    case: "case",
                    metric: "metric",
                    subject,
                    round,
                    value,
                });
            }
        }
        let ratio = results.ratio(("case", "metric"), Subject::Kafka);
        let ratio = ratio.expect("both are measured");
        let expected = Spread {
            median: 1.0,
            min: 0.5,
            max: 1.5,
        };
        assert_eq!(ratio, expected);
        assert!(ratio.is_tie());
        assert_eq!(results.ratio(("case", "metric"), Subject::Floor), None);
    }
}
