//! Which suites ran, how long each took, and its outcome.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::suites::{self, Suite};
use crate::time::now;

/// The number of suites that run at the same time where several may.
const AT_ONCE: usize = 2;
/// The lines of the reason of a failure that the end of a run repeats.
const LINES_REPEATED_MAX: usize = 20;

/// What a suite does.
pub(crate) type Body<'a> = Box<dyn FnOnce() -> Result<Outcome> + Send + 'a>;

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
            self.not_listed(name);
            return;
        };
        if self.asked.contains(&suite) {
            let (took, row) = run(suite, self.require_all, body);
            self.rows.push((name.to_owned(), took, row));
        }
    }

    /// Runs those of the suites that were requested, two at the same time: for suites whose programs wait most of the
    /// time. What they print is mixed.
    pub(crate) fn together(&mut self, suites: Vec<(&str, Body<'_>)>) {
        let mut asked = VecDeque::new();
        for (name, body) in suites {
            match suites::find(name) {
                Some(suite) if self.asked.contains(&suite) => asked.push_back((suite, body)),
                Some(_) => {}
                None => self.not_listed(name),
            }
        }
        let require_all = self.require_all;
        let (waiting, rows) = (Mutex::new(asked), Mutex::new(&mut self.rows));
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let Some((suite, body)) = locked(&waiting).pop_front() else {
                            return;
                        };
                        let (took, row) = run(suite, require_all, body);
                        locked(&rows).push((suite.name.to_owned(), took, row));
                    }
                });
            }
        });
    }

    fn not_listed(&mut self, name: &str) {
        let failed = Row::Failed("suites.rs doesn't list it".to_owned());
        self.rows.push((name.to_owned(), Duration::ZERO, failed));
    }

    /// Prints the time of each suite and their sum, and again why suites failed; fails if one did, or if no code runs a
    /// requested suite.
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
        for (name, _, row) in &self.rows {
            if let Row::Failed(why) = row {
                say(&format!("-- {name} FAILED: {}", beginning(why)));
            }
        }
        say(&format!(
            "{passed} passed, {failed} failed, {skipped} skipped"
        ));
        if failed > 0 {
            bail!("{failed} suite(s) failed");
        }
        Ok(())
    }
}

/// The first lines of a text that may be long.
fn beginning(text: &str) -> String {
    let lines: Vec<&str> = text.lines().take(LINES_REPEATED_MAX).collect();
    lines.join("\n")
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one suite, and says if it fails or takes longer than its budget.
fn run(
    suite: &Suite,
    require_all: bool,
    body: impl FnOnce() -> Result<Outcome>,
) -> (Duration, Row) {
    let name = suite.name;
    say(&format!("== {name}"));
    let since = now();
    let row = match body() {
        Ok(Outcome::Passed) => Row::Passed,
        Ok(Outcome::Skipped(why)) if require_all => {
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
    (took, row)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

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
    fn suites_that_run_together_are_those_asked_for_and_two_at_the_same_time() {
        let mut report = report(&["kcat", "fmt"]);
        let (both, ran) = (Barrier::new(2), AtomicUsize::new(0));
        let body = || {
            ran.fetch_add(1, Ordering::Relaxed);
            both.wait();
            Ok(Outcome::Passed)
        };
        let suites = ["kcat", "crash", "fmt"].map(|name| (name, Box::new(body) as Body<'_>));
        report.together(suites.into());
        assert_eq!(ran.into_inner(), 2);
        assert!(report.finish().is_ok());
    }

    #[test]
    fn a_suite_that_fails_beside_another_fails_the_run() {
        let mut report = report(&["kcat", "fmt"]);
        report.together(vec![
            ("kcat", Box::new(|| Ok(Outcome::Passed))),
            ("fmt", Box::new(|| bail!("a difference"))),
        ]);
        assert!(report.finish().is_err());
    }

    #[test]
    fn a_suite_without_a_line_in_the_table_fails() {
        let mut alone = report(&[]);
        alone.suite("fmtt", || Ok(Outcome::Passed));
        assert!(alone.finish().is_err());
        let mut together = report(&[]);
        together.together(vec![("fmtt", Box::new(|| Ok(Outcome::Passed)))]);
        assert!(together.finish().is_err());
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
