#![doc = include_str!("../README.md")]

mod admin;
mod batch;
mod cases;
mod cluster;
mod compare;
mod consume;
mod end_to_end;
mod figures;
mod follower;
mod machine;
mod object_wal;
mod pace;
mod produce;
mod report;
#[cfg(test)]
mod smoke;
mod socket;

use std::io::Write;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use highwater_types::{ByteSize, Uuid};

use crate::admin::{Admin, End};
use crate::cluster::OfCluster;
use crate::compare::Compare;
use crate::compare::floor::{self, Floor};
use crate::consume::{Fetches, Span};
use crate::figures::Figures;
use crate::object_wal::ObjectWal;
use crate::produce::{Extent, Load};

#[derive(Debug, Parser)]
#[command(
    name = "highwater-bench",
    about = "Load for a Kafka broker, and Highwater beside Apache Kafka"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write batches that are built once.
    Produce {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        extent: Extent,
    },
    /// Read batches without parsing their records; to the end if no extent is given.
    Consume {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        fetches: Fetches,
        #[command(flatten)]
        extent: Extent,
        /// The number of partitions of the topic.
        #[arg(long, default_value_t = 1)]
        partitions: i32,
        /// The number of connections; if there are more than partitions, several read the same partition.
        #[arg(long, default_value_t = 1)]
        connections: usize,
        /// Read only the last N records of each partition; all if not given.
        #[arg(long)]
        last: Option<i64>,
        /// Begin again at the end, until the extent is reached.
        #[arg(long)]
        repeat: bool,
    },
    /// Write and read at once; the second latency is the time from sending to receiving.
    EndToEnd {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        fetches: Fetches,
        #[command(flatten)]
        extent: Extent,
    },
    /// Measure Highwater beside Apache Kafka: every case, in one command.
    Compare(Compare),
    /// Measure the object WAL on a store that is as slow as S3, beside the disk WAL: every case, in one command.
    ObjectWal(ObjectWal),
    /// Measure a cluster beside one of Apache Kafka: leaders that die, planned moves, many partitions.
    Cluster(OfCluster),
    /// Run the least work that a broker has to do, as a process; `compare` measures both brokers against it.
    #[command(hide = true)]
    Floor(Floor),
}

/// The broker and the topic.
#[derive(Debug, Args)]
struct Target {
    /// The address of the broker.
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// The name of the topic, which is created if it does not exist.
    #[arg(long, default_value = "bench")]
    topic: String,
    /// A config of the created topic, for instance `retention.bytes=1073741824`; the option may be repeated.
    #[arg(long = "topic-config", value_parser = key_value)]
    configs: Vec<(String, String)>,
    /// Delete the topic before the run if it exists, so that it is empty.
    #[arg(long)]
    fresh: bool,
    /// Delete the topic after the run.
    #[arg(long)]
    delete: bool,
    /// The core that this client runs on.
    #[arg(long)]
    core: Option<usize>,
    /// The id of the broker's process, whose processor time is printed.
    #[arg(long)]
    pid: Option<u32>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("not of the form KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Target {
    /// Runs `body` on the topic, between the topic's creation and its deletion, and prints the processor time of the
    /// run.
    fn with_topic(
        &self,
        partitions: i32,
        body: impl FnOnce(&mut Admin, Uuid) -> Result<Vec<Figures>>,
    ) -> Result<()> {
        if let Some(core) = self.core {
            machine::pin(core)?;
        }
        let mut admin = Admin::open(&self.bootstrap)?;
        if self.fresh && admin.exists(&self.topic)? {
            admin.delete_topic(&self.topic)?;
        }
        let id = admin.create_topic(&self.topic, partitions, &self.configs)?;
        let own = std::process::id();
        let broker = || self.pid.map(machine::cpu).transpose();
        let (broker_before, own_before) = (broker()?, machine::cpu(own)?);
        let figures = body(&mut admin, id)?;
        let (broker_after, own_after) = (broker()?, machine::cpu(own)?);
        for figures in &figures {
            say(&figures.to_string())?;
        }
        let done = figures.first().context("a run has figures")?;
        let cost = |subject: &str, cpu: std::time::Duration| {
            let cpu = cpu.as_secs_f64();
            let (per_gib, records) = (cpu / done.gib(), figures::real(done.records) / cpu);
            say(&format!(
                "{subject} cpu {cpu:.2} s: {per_gib:.3} s/GiB, {records:.0} records per cpu second"
            ))
        };
        if let (Some(before), Some(after)) = (broker_before, broker_after) {
            cost("broker", after.saturating_sub(before))?;
        }
        cost("client", own_after.saturating_sub(own_before))?;
        if self.delete {
            admin.delete_topic(&self.topic)?;
        }
        Ok(())
    }
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Compare(compare) => compare::run(&compare),
        Command::ObjectWal(options) => object_wal::run(&options),
        Command::Cluster(options) => cluster::run(&options),
        Command::Floor(floor) => floor::serve(&floor),
        Command::Produce {
            target,
            load,
            extent,
        } => target.with_topic(load.partitions, |_, topic| {
            let extent = extent.or(ByteSize::gib(1));
            let figures = produce::run(&target.bootstrap, topic, &load, &extent, None)?;
            Ok(vec![figures])
        }),
        Command::Consume {
            target,
            fetches,
            extent,
            partitions,
            connections,
            last,
            repeat,
        } => target.with_topic(partitions, |admin, topic| {
            let mut span = admin.span(&target.topic, partitions)?;
            span.repeats = repeat;
            if let Some(last) = last {
                span.keep_last(last);
            }
            let what = (&span, &fetches);
            let figures = consume::run(&target.bootstrap, topic, connections, what, &extent)?;
            Ok(vec![figures])
        }),
        Command::EndToEnd {
            target,
            load,
            fetches,
            extent,
        } => target.with_topic(load.partitions, |admin, topic| {
            let extent = extent.or(ByteSize::mib(16));
            let from = admin.offsets(&target.topic, load.partitions, End::Next)?;
            let span = Span {
                to: vec![i64::MAX; from.len()],
                from,
                repeats: false,
            };
            let how = (&load, &fetches);
            let both = end_to_end::run(&target.bootstrap, topic, how, &extent, &span)?;
            Ok(vec![both.produced, both.consumed])
        }),
    }
}
