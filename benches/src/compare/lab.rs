//! The machine, the brokers on it, and the cost of one run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use highwater_types::{ByteSize, Uuid};

use super::broker::Broker;
use super::results::{Results, Row, Subject};
use crate::admin::Admin;
use crate::figures::{Figures, real};
use crate::machine::{self, pause};

/// A broker is quiet when it used at most `QUIET_CPU` of processor time per window, for this many windows.
const WINDOW: Duration = Duration::from_millis(250);
const QUIET_CPU: Duration = Duration::from_millis(10);
/// The time is longer than Highwater's interval of uploads and Kafka's delay of deletion, which are a second.
const QUIET_WINDOWS: u32 = 5;
const WINDOWS_MAX: u32 = 60;
const FREE_BYTES_MIN: u64 = 8 << 30;
const FLUSH: (&str, &str) = ("flush.messages", "1");

/// The directory below which the brokers write, and that of the results.
pub(super) const DIR: &str = "target/bench";

/// The brokers that run all the time, and the figures.
#[derive(Debug)]
pub(super) struct Lab {
    pub(super) highwater: Broker,
    pub(super) kafka: Broker,
    pub(super) floor: Broker,
    pub(super) results: Results,
    pub(super) rounds: u32,
    /// The fraction of the bytes and of the seconds that is run.
    pub(super) is_quick: bool,
    topics: u32,
    pub(super) since: Instant,
}

/// A topic that one run has to itself.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) id: Uuid,
    pub(super) address: String,
    partitions: i32,
    admin: Option<Admin>,
}

impl Topic {
    /// Creates the topic; the floor has no topics.
    pub(super) fn create(
        broker: &Broker,
        subject: Subject,
        name: String,
        partitions: i32,
    ) -> Result<Self> {
        let mut topic = Self {
            name,
            id: Uuid::default(),
            address: broker.address.clone(),
            partitions,
            admin: None,
        };
        if subject != Subject::Floor {
            let (key, value) = FLUSH;
            let flush = [(key.to_owned(), value.to_owned())];
            let configs = if subject == Subject::KafkaFlush {
                &flush[..]
            } else {
                &[]
            };
            let mut admin = Admin::open(&topic.address)?;
            topic.id = admin.create_topic(&topic.name, partitions, configs)?;
            topic.admin = Some(admin);
        }
        Ok(topic)
    }

    /// The span of all records in the topic.
    pub(super) fn span(&mut self) -> Result<crate::consume::Span> {
        let admin = self.admin.as_mut().context("a broker's topic")?;
        admin.span(&self.name, self.partitions)
    }
}

/// The cost of a run, including the work that the broker deferred until it was quiet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// Processor time of the broker's process.
    pub(super) broker: Duration,
    /// Processor time of the machine, without the client and the other broker; it includes kernel threads.
    pub(super) machine: Duration,
    /// The broker's processor time while the client ran, as a share of that time: 1 is a whole core.
    pub(super) core_share: f64,
}

struct Reading {
    broker: Duration,
    rest: Duration,
}

impl Lab {
    /// Prepares everything on empty directories. The brokers run; the floor does not.
    pub(super) fn open(rounds: u32, is_quick: bool) -> Result<Self> {
        machine::pin(super::broker::CLIENT_CORE)?;
        let dir = Path::new(DIR).join("run");
        let mut lab = Self {
            highwater: Broker::highwater(&dir.join("highwater"))?,
            kafka: Broker::kafka(&dir.join("kafka"))?,
            floor: Broker::floor(&dir.join("floor"))?,
            results: Results::default(),
            rounds,
            is_quick,
            topics: 0,
            since: machine::now(),
        };
        lab.highwater.start()?;
        lab.kafka.start()?;
        Ok(lab)
    }

    pub(super) fn dir() -> PathBuf {
        Path::new(DIR).join("run")
    }

    pub(super) fn broker(&self, subject: Subject) -> &Broker {
        match subject {
            Subject::Highwater | Subject::Machine => &self.highwater,
            Subject::Kafka | Subject::KafkaFlush => &self.kafka,
            Subject::Floor => &self.floor,
        }
    }

    pub(super) fn pid(&self, subject: Subject) -> Result<u32> {
        self.broker(subject).pid().context("it runs")
    }

    /// The bytes of one run, of which a quick one has an eighth.
    pub(super) fn bytes(&self, bytes: ByteSize) -> ByteSize {
        ByteSize(if self.is_quick { bytes.0 / 8 } else { bytes.0 })
    }

    /// The seconds of one run.
    pub(super) fn seconds(&self, seconds: u64) -> u64 {
        if self.is_quick {
            (seconds / 3).max(1)
        } else {
            seconds
        }
    }

