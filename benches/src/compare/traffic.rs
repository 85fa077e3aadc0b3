//! Producing and consuming: their cost and their latencies.

use anyhow::Result;
use highwater_types::ByteSize;

use super::broker::Broker;
use super::lab::{Lab, Topic, cost, megabytes, quiet};
use super::results::Subject;
use crate::consume::{self, Fetches, Span};
use crate::end_to_end;
use crate::figures::Latency;
use crate::machine::{self, pause};
use crate::produce::{self, Extent, Load};

/// The longest time of a run.
const SECONDS_MAX: u64 = 40;
const FLOOR_SETTLES: std::time::Duration = std::time::Duration::from_millis(200);

/// The shape of a load: record and batch bytes, partitions and connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) record: u64,
    pub(super) batch: u64,
    pub(super) partitions: i32,
    pub(super) connections: usize,
}

impl Shape {
    pub(super) fn load(self) -> Load {
        Load {
            record_size: ByteSize(self.record),
            batch_size: ByteSize(self.batch),
            partitions: self.partitions,
            // A client that has records for every partition sends such requests.
            batches_per_request: if self.partitions > 1 { 8 } else { 1 },
            connections: self.connections,
            in_flight: 5,
            rate: None,
        }
    }

    /// Small batches cost more, so fewer bytes take the same time.
    pub(super) fn bytes(self) -> ByteSize {
        if self.batch < 64 << 10 {
            ByteSize::mib(512)
        } else {
            ByteSize::gib(1)
        }
    }
}

pub(super) fn fetches() -> Fetches {
    Fetches {
        fetch_max_bytes: ByteSize::mib(50),
        partition_max_bytes: ByteSize::mib(1),
        min_bytes: 1,
        max_wait_ms: 500,
    }
}

pub(super) fn extent(bytes: ByteSize) -> Extent {
    Extent {
        bytes: Some(bytes),
        seconds: Some(SECONDS_MAX),
    }
}

/// Runs the rounds of producing; round 0 is shorter and not counted.
pub(super) fn produce(
    lab: &mut Lab,
    case: &'static str,
    shape: Shape,
    subject: &[Subject],
) -> Result<()> {
    let has_floor = subject.contains(&Subject::Floor);
    if has_floor {
        lab.floor.start()?;
        pause(FLOOR_SETTLES);
    }
    for round in 0..=lab.rounds {
        for &subject in subject {
            let bytes = lab.bytes(shape.bytes());
            let bytes = if round == 0 { bytes.0 / 4 } else { bytes.0 };
            let extent = extent(ByteSize(bytes));
            let topic = lab.topic(subject, shape.partitions)?;
            let (figures, cost) = lab.cost(subject, || {
                produce::run(&topic.address, topic.id, &shape.load(), &extent, None)
            })?;
            if round > 0 {
                lab.note_cost(case, subject, round, (&figures, cost))?;
            }
            lab.delete(subject, topic)?;
        }
    }
    if has_floor {
        lab.floor.stop()?;
    }
    Ok(())
}

/// Writes enough to each broker that a JVM has compiled its hot code.
pub(super) fn warm(lab: &mut Lab) -> Result<()> {
    let bytes = lab.bytes(ByteSize::gib(4));
    for subject in [Subject::Highwater, Subject::Kafka] {
        for (batch, share) in [(16 << 10, 2), (128 << 10, 2)] {
            let shape = Shape {
                record: 1 << 10,
                batch,
                partitions: 1,
                connections: 1,
            };
            let mut topic = lab.topic(subject, 1)?;
            let extent = Extent {
                bytes: Some(ByteSize(bytes.0 / share)),
                seconds: Some(2 * SECONDS_MAX),
            };
            let written = produce::run(&topic.address, topic.id, &shape.load(), &extent, None)?;
            let span = topic.span()?;
            let what = (&span, &fetches());
            consume::run(&topic.address, topic.id, 1, what, &extent)?;
            lab.progress(&format!("warm {}: {written}", subject.name()))?;
            lab.delete(subject, topic)?;
        }
    }
    Ok(())
}

