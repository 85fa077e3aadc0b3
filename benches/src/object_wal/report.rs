//! What was measured, beside the goals.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::compare::Spread;
use crate::{machine, say};

/// A bound that a median is to keep.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_reached(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

const GOALS: &[(&str, &str, Goal)] = &[
    ("one-lifted", "p50 / put p50", Goal::AtMost(1.3)),
    ("one-lifted", "p99 / put p99", Goal::AtMost(1.5)),
    ("five-16k-lifted", "share of allowed", Goal::AtLeast(0.9)),
    ("large-lifted", "MB/s", Goal::AtLeast(65.0)),
    ("idle", "requests/minute", Goal::AtMost(0.0)),
    ("cost", "cpu object / disk", Goal::AtMost(1.2)),
    ("takeover", "fence to first ack s", Goal::AtMost(1.0)),
    ("controller", "produce failures", Goal::AtMost(0.0)),
    ("controller", "admin works after s", Goal::AtMost(3.0)),
];

/// One figure with its values, one for each round.
#[derive(Debug, Serialize)]
struct Row {
    case: &'static str,
    metric: &'static str,
    values: Vec<f64>,
    spread: Option<Spread>,
    goal: Option<Goal>,
    is_reached: Option<bool>,
}

/// All figures of a run.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Row>);

impl Report {
    /// Notes the value of one round.
    pub(super) fn note(&mut self, case: &'static str, metric: &'static str, value: f64) {
        let found = self.0.iter_mut();
        let mut found = found.filter(|row| row.case == case && row.metric == metric);
        if let Some(row) = found.next() {
            return row.values.push(value);
        }
        let mut goals = GOALS.iter();
        let goal = goals.find(|(of, about, _)| *of == case && *about == metric);
        self.0.push(Row {
            case,
            metric,
            values: vec![value],
            spread: None,
            goal: goal.map(|(_, _, goal)| *goal),
            is_reached: None,
        });
    }

    /// Prints all figures, and writes `object-wal.json` and `object-wal.csv`.
    pub(super) fn write(mut self, dir: &Path, load_before: f64) -> Result<()> {
        let mut table = String::new();
        let mut csv = "case,metric,round,value\n".to_owned();
        for row in &mut self.0 {
            row.spread = Spread::of(row.values.clone());
            let Some(spread) = row.spread else { continue };
            row.is_reached = row.goal.map(|goal| goal.is_reached(spread.median));
            let (case, metric) = (row.case, row.metric);
            write!(table, "{case:<16} {metric:<26} {:>10.3}", spread.median)?;
            write!(table, "  ({:.3} to {:.3})", spread.min, spread.max)?;
            match (row.goal, row.is_reached) {
                (Some(Goal::AtMost(bound)), Some(reached)) => {
                    write!(table, "  goal at most {bound}: {}", word(reached))?;
                }
                (Some(Goal::AtLeast(bound)), Some(reached)) => {
                    write!(table, "  goal at least {bound}: {}", word(reached))?;
                }
                _ => {}
            }
            writeln!(table)?;
            for (round, value) in (1..).zip(&row.values) {
                writeln!(csv, "{case},{metric},{round},{value}")?;
            }
        }
        say(&format!("\nmedian (least to greatest)\n{table}"))?;
        let cores = std::thread::available_parallelism()?;
        let load = machine::load()?;
        say(&format!(
            "{cores} cores, load {load_before:.2} before and {load:.2} after"
        ))?;
        std::fs::write(dir.join("object-wal.csv"), csv)?;
        let json = serde_json::to_string_pretty(&self.0)?;
        std::fs::write(dir.join("object-wal.json"), json)?;
        say(&format!(
            "{}/object-wal.json and object-wal.csv are written",
            dir.display()
        ))
    }
}

fn word(is_reached: bool) -> &'static str {
    match is_reached {
        true => "reached",
        false => "missed",
    }
}
