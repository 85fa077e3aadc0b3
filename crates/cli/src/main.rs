//! The `highwater` command.

mod cgroup;
mod config;
mod give_up;
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
    after_help = "The first run needs no settings: `highwater start` listens on 127.0.0.1:9092 and keeps its data in \
                  ./highwater-data.\nThen try: kafka-topics.sh --bootstrap-server 127.0.0.1:9092 --create --topic first"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const SETTINGS: &str = "\
Settings of Kafka have Kafka's names; other settings begin with highwater. Later sources override earlier ones:
  1. --config FILE, a Kafka server.properties
  2. environment variables: HIGHWATER_NUM_PARTITIONS=6 sets num.partitions,
     HIGHWATER_DATA_DIR=/data sets highwater.data.dir
  3. --set num.partitions=6

The settings that are needed most often, with an example:
  listeners                 addresses to listen on         PLAINTEXT://127.0.0.1:9092
  advertised.listeners      addresses that clients use     PLAINTEXT://broker.example:9092
  highwater.data.dir        write-ahead log and metadata   /var/lib/highwater
  highwater.object.storage  the object store               s3://bucket/prefix
  highwater.memory.limit    memory of buffers and caches   1GiB
  highwater.admin.listener  address of /metrics, /health   127.0.0.1:9644

`highwater config` prints every setting with its value and its meaning. If a configuration has errors, all of them
are reported together, and nothing is started.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a broker; stops cleanly on Ctrl-C and SIGTERM, and at once on a second one.
    #[command(after_help = SETTINGS)]
    Start(ConfigArgs),
    /// Print the effective configuration, with a comment on each setting.
    #[command(after_help = SETTINGS)]
    Config(ConfigArgs),
    /// Give up the records that are only in a lost data directory, so that their partitions go on.
    ///
    /// A broker whose write-ahead log is on its disk (`highwater.wal=disk`) needs its data directory for its next start,
    /// and its partitions wait for it. If the directory is lost, a start is refused and names the node epoch. This command
    /// says which records are lost, and with `--yes` gives them up: each partition goes on 2^30 offsets later, and its
    /// consumers skip the offsets between. It needs the configuration of a node of the cluster. A node that is a controller
    /// must be stopped for it.
    #[command(after_help = SETTINGS)]
    GiveUp(GiveUpArgs),
    /// Print the version and the commit that the binary was built from.
    Version,
    /// Print the table of APIs and versions, in Markdown.
    #[command(hide = true)]
    ApiMatrix,
}

/// The sources of the configuration. The environment (`HIGHWATER_NUM_PARTITIONS` sets `num.partitions`) overrides the
/// file, and `--set` overrides both.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// A Kafka `server.properties`, which may also have settings that begin with `highwater.`.
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// A setting, for instance `--set num.partitions=6`; the option may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = config::key_value)]
    settings: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct GiveUpArgs {
    /// The `node.id` of the node whose data directory is lost.
    #[arg(long, value_name = "ID")]
    node: i32,
    /// The node epoch that the refused start named.
    #[arg(long, value_name = "EPOCH")]
    epoch: u64,
    /// Gives the records up; without it nothing is changed.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Start(args) => start::run(&args),
        Command::Config(args) => config::print(&args),
        Command::GiveUp(args) => give_up::run(&args),
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
