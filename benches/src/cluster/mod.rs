//! A cluster of three controllers and three brokers beside one of Apache Kafka, one after the other.

mod kills;
mod many;
mod moves;
mod processes;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use self::processes::{Cluster, System};
use crate::report::{Goal, Goals, Report};
use crate::{cases, say};

const DIR: &str = "target/bench";
const TOPIC: &str = "t";

/// The options of the benchmark.
#[derive(Debug, clap::Args)]
pub(crate) struct OfCluster {
    /// Run only the cases whose names begin with one of these, joined by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Run a few rounds of everything: for a look, not for figures to cite.
    #[arg(long)]
    quick: bool,
    /// Leave Apache Kafka out.
    #[arg(long)]
    without_kafka: bool,
    /// Measure although other programs run on this machine.
    #[arg(long)]
    even_if_busy: bool,
}

type Case = fn(&mut Lab, &mut Cluster) -> Result<()>;

/// The cases, in the order in which they run; each has a cluster of its own.
const CASES: &[(&str, Case)] = &[
    ("kills", kills::kills),
    ("moves", moves::moves),
    ("entries", many::entries),
    ("growth", many::growth),
    ("metadata", many::metadata),
];

const GOALS: Goals = &[
    (
        "kills highwater",
        "first ack less session s",
        Goal::AtMost(1.0),
    ),
    ("moves highwater", "longest gap ms", Goal::AtMost(100.0)),
    ("create 1,000 highwater", "s", Goal::AtMost(1.0)),
    ("create the last 1,000 highwater", "s", Goal::AtMost(1.0)),
    (
        "metadata highwater",
        "MiB more in a controller",
        Goal::AtMost(200.0),
    ),
    (
        "metadata highwater",
        "s to start a controller",
        Goal::AtMost(3.0),
    ),
];

/// What every case uses.
struct Lab {
    report: Report,
    kills: u32,
    moves: u32,
    is_quick: bool,
}

impl Lab {
    /// Notes the figures of one round, and prints them.
    fn note_all(
        &mut self,
        case: &str,
        system: System,
        figures: &[(&'static str, f64)],
    ) -> Result<()> {
        let case = format!("{case} {}", system.name());
        for (metric, value) in figures {
            self.report.note(&case, metric, *value);
        }
        say(&format!("{case}: {figures:?}"))
    }
}

/// Measures all cases, prints the figures, and writes `target/bench/cluster.{json,csv}`.
pub(crate) fn run(options: &OfCluster) -> Result<()> {
    let cases = cases::chosen(CASES, &options.only)?;
    let load = cases::build(options.even_if_busy)?;
    let dir = Path::new(DIR);
    let mut lab = Lab {
        report: Report::new("cluster", GOALS),
        kills: if options.quick { 3 } else { 30 },
        moves: if options.quick { 5 } else { 30 },
        is_quick: options.quick,
    };
    let mut outcome = Ok(());
    let systems = System::BOTH.into_iter();
    let systems = systems.filter(|system| *system != System::Kafka || !options.without_kafka);
    for system in systems {
        for (name, case) in &cases {
            let own: PathBuf = dir.join(format!("cluster-{}", system.name()));
            let ran = Cluster::start(system, &own).and_then(|mut cluster| {
                case(&mut lab, &mut cluster)?;
                cluster.stop()
            });
            // the figures of the other cases are still worth reading
            if let Err(error) = ran.with_context(|| format!("{name} failed with {}", system.name()))
            {
                say(&format!("{error:#}"))?;
                outcome = Err(error);
            }
        }
    }
    lab.report.write(dir, load)?;
    outcome
}