    /// Creates a topic with a new name.
    pub(super) fn topic(&mut self, subject: Subject, partitions: i32) -> Result<Topic> {
        self.topics += 1;
        let free = rustix::fs::statvfs(DIR)?;
        let free = free.f_bavail.saturating_mul(free.f_frsize);
        ensure!(free > FREE_BYTES_MIN, "only {free} bytes are free");
        let name = format!("bench-{}", self.topics);
        Topic::create(self.broker(subject), subject, name, partitions)
    }

    /// Deletes a topic, and waits until its data is gone.
    pub(super) fn delete(&self, subject: Subject, topic: Topic) -> Result<()> {
        let Some(mut admin) = topic.admin else {
            return Ok(());
        };
        admin.delete_topic(&topic.name)?;
        quiet(self.pid(subject)?)
    }

    /// Runs `body`, and waits until the broker is quiet; both belong to the cost.
    pub(super) fn cost<T>(
        &self,
        subject: Subject,
        body: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Cost)> {
        let pid = self.pid(subject)?;
        let brokers = [&self.highwater, &self.kafka, &self.floor];
        let others = brokers.iter().filter_map(|broker| broker.pid());
        let others: Vec<u32> = others.filter(|&other| other != pid).collect();
        cost(pid, &others, body)
    }

    /// Notes a figure.
    pub(super) fn note(
        &mut self,
        (case, metric): (&'static str, &'static str),
        subject: Subject,
        round: u32,
        value: f64,
    ) {
        self.results.rows.push(Row {
            case,
            metric,
            subject,
            round,
            value,
        });
    }

    /// Notes the cost of moving this many bytes, and prints it.
    pub(super) fn note_cost(
        &mut self,
        case: &'static str,
        subject: Subject,
        round: u32,
        (figures, cost): (&Figures, Cost),
    ) -> Result<()> {
        let gib = figures.gib();
        let broker = cost.broker.as_secs_f64();
        let all = [
            ("cpu s/GiB", broker / gib),
            ("machine cpu s/GiB", cost.machine.as_secs_f64() / gib),
            ("records/cpu s", real(figures.records) / broker),
            ("MiB/s", figures.mib_per_second()),
            ("core share", cost.core_share),
        ];
        let mut line = format!("{case} {round} {}:", subject.name());
        for (metric, value) in all {
            self.note((case, metric), subject, round, value);
            line.push_str(&format!(" {value:.3} {metric},"));
        }
        self.progress(line.trim_end_matches(','))
    }

    /// Notes the resident memory of a broker.
    pub(super) fn note_memory(&mut self, case: &'static str, subject: Subject) -> Result<()> {
        let resident = megabytes(machine::memory_kib(self.pid(subject)?, "VmRSS")?);
        self.note((case, "resident MB"), subject, 1, resident);
        let name = subject.name();
        self.progress(&format!("{case} {name}: resident {resident:.1} MB"))
    }

    /// Prints a line with the time since the beginning.
    pub(super) fn progress(&self, line: &str) -> Result<()> {
        crate::say(&format!(
            "[{:>4.0?} s] {line}",
            self.since.elapsed().as_secs()
        ))
    }
}

pub(super) fn megabytes(kib: u64) -> f64 {
    real(kib) * 1024.0 / 1e6
}

/// Runs `body`, and waits until the broker is quiet; both belong to the cost.
pub(super) fn cost<T>(
    pid: u32,
    others: &[u32],
    body: impl FnOnce() -> Result<T>,
) -> Result<(T, Cost)> {
    let read = || -> Result<Reading> {
        let mut rest = Duration::ZERO;
        for other in others {
            rest += machine::cpu(*other)?;
        }
        Ok(Reading {
            broker: machine::cpu(pid)?,
            rest,
        })
    };
    let (busy, before) = (machine::busy()?, read()?);
    let (own, since) = (machine::cpu_with_children()?, machine::now());
    let done = body()?;
    let (took, client) = (since.elapsed(), machine::cpu_with_children()? - own);
    let during = machine::cpu(pid)? - before.broker;
    quiet(pid)?;
    let (all, after) = (machine::busy()? - busy, read()?);
    let others = after.rest - before.rest;
    let cost = Cost {
        broker: after.broker - before.broker,
        machine: all.saturating_sub(client + others),
        core_share: during.as_secs_f64() / took.as_secs_f64(),
    };
    Ok((done, cost))
}

/// Lets the kernel write back its dirty pages, and waits until the broker is idle.
pub(super) fn quiet(pid: u32) -> Result<()> {
    rustix::fs::sync();
    let mut windows = 0;
    for _ in 0..WINDOWS_MAX {
        let before = machine::cpu(pid)?;
        pause(WINDOW);
        let is_quiet = machine::cpu(pid)? - before <= QUIET_CPU;
        windows = if is_quiet { windows + 1 } else { 0 };
        if windows >= QUIET_WINDOWS {
            break;
        }
    }
    rustix::fs::sync();
    Ok(())
}
