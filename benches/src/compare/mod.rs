//! Highwater beside Apache Kafka on one machine: the cases, in the order in which they run.

mod broker;
mod disk;
pub(crate) mod floor;
mod java;
mod lab;
mod life;
mod plot;
mod report;
mod results;
mod targets;
mod traffic;

use anyhow::{Context, Result, ensure};

pub(crate) use self::broker::KAFKA_JVM;
use self::lab::{DIR, Lab};
pub(crate) use self::results::Spread;
use self::results::Subject;
use self::traffic::Shape;
use crate::produce::Load;
use crate::{cases, machine, say};

/// The options of a comparison.
#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// Run only the cases whose names begin with one of these, joined by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The number of rounds of each case; in each round both brokers run, one after the other.
    #[arg(long)]
    rounds: Option<u32>,
    /// Run two rounds of an eighth of the bytes, on brokers that are hardly warm: for a look, not for figures to cite.
    #[arg(long)]
    quick: bool,
    /// Measure although other programs run on this machine.
    #[arg(long)]
    even_if_busy: bool,
    /// Print the cases and end.
    #[arg(long)]
    list: bool,
}

/// One thing to measure.
#[derive(Debug, Clone, Copy)]
enum What {
    /// Producing to a broker that was just started for the first time.
    First(Shape),
    Idle,
    Disk,
    Produce(Shape, &'static [Subject]),
    Tail(Shape, &'static [Subject]),
    Cold(Shape),
    /// One request at a time.
    One,
    /// Producing at half of the highest rate that this subject sustains.
    Half(Subject),
    JavaProduce {
        is_paced: bool,
    },
    JavaConsume,
    Loaded,
    Start,
}

const BOTH: &[Subject] = &[Subject::Highwater, Subject::Kafka];
const WITH_FLOOR: &[Subject] = &[Subject::Highwater, Subject::Kafka, Subject::Floor];
const WITH_FLUSH: &[Subject] = &[Subject::Highwater, Subject::Kafka, Subject::KafkaFlush];

const fn shape(record: u64, batch_kib: u64, partitions: i32, connections: usize) -> Shape {
    Shape {
        record,
        batch: batch_kib << 10,
        partitions,
        connections,
    }
}

const CASES: &[(&str, What)] = &[
    ("first-16k", What::First(shape(1024, 16, 1, 1))),
    ("first-128k", What::First(shape(1024, 128, 1, 1))),
    ("idle", What::Idle),
    ("disk", What::Disk),
    (
        "produce-1k-16k-1p",
        What::Produce(shape(1024, 16, 1, 1), WITH_FLOOR),
    ),
    (
        "produce-1k-128k-1p",
        What::Produce(shape(1024, 128, 1, 1), WITH_FLOOR),
    ),
    (
        "produce-100b-16k-1p",
        What::Produce(shape(100, 16, 1, 1), BOTH),
    ),
    (
        "produce-100b-128k-1p",
        What::Produce(shape(100, 128, 1, 1), BOTH),
    ),
    (
        "produce-64k-128k-1p",
        What::Produce(shape(64 << 10, 128, 1, 1), BOTH),
    ),
    (
        "produce-1k-16k-64p",
        What::Produce(shape(1024, 16, 64, 1), BOTH),
    ),
    (
        "produce-1k-128k-64p",
        What::Produce(shape(1024, 128, 64, 1), BOTH),
    ),
    (
        "saturated-1k-16k-1p",
        What::Produce(shape(1024, 16, 1, 4), BOTH),
    ),
    (
        "saturated-1k-128k-1p",
        What::Produce(shape(1024, 128, 1, 4), BOTH),
    ),
    (
        "saturated-1k-16k-64p",
        What::Produce(shape(1024, 16, 64, 4), BOTH),
    ),
    ("tail-16k-1p", What::Tail(shape(1024, 16, 1, 1), WITH_FLOOR)),
    (
        "tail-128k-1p",
        What::Tail(shape(1024, 128, 1, 1), WITH_FLOOR),
    ),
    ("tail-16k-64p", What::Tail(shape(1024, 16, 64, 1), BOTH)),
    ("cold-16k-1p", What::Cold(shape(1024, 16, 1, 1))),
    ("one", What::One),
    ("half", What::Half(Subject::Kafka)),
    ("half-flush", What::Half(Subject::KafkaFlush)),
    ("java-produce", What::JavaProduce { is_paced: false }),
    ("java-paced", What::JavaProduce { is_paced: true }),
    ("java-consume", What::JavaConsume),
    ("loaded", What::Loaded),
    ("start", What::Start),
];

const ROUNDS: u32 = 5;
const ROUNDS_QUICK: u32 = 2;
const TYPICAL: Shape = shape(1024, 16, 1, 1);
/// A request has one record if requests are sent one at a time.
const SINGLE: Shape = Shape {
    record: 1024,
    batch: 1024,
    partitions: 1,
    connections: 1,
};
/// The requests that may be in flight at a stated rate, so many that no request waits for an answer.
const IN_FLIGHT_PACED: usize = 100;

/// Measures all cases, prints the figures, and writes `target/bench/results.{json,csv}` and `plot.svg`.
pub(crate) fn run(compare: &Compare) -> Result<()> {
    let cases = cases::chosen(CASES, &compare.only)?;
    if compare.list {
        return say(&cases
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join("\n"));
    }
    std::fs::create_dir_all(DIR)?;
    let cores = std::thread::available_parallelism()?;
    ensure!(
        cores.get() >= 2,
        "a core for the broker and one for the client"
    );
    let load_before = cases::build(compare.even_if_busy)?;
    let rounds = if compare.quick { ROUNDS_QUICK } else { ROUNDS };
    let rounds = compare.rounds.unwrap_or(rounds).max(1);
    let mut lab = Lab::open(rounds, compare.quick)?;
    let outcome = run_cases(&mut lab, &cases);
    let about = report::About::new(&lab, compare.quick, (load_before, machine::load()?))?;
    // Figures that were measured before a failure are still worth reading.
    let reported = report::write(&about, &lab.results);
    drop(lab);
    std::fs::remove_dir_all(Lab::dir())?;
    outcome.and(reported)
}

fn run_cases(lab: &mut Lab, cases: &[(&'static str, What)]) -> Result<()> {
    let mut is_warm = false;
    for &(case, what) in cases {
        let needs_warmth = !matches!(what, What::First(_) | What::Idle | What::Disk);
        if needs_warmth && !is_warm {
            traffic::warm(lab)?;
            is_warm = true;
        }
        run_case(lab, case, what).with_context(|| format!("case {case} failed"))?;
    }
    Ok(())
}

fn run_case(lab: &mut Lab, case: &'static str, what: What) -> Result<()> {
    match what {
        What::First(shape) => traffic::first(lab, case, shape),
        What::Idle => life::idle(lab, case),
        What::Disk => (1..=lab.rounds).try_for_each(|round| disk::fdatasync_once(lab, case, round)),
        What::Produce(shape, subject) => traffic::produce(lab, case, shape, subject),
        What::Tail(shape, subject) => traffic::tail(lab, case, shape, subject),
        What::Cold(shape) => traffic::cold(lab, case, shape),
        What::One => {
            let load = Load {
                in_flight: 1,
                ..SINGLE.load()
            };
            traffic::latency(lab, case, &load, WITH_FLUSH)
        }
        What::Half(of) => {
            let rate = traffic::half_rate(lab, of, TYPICAL)?;
            let load = Load {
                in_flight: IN_FLIGHT_PACED,
                rate: Some(rate),
                ..TYPICAL.load()
            };
            traffic::latency(lab, case, &load, &[Subject::Highwater, of])
        }
        What::JavaProduce { is_paced } => java::produce(lab, case, is_paced),
        What::JavaConsume => java::consume(lab, case),
        What::Loaded => traffic::loaded(lab, case, TYPICAL),
        What::Start => life::start(lab, case, TYPICAL),
    }
}
