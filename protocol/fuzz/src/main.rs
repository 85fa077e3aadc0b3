//! Feeds damaged input to code that reads from the network: `fuzz TARGET --seconds 20 --seed 1`.
//!
//! A failure is a panic, or an allocation that is too large for the size of the input. It runs on the stable
//! toolchain without instrumentation. The inputs are valid encodings and requests of real clients, which are then
//! damaged.

mod allocator;
mod campaign;
mod captured;
mod mutate;
mod targets;

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;

use crate::targets::TARGETS;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

#[derive(Debug, Parser)]
#[command(
    name = "fuzz",
    about = "Feeds damaged input to code that reads from the network"
)]
struct Cli {
    /// The target: requests, answers, records, decompression, or all.
    target: String,
    /// How long each target runs, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The seed, which is printed; random if left out.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs the target only with the content of this file.
    #[arg(long)]
    input: Option<PathBuf>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let wanted = |target: &&campaign::Target| cli.target == "all" || cli.target == target.name;
    let targets: Vec<_> = TARGETS.iter().filter(wanted).collect();
    if targets.is_empty() {
        bail!("there is no target {}", cli.target);
    }
    let seed = cli.seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    let mut out = std::io::stdout();
    for target in targets {
        if let Some(path) = &cli.input {
            let accepted = campaign::check(target, &std::fs::read(path)?)?;
            writeln!(out, "{}: accepted={accepted}", target.name)?;
            continue;
        }
        writeln!(out, "{}: seed {seed}", target.name)?;
        let time = Duration::from_secs(cli.seconds);
        let tried = campaign::run(target, seed, time, Path::new("target/fuzz"))?;
        let (inputs, accepted) = (tried.inputs, tried.accepted);
        writeln!(out, "{}: {inputs} inputs, {accepted} accepted", target.name)?;
    }
    Ok(())
}
