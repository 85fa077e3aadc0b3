//! The `highwater` command.

mod cgroup;
mod config;
mod start;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use highwater_runtime::reasons;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The version and the commit, as `highwater version` prints them.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("HIGHWATER_COMMIT"),
    ")"
);

/// A Kafka-compatible broker whose log lives in object storage.
#[derive(Debug, Parser)]
#[command(
    name = "highwater",
    version = VERSION,
    after_help = "The first run needs nothing: `highwater start` listens on 127.0.0.1:9092 and keeps its data under \
                  ./highwater-data.\nThen try: kafka-topics --bootstrap-server 127.0.0.1:9092 --create --topic first"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const SETTINGS: &str = "\
Settings have Kafka's names where Kafka has them, ours begin with highwater. Later sources win:
  1. --config FILE, a Kafka server.properties
  2. environment variables: HIGHWATER_NUM_PARTITIONS=6 sets num.partitions,
     HIGHWATER_DATA_DIR=/data sets highwater.data.dir
  3. --set num.partitions=6

Those that are most often set:
  listeners                 where to listen        PLAINTEXT://127.0.0.1:9092
  advertised.listeners      what clients are told  PLAINTEXT://broker.example:9092
  highwater.data.dir        write-ahead log and metadata; must survive a restart
  highwater.object.storage  where the log lives    file:///var/lib/highwater/objects
  highwater.memory.limit    all buffers and caches four fifths of the cgroup's limit, or 1GiB
  highwater.admin.listener  /metrics and /health   127.0.0.1:9644

`highwater config` prints every setting, its value, and what it does. What is wrong with a configuration is
reported all at once, and nothing is started.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a broker; stops cleanly on Ctrl-C and SIGTERM.
    #[command(after_help = SETTINGS)]
    Start(ConfigArgs),
    /// Print the effective configuration, with a comment on each setting.
    #[command(after_help = SETTINGS)]
    Config(ConfigArgs),
    /// Print the version and the commit it was built from.
    Version,
    /// Print the table of APIs and versions, in Markdown.
    #[command(hide = true)]
    ApiMatrix,
}

/// Where the configuration comes from; later sources win: file, environment (`HIGHWATER_NUM_PARTITIONS` sets
/// `num.partitions`), `--set`.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// A Kafka `server.properties`; our own settings have the prefix `highwater.`.
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// One setting, for instance `--set num.partitions=6`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = config::key_value)]
    settings: Vec<(String, String)>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Start(args) => start::run(&args),
        Command::Config(args) => config::print(&args),
        Command::Version => config::say(&format!("highwater {VERSION}\n")),
        Command::ApiMatrix => config::say(&highwater_broker::api::matrix()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            config::complain(&format!("highwater: {}\n", reasons(&*error)));
            ExitCode::FAILURE
        }
    }
}
