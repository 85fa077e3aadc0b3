//! The choices of a seed: the shape of the load, the node's settings, and when the node crashes.

use std::time::Duration;

use highwater_runtime::SeededRng;

use crate::checker::Keeps;
use crate::{Crash, Trouble};

/// Everything in a run that is chosen before the run starts.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// The number of partitions that are written all the time; one more is written now and then.
    pub(crate) partitions: i32,
    pub(crate) producers_per_partition: u32,
    /// The most batches of one producer that wait for their answers, which is at most what Kafka's clients permit.
    pub(crate) in_flight_max: usize,
    pub(crate) records_per_batch_max: u64,
    pub(crate) value_bytes_max: u64,
    /// The longest rest of a producer between two batches.
    pub(crate) think_ms: u64,
    /// The retention of the topic that has one, and how that topic is written.
    pub(crate) keeps: Keeps,
    pub(crate) aged_value_bytes_max: u64,
    pub(crate) aged_think_ms: u64,
    pub(crate) settings: Vec<(&'static str, String)>,
    pub(crate) latency_max: Duration,
    pub(crate) lives: Vec<Life>,
    /// The troubles of the device, in order of time, in addition to crashes.
    pub(crate) troubles: Vec<Befalls>,
}

/// A time during which the device is in trouble, counted from the beginning of the run. Lives end and begin during it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Befalls {
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
    pub(crate) trouble: Trouble,
}

/// How one life of the node ends, with times counted from its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) end: End,
    /// The latest time at which the life ends.
    pub(crate) after: Duration,
    pub(crate) crash: Crash,
    /// The time until the node is started again.
    pub(crate) down: Duration,
    /// When clients and node cannot reach each other, and for how long.
    pub(crate) cut: Option<(Duration, Duration)>,
}

/// The event that ends a life.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// The device hangs at this operation.
    AtOperation(u64),
    /// The life ends at its latest time.
    AtTime,
    /// The node is told to stop.
    Stop,
}

const LIFE_MAX: Duration = Duration::from_secs(4);

impl Scenario {
    /// The partition whose late producer is at times idle for longer than a life of the node.
    pub(crate) fn slow_partition(&self) -> i32 {
        self.partitions
    }

    /// The scenario with less data, because several nodes take more time than one.
    pub(crate) fn for_cluster(mut self) -> Self {
        self.value_bytes_max = self.value_bytes_max.min(6000);
        self.think_ms = self.think_ms.max(20);
        self.keeps.retention_bytes = -1;
        self.keeps.retention_ms = self.keeps.retention_ms.max(1000);
        self.aged_value_bytes_max = 300;
        self
    }

    pub(crate) fn draw(rng: &SeededRng) -> Self {
        let one_of = |choices: &[u64]| {
            let at = usize::try_from(rng.below(choices.len() as u64)).unwrap_or(0);
            choices[at]
        };
        let large = rng.below(5) == 0;
        // Topics that roll by size have segments of Kafka's least size, so they need batches large enough to fill them.
        let by_size = rng.below(4) == 0;
        let keeps = Keeps {
            segment_ms: i64::try_from(one_of(&[300, 1500, 5000])).unwrap_or(1),
            segment_bytes: 1 << 20,
            retention_ms: match by_size && rng.below(2) == 0 {
                true => -1,
                false => i64::try_from(one_of(&[1000, 4000])).unwrap_or(1),
            },
            retention_bytes: if by_size { 2 << 20 } else { -1 },
        };
        let settings = vec![
            (
                "highwater.upload.interval.ms",
                one_of(&[50, 300, 1000, 4000]).to_string(),
            ),
            (
                "highwater.metadata.snapshot.entries",
                one_of(&[5, 20, 60]).to_string(),
            ),
            ("log.roll.ms", one_of(&[500, 600_000]).to_string()),
        ];
        Self {
            partitions: i32::try_from(1 + rng.below(3)).unwrap_or(1),
            producers_per_partition: u32::try_from(1 + rng.below(2)).unwrap_or(1),
            in_flight_max: usize::try_from(1 + rng.below(5)).unwrap_or(1),
            records_per_batch_max: if large { 2 } else { one_of(&[1, 4, 20]) },
            value_bytes_max: if large {
                200_000
            } else {
                one_of(&[20, 400, 6000])
            },
            think_ms: one_of(if large { &[100, 200] } else { &[5, 20, 60] }),
            keeps,
            aged_value_bytes_max: if by_size { 100_000 } else { 300 },
            aged_think_ms: one_of(&[100, 600]),
            settings,
            latency_max: Duration::from_millis(one_of(&[2, 10, 40])),
            lives: lives(rng),
            troubles: troubles(rng),
        }
    }
}

fn lives(rng: &SeededRng) -> Vec<Life> {
    let mut lives: Vec<Life> = Vec::new();
    for _ in 0..3 + rng.below(4) {
        let mut life = Life::draw(rng);
        let inherits = lives
            .last()
            .is_some_and(|last| last.crash == Crash::Process);
        if inherits && rng.below(2) == 0 {
            // Data that a killed process wrote and did not sync is lost after the next process has read it.
            life.end = End::AtOperation(20 + rng.below(150));
            life.crash = Crash::Power;
        }
        lives.push(life);
    }
    lives
}

/// About the time, or a little less, that all lives of a run take together.
const LIVES_MS: u64 = 8000;
const TROUBLE_MS_MAX: u64 = 5000;

fn troubles(rng: &SeededRng) -> Vec<Befalls> {
    let mut at = 0;
    let mut all = Vec::new();
    // A third of the runs have no trouble.
    while rng.below(3) > 0 {
        at += 300 + rng.below(LIVES_MS / 2);
        let begin = Duration::from_millis(at);
        at += 200 + rng.below(TROUBLE_MS_MAX);
        all.push(Befalls {
            begin,
            end: Duration::from_millis(at),
            trouble: Trouble::draw(rng),
        });
        if at > LIVES_MS {
            break;
        }
    }
    all
}

impl Life {
    fn draw(rng: &SeededRng) -> Self {
        let end = match rng.below(10) {
            0 => End::AtOperation(1 + rng.below(15)),
            1..=2 => End::AtOperation(1 + rng.below(150)),
            3..=6 => End::AtOperation(300 + rng.below(3000)),
            7 => End::AtOperation(1000 + rng.below(6000)),
            8 => End::AtTime,
            _ => End::Stop,
        };
        let ms = |max| Duration::from_millis(1 + rng.below(max));
        let cut = (rng.below(4) == 0).then(|| (ms(2500), ms(1500)));
        Self {
            end,
            after: LIFE_MAX / 4 + ms(3000),
            crash: match rng.below(3) {
                0 => Crash::Process,
                _ => Crash::Power,
            },
            down: ms(600),
            cut,
        }
    }
}
