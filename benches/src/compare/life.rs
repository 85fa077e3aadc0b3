//! A broker that is idle, and a broker that starts.

use std::time::Duration;

use anyhow::Result;
use highwater_types::ByteSize;

use super::lab::{Lab, quiet};
use super::results::Who;
use super::traffic::{Shape, extent};
use crate::admin::pause;
use crate::figures::real;
use crate::{machine, produce};

const BOTH: [Who; 2] = [Who::Highwater, Who::Kafka];
const SETTLES: Duration = Duration::from_secs(5);
const IDLE_SECONDS: u64 = 30;

pub(super) fn megabytes(kib: u64) -> f64 {
    real(kib) * 1024.0 / 1e6
}

pub(super) fn note_memory(lab: &mut Lab, case: &'static str, who: Who) -> Result<()> {
    let resident = megabytes(machine::memory_kib(lab.pid(who)?, "VmRSS")?);
    lab.note((case, "resident MB"), who, 1, resident);
    lab.progress(&format!("{case} {}: resident {resident:.1} MB", who.name()))
}

/// Measures memory and processor time after a start without topics, of both brokers over the same seconds.
pub(super) fn idle(lab: &mut Lab, case: &'static str) -> Result<()> {
    pause(SETTLES);
    for who in BOTH {
        quiet(lab.pid(who)?)?;
        note_memory(lab, case, who)?;
    }
    let window = Duration::from_secs(lab.seconds(IDLE_SECONDS)) / lab.rounds;
    for round in 1..=lab.rounds {
        let pids = [lab.pid(Who::Highwater)?, lab.pid(Who::Kafka)?];
        let before = [
            machine::cpu_of_threads(pids[0])?,
            machine::cpu_of_threads(pids[1])?,
        ];
        let since = machine::now();
        pause(window);
        for ((who, pid), before) in BOTH.into_iter().zip(pids).zip(before) {
            let used = machine::cpu_of_threads(pid)?.saturating_sub(before);
            let percent = 100.0 * used.as_secs_f64() / since.elapsed().as_secs_f64();
            lab.note((case, "cpu % of a core"), who, round, percent);
            lab.progress(&format!("{case} {round} {}: {percent:.2} %", who.name()))?;
        }
    }
    Ok(())
}

/// Measures the time from exec until the broker listens, on a data directory that has a topic, after a clean stop.
pub(super) fn start(lab: &mut Lab, case: &'static str, shape: Shape) -> Result<()> {
    let mut topics = Vec::new();
    for who in BOTH {
        let topic = lab.topic(who, shape.partitions)?;
        let bytes = extent(ByteSize::mib(64));
        produce::run(&topic.address, topic.id, &shape.load(), &bytes, None)?;
        topics.push(topic.name);
    }
    for round in 1..=lab.rounds {
        for who in BOTH {
            let broker = match who {
                Who::Highwater => &mut lab.highwater,
                _ => &mut lab.kafka,
            };
            broker.stop()?;
            let took = broker.start()?.as_secs_f64() * 1e3;
            lab.note((case, "listens after ms"), who, round, took);
            lab.progress(&format!("{case} {round} {}: {took:.1} ms", who.name()))?;
            // The work that a start leaves for later is done before the next stop.
            quiet(lab.pid(who)?)?;
        }
    }
    for (who, name) in BOTH.into_iter().zip(topics) {
        let mut admin = crate::admin::Admin::open(&lab.broker(who).address)?;
        admin.topic(&name, shape.partitions)?;
        admin.delete_topic(&name)?;
    }
    Ok(())
}
