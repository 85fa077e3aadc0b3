//! What ran, how long it took, and what came of it.

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};

/// What a suite answers.
pub(crate) enum Outcome {
    Passed,
    /// Something it needs is missing.
    Skipped(String),
}

/// The suites of one run.
pub(crate) struct Report {
    require_all: bool,
    only: Option<String>,
    /// Whether suites are only listed, not run.
    is_list: bool,
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
        // nobody reads
    }
}

impl Report {
    pub(crate) fn new(require_all: bool, only: Option<String>) -> Self {
        Self {
            require_all,
            only,
            is_list: false,
            rows: Vec::new(),
        }
    }

    /// A report that runs nothing and notes the name of each suite.
    pub(crate) fn list() -> Self {
        Self {
            is_list: true,
            ..Self::new(false, None)
        }
    }

    /// Takes the names of another list.
    pub(crate) fn extend(&mut self, other: &Self) {
        for (name, _, _) in &other.rows {
            self.rows.push((name.clone(), Duration::ZERO, Row::Passed));
        }
    }

    /// An error that lists the names when none of them is `name`.
    pub(crate) fn expect(&self, name: &str) -> Result<()> {
        let names: Vec<&str> = self.rows.iter().map(|(name, _, _)| name.as_str()).collect();
        if !names.contains(&name) {
            bail!("there is no suite {name}; there are: {}", names.join(", "));
        }
        Ok(())
    }

    /// Runs one suite; its budget is what it may take on two cores with an empty cache.
    pub(crate) fn suite(
        &mut self,
        name: &str,
        budget: Duration,
        body: impl FnOnce() -> Result<Outcome>,
    ) {
        if self.is_list {
            self.rows
                .push((name.to_owned(), Duration::ZERO, Row::Passed));
            return;
        }
        if self.only.as_ref().is_some_and(|only| only != name) {
            return;
        }
        say(&format!("== {name}"));
        #[expect(clippy::disallowed_methods, reason = "a tool's own time")]
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
        if took > budget {
            say(&format!(
                "-- {name} took {took:.0?}, over its budget of {budget:?}"
            ));
        }
        self.rows.push((name.to_owned(), took, row));
    }

    /// Prints the time of each suite and the sum; an error when one failed.
    pub(crate) fn finish(self) -> Result<()> {
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
