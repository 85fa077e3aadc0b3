//! What CI and people run: `cargo xtask test`.

mod broker;
mod clients;
mod differential;
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

use anyhow::Result;
use clap::{Parser, Subcommand};
use highwater_kafka_peer::{jars, peer};

use crate::report::Report;

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
            policy::check(&mut report);
            rust::verify(&mut report);
            report.finish()
        }
        Command::Test { require_all, only } => {
            let mut report = Report::new(require_all, only);
            policy::check(&mut report);
            rust::verify(&mut report);
            rust::docs(&mut report);
            rust::fuzz(&mut report);
            clients::run_all(&mut report);
            scenario::run_all(&mut report);
            franz_go::run_all(&mut report);
            s3::run_all(&mut report);
            s3_access::run_all(&mut report);
            report.finish()
        }
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
