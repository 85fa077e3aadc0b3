//! The object WAL on an S3-compatible server that is as slow as S3, beside the disk WAL.

mod bare;
mod cluster;
mod draws;
mod latency;
mod node;
mod proxy;
mod store;
mod volume;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use highwater_types::{ByteSize, Uuid};

use self::node::Node;
use self::proxy::Counts;
use self::store::{Store, Wire};
use crate::admin::Admin;
use crate::figures::{Figures, Latency};
use crate::machine::{self, pause};
use crate::produce::{self, Extent, Load};
use crate::report::{Goal, Goals, Report};
use crate::{cases, say};

const DIR: &str = "target/bench";
const ROUNDS: u32 = 3;
/// The store is quiet when it saw no request for this long, which is longer than an upload waits.
const QUIET: Duration = Duration::from_secs(4);
const QUIET_MAX: Duration = Duration::from_secs(60);

/// The options of the benchmark.
#[derive(Debug, clap::Args)]
pub(crate) struct ObjectWal {
    /// The MinIO binary; that of the test suites if not given.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Run only the cases whose names begin with one of these, joined by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Run one short round of everything: for a look, not for figures to cite.
    #[arg(long)]
    quick: bool,
    /// Measure although other programs run on this machine.
    #[arg(long)]
    even_if_busy: bool,
}

type Case = fn(&mut Lab) -> Result<()>;

/// The cases, in the order in which they run.
const CASES: &[(&str, Case)] = &[
    ("lifted", latency::lifted),
    ("default", latency::default),
    ("cost", volume::cost),
    ("takeover", cluster::takeover),
    ("controller", cluster::controller),
];

const GOALS: Goals = &[
    ("one-lifted", "p50 / put p50", Goal::AtMost(1.3)),
    ("one-lifted", "p99 / put p99", Goal::AtMost(1.5)),
    ("five-16k-lifted", "share of allowed", Goal::AtLeast(0.9)),
    ("large-lifted", "MB/s", Goal::AtLeast(65.0)),
    ("idle", "requests/minute", Goal::AtMost(0.0)),
    ("cost", "cpu object / disk", Goal::AtMost(1.2)),
    ("takeover", "fence to first ack s", Goal::AtMost(1.0)),
    ("controller", "produce failures", Goal::AtMost(0.0)),
    ("controller", "admin works after s", Goal::AtMost(3.0)),
];

/// What every case uses.
struct Lab {
    store: Store,
    report: Report,
    dir: PathBuf,
    rounds: u32,
    is_quick: bool,
}

/// One run of the generator, with what the store saw meanwhile.
struct Run {
    figures: Figures,
    puts: Latency,
    counts: Counts,
}

impl Lab {
    /// The seconds of one run.
    fn seconds(&self, usual: u64) -> Extent {
        Extent {
            bytes: None,
            seconds: Some(if self.is_quick {
                usual.div_ceil(4)
            } else {
                usual
            }),
        }
    }

    /// The bytes of one run.
    fn bytes(&self, usual: ByteSize) -> Extent {
        Extent {
            bytes: Some(if self.is_quick {
                ByteSize(usual.0 / 4)
            } else {
                usual
            }),
            seconds: None,
        }
    }

    /// A node of a cluster of its own, with both roles, started on an empty directory.
    fn node(&self, cluster: &str, settings: &[&str], wire: Wire) -> Result<Node> {
        let settings = [own(settings), self.store.settings(cluster, wire)].concat();
        let mut node = Node::new(&self.dir.join(cluster), &settings)?;
        node.start()?;
        Ok(node)
    }

    /// Produces to a topic of one partition, and says what came of it.
    fn run(&self, node: &Node, name: &str, load: &Load, extent: &Extent) -> Result<Run> {
        let topic = Admin::open(&node.address)?.create_topic(name, 1, &[])?;
        self.run_to(&node.address, topic, load, extent)
    }

    /// Does the same with a topic that exists.
    fn run_to(&self, address: &str, topic: Uuid, load: &Load, extent: &Extent) -> Result<Run> {
        self.store.proxy.take_wal_puts()?;
        let before = self.store.proxy.counts();
        let figures = produce::run(address, topic, load, extent, None)?;
        Ok(Run {
            figures,
            puts: self.store.proxy.take_wal_puts()?,
            counts: self.store.proxy.counts().since(&before),
        })
    }

    /// Waits until the store sees no request any more, and returns the requests so far.
    fn settle(&self) -> Counts {
        let mut counts = self.store.proxy.counts();
        let begun = machine::now();
        let mut since = begun;
        while since.elapsed() < QUIET && begun.elapsed() < QUIET_MAX {
            pause(Duration::from_millis(100));
            let now = self.store.proxy.counts();
            if now != counts {
                (counts, since) = (now, machine::now());
            }
        }
        counts
    }

    fn progress(&self, case: &str, text: &str) -> Result<()> {
        say(&format!("{case}: {text}"))
    }
}

fn own(settings: &[&str]) -> Vec<String> {
    settings.iter().map(|&setting| setting.to_owned()).collect()
}

/// Measures all cases, prints the figures, and writes `target/bench/object-wal.{json,csv}`.
pub(crate) fn run(options: &ObjectWal) -> Result<()> {
    let cases = cases::chosen(CASES, &options.only)?;
    let load = cases::build(options.even_if_busy)?;
    let dir = Path::new(DIR);
    let nodes = dir.join("object-wal");
    std::fs::create_dir_all(&nodes)?;
    let mut lab = Lab {
        store: Store::start(options.server.as_deref(), &nodes)?,
        report: Report::new("object-wal", GOALS),
        dir: nodes,
        rounds: if options.quick { 1 } else { ROUNDS },
        is_quick: options.quick,
    };
    let mut outcome = Ok(());
    for (name, case) in cases {
        // the figures of the other cases are still worth reading
        if let Err(error) = case(&mut lab).with_context(|| format!("case {name} failed")) {
            say(&format!("{error:#}"))?;
            outcome = Err(error);
        }
    }
    let Lab { report, store, .. } = lab;
    drop(store);
    report.write(dir, load)?;
    outcome
}
