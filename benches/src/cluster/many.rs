//! Many partitions: what creating them takes, what an idle cluster costs, and what a producer feels of them.

use std::time::Duration;

use anyhow::{Context, Result};
use highwater_types::ByteSize;

use super::processes::{BROKERS, Cluster, System};
use super::{Lab, TOPIC};
use crate::admin::Admin;
use crate::figures::real;
use crate::machine::{self, pause};
use crate::produce::{self, Extent, Load};
use crate::say;

/// The numbers of partitions.
const PARTITIONS: [i32; 3] = [100, 1_000, 10_000];
/// Partitions that a topic gets at once.
const EACH: i32 = 1_000;
/// The topics of the case `metadata`, and how many of the last ones are timed.
const METADATA_TOPICS: i32 = 100;
const METADATA_LAST: i32 = 5;
const IDLE: Duration = Duration::from_secs(60);
/// What the producer writes in a second, and in one request. With the object WAL each request then finds a token for its
/// put (W4), so that the budget of puts does not hide what partitions cost.
const RATE: ByteSize = ByteSize::mib(2);
const BATCH: ByteSize = ByteSize::kib(128);
const SECONDS: u64 = 40;
/// The requests in flight, as many as clients have by default.
const IN_FLIGHT: usize = 5;

/// Creates more and more partitions, with three replicas each. After each step a producer writes to one partition that was
/// there before, at a low rate.
pub(super) fn growth(lab: &mut Lab, cluster: &mut Cluster) -> Result<()> {
    let mut admin = Admin::open(&cluster.addresses()[0])?;
    let replicas = i16::try_from(BROKERS.len())?;
    let topic = admin.create_replicated(TOPIC, 1, replicas)?;
    let mut present = 1;
    let most = if lab.is_quick { EACH } else { PARTITIONS[2] };
    for wanted in PARTITIONS.into_iter().filter(|wanted| *wanted <= most) {
        while present < wanted {
            let more = (wanted - present).min(EACH);
            let since = machine::now();
            admin.create_replicated(&format!("many-{present}"), more, replicas)?;
            if more == EACH {
                let took = since.elapsed().as_secs_f64();
                lab.note_all("create 1,000", cluster.system, &[("s", took)])?;
            }
            present += more;
        }
        let view = admin.view(TOPIC)?;
        let (_, leader) = view.leader(0).context("it has a leader")?;
        let load = Load {
            rate: Some(RATE),
            ..Load::of_one_partition(BATCH, IN_FLIGHT)
        };
        let seconds = if lab.is_quick { 5 } else { SECONDS };
        let extent = Extent {
            bytes: None,
            seconds: Some(seconds),
        };
        let (cpu, commands) = (cluster.cpu()?, admin.log_end()?);
        let figures = produce::run(leader, topic, &load, &extent, None)?;
        let (cpu, commands) = (cluster.cpu()? - cpu, admin.log_end()? - commands);
        let p99 = figures.latency.at(0.99).as_secs_f64() * 1000.0;
        let case = match wanted {
            100 => "growth 100",
            1_000 => "growth 1,000",
            _ => "growth 10,000",
        };
        let noted = [
            ("produce p99 ms", p99),
            ("cpu s/s", cpu.as_secs_f64() / real(seconds)),
            (
                "metadata entries/s",
                real(u64::try_from(commands)?) / real(seconds),
            ),
        ];
        lab.note_all(case, cluster.system, &noted)?;
    }
    idle(lab, cluster, &mut admin)
}

fn idle(lab: &mut Lab, cluster: &Cluster, admin: &mut Admin) -> Result<()> {
    pause(Duration::from_secs(10));
    let (cpu, commands) = (cluster.cpu()?, admin.log_end()?);
    let time = if lab.is_quick { IDLE / 6 } else { IDLE };
    pause(time);
    let (cpu, commands) = (cluster.cpu()? - cpu, admin.log_end()? - commands);
    let noted = [
        ("cpu s/s", cpu.as_secs_f64() / time.as_secs_f64()),
        (
            "metadata entries/s",
            real(u64::try_from(commands)?) / time.as_secs_f64(),
        ),
        ("MiB of six processes", real(cluster.memory_kib()?) / 1024.0),
    ];
    lab.note_all("idle", cluster.system, &noted)
}

/// Creates the most partitions for which the metadata is made, and measures what they cost the controllers, what a node's
/// start takes with them, and what the log of the quorum gets while nothing happens.
pub(super) fn metadata(lab: &mut Lab, cluster: &mut Cluster) -> Result<()> {
    if cluster.system == System::Kafka {
        return say(
            "metadata kafka: left out, three replicas of so many logs are no use of one machine",
        );
    }
    let mut admin = Admin::open(&cluster.addresses()[0])?;
    let replicas = i16::try_from(BROKERS.len())?;
    let topics = if lab.is_quick { 5 } else { METADATA_TOPICS };
    let before = cluster.controller_kib()?;
    for number in 1..=topics {
        let since = machine::now();
        admin.create_replicated(&format!("metadata-{number}"), EACH, replicas)?;
        if topics - number < METADATA_LAST {
            let took = since.elapsed().as_secs_f64();
            lab.note_all("create the last 1,000", cluster.system, &[("s", took)])?;
        }
    }
    pause(Duration::from_secs(10));
    let added = real(cluster.controller_kib()?.saturating_sub(before)) / 1024.0;
    let entries = admin.log_end()?;
    pause(IDLE);
    let entries = real(u64::try_from(admin.log_end()? - entries)?) / IDLE.as_secs_f64();
    let noted = [
        ("partitions", real(u64::try_from(topics * EACH)?)),
        ("MiB more in a controller", added),
        ("idle metadata entries/s", entries),
        (
            "s to start a controller",
            cluster.restart_controller()?.as_secs_f64(),
        ),
        (
            "s to start a broker",
            cluster.restart_broker(BROKERS[2])?.as_secs_f64(),
        ),
    ];
    lab.note_all("metadata", cluster.system, &noted)
}

/// Writes a GiB, and counts what the quorum's log gets meanwhile.
pub(super) fn entries(lab: &mut Lab, cluster: &mut Cluster) -> Result<()> {
    let mut admin = Admin::open(&cluster.addresses()[0])?;
    let topic = admin.create_replicated(TOPIC, 1, i16::try_from(BROKERS.len())?)?;
    let view = admin.view(TOPIC)?;
    let (_, leader) = view.leader(0).context("it has a leader")?;
    let load = Load::of_one_partition(ByteSize::kib(128), IN_FLIGHT);
    let bytes = if lab.is_quick {
        ByteSize::mib(128)
    } else {
        ByteSize::gib(1)
    };
    let extent = Extent {
        bytes: Some(bytes),
        seconds: None,
    };
    let before = admin.log_end()?;
    let figures = produce::run(leader, topic, &load, &extent, None)?;
    // what is uploaded after the last batch counts too
    pause(Duration::from_secs(12));
    let entries = real(u64::try_from(admin.log_end()? - before)?);
    let noted = [("metadata entries/GiB", entries / figures.gib())];
    lab.note_all("entries", cluster.system, &noted)?;
    admin.delete_topic(TOPIC)
}
