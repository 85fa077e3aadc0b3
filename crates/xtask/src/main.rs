//! What CI and people run: `cargo xtask test`.

mod broker;
mod clients;
mod crash;
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
mod suites;
mod tools;

use std::path::Path;

use anyhow::Result;
use clap::{Parser, Subcommand};
use highwater_kafka_peer::{jars, peer};

use crate::report::Report;
use crate::suites::Stage;

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
        /// These suites alone: the option repeats, and takes names with commas between them.
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Kill the real binary under load again and again, and look for every acknowledged record.
    Soak {
        /// For how long: the round that has begun then is finished.
        #[arg(long, default_value_t = 60)]
        minutes: u64,
        /// The seed of the first round; each further one has the next.
        #[arg(long, default_value_t = 0)]
        seed: u64,
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
        Command::Verify => verify(),
        Command::Test { require_all, only } => test(require_all, &only),
        Command::Soak { minutes, seed } => crash::soak(minutes, seed),
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
    report.suite("dist", dist::check);
    clients::run_all(report);
    scenario::run_all(report);
    franz_go::run_all(report);
    s3::run_all(report);
    s3_access::run_all(report);
}

fn verify() -> Result<()> {
    let asked = suites::ALL.iter();
    let asked = asked.filter(|suite| suite.stage == Stage::Verify);
    let mut report = Report::new(true, asked.collect());
    rust_alone(&mut report);
    report.finish()
}

fn test(require_all: bool, only: &[String]) -> Result<()> {
    let asked = suites::chosen(only)?;
    // a run of everything builds them in its suite `build`
    if !only.is_empty() && asked.iter().any(|suite| suite.needs_binaries) {
        rust::build_binaries()?;
    }
    let mut report = Report::new(require_all, asked);
    rust_alone(&mut report);
    rust::docs(&mut report);
    rust::fuzz(&mut report);
    clients(&mut report);
    report.finish()
}
