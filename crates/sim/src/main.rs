//! Runs seeds: one seed again, with its trace, or many in search of one that fails.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use clap::Parser;
use highwater_sim::{Options, StoreKind, SyncClass, Trace, WalOfRun, run};

/// Simulates a node or a cluster, its disks, its object store and its clients.
#[derive(Debug, Parser)]
struct Cli {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The number of seeds, which run one after the other.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Lets the disk answer one class of syncs without doing them.
    #[arg(long)]
    lie: Option<SyncClass>,
    /// The object store: `directory`, `failing`, or `forgetting`, in which the checker must find a loss.
    #[arg(long, default_value = "directory")]
    store: StoreKind,
    /// The write-ahead log: `disk`, `object`, or `changing`, where each process of the node draws its kind.
    #[arg(long, default_value = "disk")]
    wal: WalOfRun,
    /// Runs three brokers and their controllers in place of one node. The seed decides how many controllers there are,
    /// where the write-ahead logs are, and whether the store fails.
    #[arg(long)]
    cluster: bool,
    /// Writes every event of the trace to a file, to be compared with that of another run.
    #[arg(long, value_name = "FILE")]
    trace: Option<std::path::PathBuf>,
    /// How often to run each seed in one process; `--trace` then writes a file for each run, with the run's number at
    /// its end.
    #[arg(long, default_value_t = 1)]
    repeat: u64,
    /// Ends after the first seed that fails.
    #[arg(long)]
    until_failure: bool,
    /// Prints how often each class of syncs had something to do.
    #[arg(long)]
    syncs: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    match seeds(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!(%error, "cannot write");
            ExitCode::FAILURE
        }
    }
}

fn seeds(cli: &Cli) -> std::io::Result<bool> {
    let mut out = std::io::stdout();
    let mut sound = true;
    let repeats = 0..cli.repeat;
    let all = (cli.seed..cli.seed + cli.count)
        .flat_map(|seed| repeats.clone().map(move |number| (seed, number)));
    for (seed, number) in all {
        let trace = match &cli.trace {
            Some(path) => {
                let mut path = path.clone().into_os_string();
                path.push(format!(".{number}"));
                Trace::writing(Box::new(BufWriter::new(std::fs::File::create(path)?)))
            }
            None => Trace::default(),
        };
        let options = Options {
            seed,
            lie: cli.lie,
            store: cli.store,
            wal: cli.wal,
            cluster: cli.cluster,
            trace,
        };
        match run(&options) {
            Ok(outcome) => {
                writeln!(
                    out,
                    "seed {seed}: hash {:016x}, {} events, {} device operations, {} records, {} starts, {} virtual ms",
                    outcome.hash,
                    outcome.events,
                    outcome.operations,
                    outcome.records,
                    outcome.starts,
                    outcome.elapsed.as_millis(),
                )?;
                if outcome.store_fences > 0 {
                    writeln!(out, "  {} fences without the store", outcome.store_fences)?;
                }
                if cli.syncs {
                    for (class, count) in &outcome.syncs {
                        writeln!(out, "  {class} {count}")?;
                    }
                }
            }
            Err(failed) => {
                sound = false;
                writeln!(out, "{failed}")?;
                if cli.until_failure {
                    break;
                }
            }
        }
    }
    Ok(sound)
}
