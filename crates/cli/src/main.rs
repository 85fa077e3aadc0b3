//! The `highwater` command.

mod admin;
mod bootstrap;
mod cgroup;
mod config;
mod controllers;
mod duty;
mod give_up;
mod operate;
mod start;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use highwater_broker::duties::Duty;
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
    /// Keep new leaderships away from a broker, which goes on with those that it has.
    ///
    /// From then on the broker gets no replicas of new partitions, and leads no partition of another broker, unless nobody
    /// else could. This outlives restarts of the broker; `highwater uncordon` ends it. The command needs the configuration
    /// of a node of the cluster, for the addresses of the controllers.
    #[command(after_help = DUTIES)]
    Cordon(DutyArgs),
    /// Take all partitions from a broker, and wait until it leads none.
    ///
    /// The broker is cordoned, and hands what it leads over to the others, partition by partition; producers and consumers
    /// notice no more than a pause of some milliseconds. No data moves. The command tells how many partitions are left
    /// until the broker leads none; it may then be stopped for good. If the command ends before, the broker goes on. This
    /// outlives restarts of the broker; `highwater uncordon` ends it. (A broker that is merely to be restarted needs no
    /// drain: it hands over when it stops.)
    #[command(after_help = DUTIES)]
    Drain(DrainArgs),
    /// Let a broker that was cordoned or drained lead its share again.
    #[command(after_help = DUTIES)]
    Uncordon(DutyArgs),
    /// Give a controller a vote that runs without one.
    ///
    /// A controller that joins a cluster, or that comes back without its data directory, follows the metadata without a
    /// vote. This command makes it a voter, once it has all of the metadata. A controller that has lost its directory
    /// must lose its former vote first. The command needs the configuration of a node of the cluster, for the addresses of
    /// the controllers.
    #[command(after_help = CONTROLLERS)]
    AddController(ControllerArgs),
    /// Take the vote of a controller, whether it runs or not.
    ///
    /// It is refused if the controllers that would be left could decide nothing any more.
    #[command(after_help = CONTROLLERS)]
    RemoveController(ControllerArgs),
    /// Create the topics of a file that are missing; a repetition changes nothing.
    ///
    /// Each line of the file is a topic: its name, its number of partitions, and its configs as key=value. A topic that
    /// exists gets the configs, and partitions if it has fewer. Nothing is ever removed.
    Topics(TopicsArgs),
    /// Remove brokers that are stopped for good from the cluster.
    ///
    /// All brokers whose node.id is the given one or a higher one are unregistered, each once it is stopped.
    Unregister(UnregisterArgs),
    /// Raise the metadata.version of the cluster to the newest one of this program, once every node knows it.
    ///
    /// A node that runs an earlier program, or a controller that does not answer, holds this back; the command waits for it,
    /// as long as --timeout says.
    /// Earlier programs can't be started on the cluster afterwards. `kafka-features upgrade --feature
    /// metadata.version=LEVEL` does the same.
    Finalize(ClusterArgs),
    /// Write a record to the topic highwater-check, and read it back.
    Check(ClusterArgs),
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

const DUTIES: &str = "\
To take broker 3 out of a cluster:
  highwater drain 3 --config broker.properties
  stop its process, for instance with SIGTERM
  kafka-cluster.sh unregister --bootstrap-server HOST:PORT --id 3

To keep partitions away from broker 3 and let it serve again later:
  highwater cordon 3 --config broker.properties
  highwater uncordon 3 --config broker.properties";

const CONTROLLERS: &str = "\
To give controller 3 its vote again after it has lost its data directory, while it runs:
  highwater remove-controller 3 --config controller.properties
  highwater add-controller 3 --config controller.properties";

#[derive(Debug, Args)]
struct ControllerArgs {
    /// The `node.id` of the controller.
    #[arg(value_name = "NODE")]
    node: i32,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
struct DutyArgs {
    /// The `node.id` of the broker.
    #[arg(value_name = "NODE")]
    node: i32,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
struct DrainArgs {
    /// How long the command waits, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u32,
    #[command(flatten)]
    duty: DutyArgs,
}

/// A cluster that runs, by a listener of its brokers.
#[derive(Debug, Args)]
struct ClusterArgs {
    /// The address of any broker.
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_server: String,
    /// The settings of a Kafka client in a file, for a listener on TLS: security.protocol=SSL, ssl.truststore.location, and
    /// ssl.keystore.location if clients show a certificate, with the type PEM for both stores.
    #[arg(long, value_name = "FILE")]
    command_config: Option<std::path::PathBuf>,
    /// How long the command tries, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u32,
}

#[derive(Debug, Args)]
struct TopicsArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The file with the topics.
    #[arg(value_name = "FILE")]
    file: std::path::PathBuf,
}

#[derive(Debug, Args)]
struct UnregisterArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The least `node.id` of the brokers to remove.
    #[arg(long, value_name = "NODE")]
    from: i32,
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
        Command::Cordon(args) => duty::set(&args, Duty::Cordoned),
        Command::Drain(args) => duty::drain(&args),
        Command::Uncordon(args) => duty::set(&args, Duty::Full),
        Command::AddController(args) => controllers::add(&args),
        Command::RemoveController(args) => controllers::remove(&args),
        Command::Topics(args) => admin::topics(&args),
        Command::Unregister(args) => admin::unregister(&args),
        Command::Finalize(args) => admin::finalize(&args),
        Command::Check(args) => admin::check(&args),
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
