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
pub(crate) enum Goal {
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

/// The goals of a benchmark: case, figure and bound.
pub(crate) type Goals = &'static [(&'static str, &'static str, Goal)];

/// One figure with its values, one for each round.
#[derive(Debug, Serialize)]
struct Row {
    case: String,
    metric: &'static str,
    values: Vec<f64>,
    spread: Option<Spread>,
    goal: Option<Goal>,
    is_reached: Option<bool>,
}

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    /// The name of its files.
    name: &'static str,
    goals: Goals,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(name: &'static str, goals: Goals) -> Self {
        Self {
            name,
            goals,
            rows: Vec::new(),
        }
    }

    /// Notes the value of one round.
    pub(crate) fn note(&mut self, case: &str, metric: &'static str, value: f64) {
        let found = self.rows.iter_mut();
        let mut found = found.filter(|row| row.case == case && row.metric == metric);
        if let Some(row) = found.next() {
            return row.values.push(value);
        }
        let mut goals = self.goals.iter();
        let goal = goals.find(|(of, about, _)| *of == case && *about == metric);
        self.rows.push(Row {
            case: case.to_owned(),
            metric,
            values: vec![value],
            spread: None,
            goal: goal.map(|(_, _, goal)| *goal),
            is_reached: None,
        });
    }

    /// Prints all figures, and writes them to a JSON and a CSV file of the report's name.
    pub(crate) fn write(mut self, dir: &Path, load_before: f64) -> Result<()> {
        let mut table = String::new();
        let mut csv = "case,metric,round,value\n".to_owned();
        for row in &mut self.rows {
            row.spread = Spread::of(row.values.clone());
            let Some(spread) = row.spread else { continue };
            row.is_reached = row.goal.map(|goal| goal.is_reached(spread.median));
            let (case, metric) = (&row.case, row.metric);
            write!(table, "{case:<24} {metric:<28} {:>10.3}", spread.median)?;
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
        let name = self.name;
        std::fs::write(dir.join(format!("{name}.csv")), csv)?;
        let json = serde_json::to_string_pretty(&self.rows)?;
        std::fs::write(dir.join(format!("{name}.json")), json)?;
        say(&format!(
            "{}/{name}.json and {name}.csv are written",
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