/// Measures the first GiB after a start on an empty directory, with a new start in each round.
pub(super) fn first(lab: &mut Lab, case: &'static str, shape: Shape) -> Result<()> {
    let bytes = extent(ByteSize::gib(1));
    for round in 1..=lab.rounds {
        for subject in [Subject::Highwater, Subject::Kafka] {
            let dir = Lab::dir().join("first");
            let mut broker = match subject {
                Subject::Highwater => Broker::highwater(&dir)?,
                _ => Broker::kafka(&dir)?,
            };
            broker.start()?;
            let pid = broker.pid().unwrap_or_default();
            quiet(pid)?;
            let others = [lab.pid(Subject::Highwater)?, lab.pid(Subject::Kafka)?];
            let topic = Topic::create(&broker, subject, "first".to_owned(), shape.partitions)?;
            let (figures, cost) = cost(pid, &others, || {
                produce::run(&topic.address, topic.id, &shape.load(), &bytes, None)
            })?;
            lab.note_cost(case, subject, round, (&figures, cost))?;
            drop(broker);
            std::fs::remove_dir_all(&dir)?;
        }
    }
    Ok(())
}

/// Reads the last 64 MiB repeatedly, so that they come from memory.
pub(super) fn tail(
    lab: &mut Lab,
    case: &'static str,
    shape: Shape,
    subject: &[Subject],
) -> Result<()> {
    let mut topics = Vec::new();
    for &subject in subject {
        if subject == Subject::Floor {
            lab.floor.start()?;
            pause(FLOOR_SETTLES);
        }
        let mut topic = lab.topic(subject, shape.partitions)?;
        let mut span = Span {
            from: vec![0],
            to: vec![i64::MAX],
            repeats: true,
        };
        if subject != Subject::Floor {
            let extent = extent(ByteSize::mib(128));
            produce::run(&topic.address, topic.id, &shape.load(), &extent, None)?;
            quiet(lab.pid(subject)?)?;
            span = topic.span()?;
            span.repeats = true;
            let record = i64::try_from(shape.record)?;
            span.keep_last((64 << 20) / record / i64::from(shape.partitions));
        }
        topics.push((subject, topic, span));
    }
    let bytes = lab.bytes(ByteSize::gib(4));
    for round in 0..=lab.rounds {
        for (subject, topic, span) in &topics {
            let bytes = if round == 0 { bytes.0 / 4 } else { bytes.0 };
            let extent = extent(ByteSize(bytes));
            let what = (span, &fetches());
            let run = || consume::run(&topic.address, topic.id, 1, what, &extent);
            let (figures, cost) = lab.cost(*subject, run)?;
            if round > 0 {
                lab.note_cost(case, *subject, round, (&figures, cost))?;
            }
        }
    }
    for (subject, topic, _) in topics {
        lab.delete(subject, topic)?;
        if subject == Subject::Floor {
            lab.floor.stop()?;
        }
    }
    Ok(())
}

/// Reads a topic that is not in memory: another was written after it, and the page cache is dropped where that is
/// permitted.
pub(super) fn cold(lab: &mut Lab, case: &'static str, shape: Shape) -> Result<()> {
    let mut topics = Vec::new();
    for subject in [Subject::Highwater, Subject::Kafka] {
        let mut read = lab.topic(subject, shape.partitions)?;
        let bytes = extent(lab.bytes(ByteSize::gib(1)));
        produce::run(&read.address, read.id, &shape.load(), &bytes, None)?;
        let over = lab.topic(subject, shape.partitions)?;
        // This is more than Highwater's memory limit.
        let bytes = extent(ByteSize::gib(1));
        produce::run(&over.address, over.id, &shape.load(), &bytes, None)?;
        quiet(lab.pid(subject)?)?;
        let span = read.span()?;
        topics.push((subject, read, over, span));
    }
    for round in 1..=lab.rounds {
        for (subject, read, _, span) in &topics {
            rustix::fs::sync();
            if let Err(error) = std::fs::write("/proc/sys/vm/drop_caches", "1") {
                lab.progress(&format!("the page cache is NOT dropped: {error}"))?;
            }
            let extent = extent(ByteSize(u64::MAX));
            let what = (span, &fetches());
            let run = || consume::run(&read.address, read.id, 1, what, &extent);
            let (figures, cost) = lab.cost(*subject, run)?;
            lab.note_cost(case, *subject, round, (&figures, cost))?;
        }
    }
    for (subject, read, over, _) in topics {
        lab.delete(subject, read)?;
        lab.delete(subject, over)?;
    }
    Ok(())
}

