//! What CI and people run: `cargo xtask test`.

mod broker;
mod clients;
mod differential;
mod dist;
mod franz_go;
mod overload;
mod policy;
mod python;
mod report;
mod rust;
mod s3;
mod s3_access;
mod scenario;
mod server;
mod tools;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use highwater_kafka_peer::{jars, peer};

use crate::report::Report;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
#[command(name = "xtask", about = "Tests and generated files of Highwater")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The fast checks, read-only: policy, format, lints, tests, generated files.
    Verify,
    /// Everything: verify, documentation, fuzzing, and every real-client suite against the real binary.
    Test {
        /// A missing runtime is a failure, not a skip: CI.
        #[arg(long)]
        require_all: bool,
        /// One suite alone.
        #[arg(long)]
        only: Option<String>,
    },
    /// Build the binary that is published: target/dist/highwater, its debug information beside it.
    Dist,
    /// Write the generated files anew: messages from the schema, the README's matrix.
    Codegen,
    /// Record anew what Apache Kafka's tools say to Apache Kafka: the goldens of the suite `tools`.
    Goldens {
        /// These transcripts alone.
        names: Vec<String>,
    },
    /// Record anew what Apache Kafka answers clients older than it takes.
    OldAnswers,
    /// Run one transcript against Highwater and print how it differs: also those that are pending.
    Transcript {
        /// Its name.
        name: String,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Verify => {
            let mut report = Report::new(true, None);
            rust_alone(&mut report);
            report.finish()
        }
        Command::Test { require_all, only } => test(require_all, only),
        Command::Dist => dist::build(),
        Command::Codegen => {
            let files = highwater_codegen::generate(
                Path::new("protocol/schema"),
                Path::new("protocol/src/generated"),
                false,
            )?;
            report::say(&format!("{files} generated files"));
            rust::write_matrix()
        }
        Command::Goldens { names } => tools::record(&names),
        Command::OldAnswers => scenario::record_old_answers(),
        Command::Transcript { name } => tools::show(&name),
    }
}

/// The suites that need nothing but the Rust toolchain; the quick ones first, the tests before the lints.
fn rust_alone(report: &mut Report) {
    rust::quick(report);
    rust::tests(report);
    rust::lints(report);
    policy::check(report);
}

/// The suites that run what was built.
fn clients(report: &mut Report) {
    report.suite("dist", 12 * MINUTE, dist::check);
    clients::run_all(report);
    scenario::run_all(report);
    franz_go::run_all(report);
    s3::run_all(report);
    s3_access::run_all(report);
}

fn test(require_all: bool, only: Option<String>) -> Result<()> {
    let without_binaries = |report: &mut Report| {
        rust_alone(report);
        rust::docs(report);
        rust::fuzz(report);
    };
    if let Some(only) = &only {
        let mut needing = Report::list();
        clients(&mut needing);
        let mut all = Report::list();
        without_binaries(&mut all);
        all.extend(&needing);
        all.expect(only)?;
        if needing.expect(only).is_ok() {
            rust::build_binaries()?;
        }
    }
    let mut report = Report::new(require_all, only);
    without_binaries(&mut report);
    clients(&mut report);
    report.finish()
}
