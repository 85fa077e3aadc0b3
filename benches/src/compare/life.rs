//! A broker that is idle, and a broker that starts.

use std::time::Duration;

use anyhow::Result;
use highwater_types::ByteSize;

use super::lab::{Lab, quiet};
use super::results::Subject;
use super::traffic::{Shape, extent};
use crate::machine::{self, pause};
use crate::produce;

const BOTH: [Subject; 2] = [Subject::Highwater, Subject::Kafka];
const SETTLES: Duration = Duration::from_secs(5);
const IDLE_SECONDS: u64 = 30;

/// Measures memory and processor time after a start without topics, of both brokers over the same seconds.
pub(super) fn idle(lab: &mut Lab, case: &'static str) -> Result<()> {
    pause(SETTLES);
    for subject in BOTH {
        quiet(lab.pid(subject)?)?;
        lab.note_memory(case, subject)?;
    }
    let window = Duration::from_secs(lab.seconds(IDLE_SECONDS)) / lab.rounds;
    for round in 1..=lab.rounds {
        let pids = [lab.pid(Subject::Highwater)?, lab.pid(Subject::Kafka)?];
        let before = [
            machine::cpu_of_threads(pids[0])?,
            machine::cpu_of_threads(pids[1])?,
        ];
        let since = machine::now();
        pause(window);
        for ((subject, pid), before) in BOTH.into_iter().zip(pids).zip(before) {
            let used = machine::cpu_of_threads(pid)?.saturating_sub(before);
            let percent = 100.0 * used.as_secs_f64() / since.elapsed().as_secs_f64();
            lab.note((case, "cpu % of a core"), subject, round, percent);
            lab.progress(&format!(
                "{case} {round} {}: {percent:.2} %",
                subject.name()
            ))?;
        }
    }
    Ok(())
}

/// Measures the time from exec until the broker listens, on a data directory that has a topic, after a clean stop.
pub(super) fn start(lab: &mut Lab, case: &'static str, shape: Shape) -> Result<()> {
    let mut topics = Vec::new();
    for subject in BOTH {
        let topic = lab.topic(subject, shape.partitions)?;
        let bytes = extent(ByteSize::mib(64));
        produce::run(&topic.address, topic.id, &shape.load(), &bytes, None)?;
        topics.push(topic.name);
    }
    for round in 1..=lab.rounds {
        for subject in BOTH {
            let broker = match subject {
                Subject::Highwater => &mut lab.highwater,
                _ => &mut lab.kafka,
            };
            broker.stop()?;
            let took = broker.start()?.as_secs_f64() * 1e3;
            lab.note((case, "listens after ms"), subject, round, took);
            lab.progress(&format!("{case} {round} {}: {took:.1} ms", subject.name()))?;
            // The work that a start leaves for later is done before the next stop.
            quiet(lab.pid(subject)?)?;
        }
    }
    for (subject, name) in BOTH.into_iter().zip(topics) {
        let mut admin = crate::admin::Admin::open(&lab.broker(subject).address)?;
        admin.topic(&name, shape.partitions)?;
        admin.delete_topic(&name)?;
    }
    Ok(())
}