/// Half of the highest rate that the broker `of` sustains, in bytes per second.
pub(super) fn half_rate(lab: &mut Lab, of: Subject, shape: Shape) -> Result<ByteSize> {
    let topic = lab.topic(of, shape.partitions)?;
    let extent = Extent {
        bytes: None,
        seconds: Some(lab.seconds(6)),
    };
    let load = shape.load();
    let figures = produce::run(&topic.address, topic.id, &load, &extent, None)?;
    lab.delete(of, topic)?;
    let per_second = u128::from(figures.bytes) * 1000 / figures.elapsed.as_millis().max(1);
    let half = ByteSize(u64::try_from(per_second / 2)?);
    let name = of.name();
    lab.progress(&format!("half of {name}'s rate: {} KiB/s", half.0 >> 10))?;
    Ok(half)
}

/// Measures the latency of acknowledgements alone, then from sending to receiving, and that of fdatasync in the same
/// minute.
pub(super) fn latency(
    lab: &mut Lab,
    case: &'static str,
    load: &Load,
    subject: &[Subject],
) -> Result<()> {
    let extent = Extent {
        bytes: None,
        seconds: Some(lab.seconds(3)),
    };
    for round in 0..=lab.rounds {
        for &subject in subject {
            let mut topic = lab.topic(subject, load.partitions)?;
            let acknowledged = produce::run(&topic.address, topic.id, load, &extent, None)?;
            let span = topic.span()?;
            let span = Span {
                to: vec![i64::MAX; span.to.len()],
                from: span.to,
                repeats: false,
            };
            let how = (load, &fetches());
            let both = end_to_end::run(&topic.address, topic.id, how, &extent, &span)?;
            if round > 0 {
                note_latency(lab, (case, ACK), (subject, round), &acknowledged.latency)?;
                note_latency(
                    lab,
                    (case, END_TO_END),
                    (subject, round),
                    &both.consumed.latency,
                )?;
            }
            lab.delete(subject, topic)?;
        }
        if round > 0 {
            super::disk::fdatasync_once(lab, case, round)?;
        }
    }
    Ok(())
}

type Quantiles = [(&'static str, f64); 3];
const ACK: Quantiles = [
    ("ack p50 us", 0.5),
    ("ack p99 us", 0.99),
    ("ack p99.9 us", 0.999),
];
const END_TO_END: Quantiles = [
    ("end-to-end p50 us", 0.5),
    ("end-to-end p99 us", 0.99),
    ("end-to-end p99.9 us", 0.999),
];

fn note_latency(
    lab: &mut Lab,
    (case, quantiles): (&'static str, Quantiles),
    (subject, round): (Subject, u32),
    latency: &Latency,
) -> Result<()> {
    let mut line = format!("{case} {round} {}:", subject.name());
    for (metric, share) in quantiles {
        let micros = latency.at(share).as_secs_f64() * 1e6;
        lab.note((case, metric), subject, round, micros);
        line.push_str(&format!(" {metric} {micros:.0},"));
    }
    lab.progress(line.trim_end_matches(','))
}

/// Measures resident memory after a GiB was written and read.
pub(super) fn loaded(lab: &mut Lab, case: &'static str, shape: Shape) -> Result<()> {
    for subject in [Subject::Highwater, Subject::Kafka] {
        let mut topic = lab.topic(subject, shape.partitions)?;
        let extent = extent(lab.bytes(ByteSize::gib(1)));
        produce::run(&topic.address, topic.id, &shape.load(), &extent, None)?;
        let span = topic.span()?;
        consume::run(&topic.address, topic.id, 1, (&span, &fetches()), &extent)?;
        lab.note_memory(case, subject)?;
        let peak = machine::memory_kib(lab.pid(subject)?, "VmHWM")?;
        lab.note((case, "peak MB"), subject, 1, megabytes(peak));
        lab.delete(subject, topic)?;
    }
    Ok(())
}
