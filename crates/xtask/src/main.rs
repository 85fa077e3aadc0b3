//! The commands that CI and contributors run: `cargo xtask test` and others.

mod broker;
mod certificates;
mod clients;
mod clients_cluster;
mod clients_tls;
mod cluster;
mod crash;
mod differential;
mod dist;
mod franz_go;
mod image;
mod kubernetes;
mod overload;
mod planted;
mod policy;
mod programs;
mod python;
mod report;
mod rust;
mod s3;
mod s3_access;
mod scenario;
mod server;
mod suites;
mod time;
mod tools;
mod tools_cluster;
mod worktree;

use std::path::Path;
use std::process::ExitCode;

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
    /// Run the fast, read-only checks: format, generated files, tests, lints, policy.
    Verify,
    /// Run everything: verify, the documentation, fuzzing, and every suite with real clients.
    Test {
        /// Treat a missing runtime as a failure instead of skipping its suites, as CI does.
        #[arg(long)]
        require_all: bool,
        /// Run only these suites; may be repeated, and takes names separated by commas.
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Kill the real binary under load again and again, and look for every acknowledged record.
    Soak {
        /// What is repeated.
        #[arg(value_enum, default_value = "crash")]
        what: crash::Soaked,
        /// The duration in minutes; a round that has begun is finished.
        #[arg(long, default_value_t = 60)]
        minutes: u64,
        /// The seed of the first round; each following round has the next number.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Restart the nodes of a cluster under load from the binary of an earlier commit to this one.
    Upgrade {
        /// The commit, which is built in `target/former`.
        #[arg(long, value_name = "COMMIT")]
        from: String,
    },
    /// Build the binary that is published, target/dist/highwater, with its debug information beside it.
    Dist,
    /// Write the image of target/dist/highwater, which `dist` builds: an OCI layout, a tar file, and its list of contents.
    Image,
    /// Start a real Kubernetes on this machine, install the chart, and prove that it works.
    ///
    /// A control plane and three nodes run in namespaces of their own, with containerd, on Linux, as root. The first run
    /// builds Kubernetes, which takes a quarter of an hour. The image is built from this source, and MinIO is the object
    /// store. Everything is gone at the end. `cargo xtask test --only kubernetes` proves the same.
    Kubernetes {
        /// Prove only this point; may be repeated.
        #[arg(long, value_enum, value_name = "POINT")]
        only: Vec<kubernetes::Point>,
        /// Leave the cluster and the release up, also after a failure, and say how to reach them.
        #[arg(long)]
        keep: bool,
        /// End a cluster that `--keep` left up, and do nothing else.
        #[arg(long, conflicts_with_all = ["only", "keep"])]
        end: bool,
    },
    /// Plant known kinds of bugs in the last commit, and let the simulation of a cluster find each.
    Planted {
        /// Plant only these, as their patches in crates/sim/planted are named.
        names: Vec<String>,
        /// The number of seeds within which each must be found.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
    },
    /// Write the generated files: the messages from the schema, and the README's table of APIs.
    Codegen,
    /// Record what Apache Kafka's tools print against Apache Kafka, which the suite `tools` compares with.
    Goldens {
        /// Record only these transcripts.
        names: Vec<String>,
    },
    /// Record what Apache Kafka answers to clients that are older than it supports.
    OldAnswers,
    /// Run one transcript against Highwater and print the differences, even if it is pending.
    Transcript {
        /// The name of the transcript.
        name: String,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // without a stack trace, which would push what the suites printed out of a log that shows only its end
            report::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Verify => verify(),
        Command::Test { require_all, only } => test(require_all, &only),
        Command::Soak {
            what,
            minutes,
            seed,
        } => crash::soak(what, minutes, seed),
        Command::Upgrade { from } => crash::upgrade(&from),
        Command::Planted { names, seeds } => planted::find(&names, seeds),
        Command::Dist => dist::build(),
        Command::Image => image::build(),
        Command::Kubernetes { end: true, .. } => kubernetes::end(),
        Command::Kubernetes { only, keep, .. } => {
            dist::build()?;
            kubernetes::run(&only, keep)
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

/// The suites that need only the Rust toolchain: quick ones first, and the tests before the lints.
fn rust_alone(report: &mut Report) {
    rust::quick(report);
    rust::tests(report);
    rust::lints(report);
    policy::check(report);
}

/// The suites that run the binaries.
fn clients(report: &mut Report) {
    report.suite("dist", dist::check);
    kubernetes::run_all(report);
    clients::run_all(report);
    scenario::run_all(report);
    report.suite("clients-cluster", clients_cluster::play);
    report.suite("clients-tls", clients_tls::check);
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
    // a full run builds the binaries in its suites `build` and `tests`
    if !only.is_empty() && asked.iter().any(|suite| suite.needs_binaries) {
        rust::build_binaries()?;
    }
    let is_building = asked.iter().any(|suite| suite.name == kubernetes::SUITE);
    let building = is_building.then(kubernetes::begin_to_build).flatten();
    let mut report = Report::new(require_all, asked);
    rust_alone(&mut report);
    rust::docs(&mut report);
    rust::fuzz(&mut report);
    rust::build(&mut report);
    clients(&mut report);
    kubernetes::prove(&mut report, building);
    report.finish()
}
