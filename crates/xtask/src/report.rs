//! Which suites ran, how long each took, and its outcome.

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::suites::{self, Suite};

/// The outcome of a suite.
pub(crate) enum Outcome {
    Passed,
    /// The suite was skipped because something it needs is missing.
    Skipped(String),
}

/// The suites of one run.
pub(crate) struct Report {
    require_all: bool,
    /// The suites to run.
    asked: Vec<&'static Suite>,
    rows: Vec<(String, Duration, Row)>,
}

enum Row {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Prints a line.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        // a closed standard output is no reason to fail
    }
}

impl Report {
    pub(crate) fn new(require_all: bool, asked: Vec<&'static Suite>) -> Self {
        Self {
            require_all,
            asked,
            rows: Vec::new(),
        }
    }

    /// Runs a suite if it was requested, and reports if it takes longer than its budget.
    pub(crate) fn suite(&mut self, name: &str, body: impl FnOnce() -> Result<Outcome>) {
        let Some(suite) = suites::find(name) else {
            let failed = Row::Failed("suites.rs doesn't list it".to_owned());
            self.rows.push((name.to_owned(), Duration::ZERO, failed));
            return;
        };
        if !self.asked.contains(&suite) {
            return;
        }
        say(&format!("== {name}"));
        #[expect(clippy::disallowed_methods, reason = "a tool measures real time")]
        let since = std::time::Instant::now();
        let row = match body() {
            Ok(Outcome::Passed) => Row::Passed,
            Ok(Outcome::Skipped(why)) if self.require_all => {
                Row::Failed(format!("needed with --require-all: {why}"))
            }
            Ok(Outcome::Skipped(why)) => Row::Skipped(why),
            Err(error) => Row::Failed(format!("{error:#}")),
        };
        let took = since.elapsed();
        if let Row::Failed(why) = &row {
            say(&format!("-- {name} FAILED: {why}"));
        }
        if took > suite.budget {
            say(&format!(
                "-- {name} took {took:.0?}, over its budget of {:?}",
                suite.budget
            ));
        }
        self.rows.push((name.to_owned(), took, row));
    }

    /// Prints the time of each suite and their sum; fails if a suite failed, or if no code runs a requested suite.
    pub(crate) fn finish(mut self) -> Result<()> {
        for suite in &self.asked {
            if !self.rows.iter().any(|(name, _, _)| name == suite.name) {
                let failed = Row::Failed("no code runs this suite".to_owned());
                let name = suite.name.to_owned();
                self.rows.push((name, Duration::ZERO, failed));
            }
        }
        let (mut passed, mut failed, mut skipped) = (0, 0, 0);
        say("");
        for (name, took, row) in &self.rows {
            let word = match row {
                Row::Passed => {
                    passed += 1;
                    "passed".to_owned()
                }
                Row::Failed(_) => {
                    failed += 1;
                    "FAILED".to_owned()
                }
                Row::Skipped(why) => {
                    skipped += 1;
                    format!("skipped: {why}")
                }
            };
            say(&format!("{name:<24} {:>7.1} s  {word}", took.as_secs_f64()));
        }
        say("");
        say(&format!(
            "{passed} passed, {failed} failed, {skipped} skipped"
        ));
        if failed > 0 {
            bail!("{failed} suite(s) failed");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn report(names: &[&str]) -> Report {
        let asked = names.iter().filter_map(|name| suites::find(name)).collect();
        Report::new(false, asked)
    }

    #[test]
    fn a_suite_runs_only_if_it_was_asked_for() {
        let mut report = report(&["fmt", "crash"]);
        let ran = Cell::new(0);
        for name in ["fmt", "tests", "crash"] {
            report.suite(name, || {
                ran.set(ran.get() + 1);
                Ok(Outcome::Passed)
            });
        }
        assert_eq!(ran.get(), 2);
        assert!(report.finish().is_ok());
    }

    #[test]
    fn a_suite_that_was_asked_for_and_did_not_run_fails() {
        assert!(report(&["fmt"]).finish().is_err());
    }

    #[test]
    fn a_suite_without_a_line_in_the_table_fails() {
        let mut report = report(&[]);
        report.suite("fmtt", || Ok(Outcome::Passed));
        assert!(report.finish().is_err());
    }

    #[test]
    fn what_is_skipped_fails_only_where_all_is_required() {
        for require_all in [false, true] {
            let mut report = Report {
                require_all,
                ..report(&["kcat"])
            };
            report.suite("kcat", || {
                Ok(Outcome::Skipped("kcat is missing".to_owned()))
            });
            assert_eq!(report.finish().is_err(), require_all);
        }
    }
}
