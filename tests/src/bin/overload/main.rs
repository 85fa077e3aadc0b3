//! A broker with more clients than it has memory for, and a broker that reads much more than it has memory for. The
//! program asserts the bounds of the broker's memory, and prints the latencies of its other clients.
//!
//! `overload BINARY DIRECTORY [MEMORY_MIB [SECONDS [CONNECTIONS [SLOW]]]]`

mod broker;
mod clients;
mod cold;
mod healthy;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::broker::{Broker, Seen};

/// The most memory of the process, as a percentage of its limit.
const PROCESS_PERCENT_MAX: u64 = 115;
const MEASURED_BEFORE: Duration = Duration::from_secs(3);
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
const BATCH_BYTES: usize = 256 << 10;
const OPENED_WITHIN: Duration = Duration::from_secs(30);
/// The number of partitions of the backlog.
pub(crate) const PARTITIONS: i32 = 8;

struct Plan {
    binary: PathBuf,
    dir: PathBuf,
    memory_mib: u64,
    seconds: u64,
    connections: usize,
    slow: usize,
}

/// The results of the clients.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) idle: AtomicU64,
    pub(crate) slow_opened: AtomicU64,
    pub(crate) slow_bytes: AtomicU64,
    pub(crate) deaf_sent: AtomicU64,
    pub(crate) half_opened: AtomicU64,
}

/// Prints a line.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        // The reader of the output has closed it.
    }
}

impl Plan {
    fn read() -> Result<Self> {
        let mut args = std::env::args().skip(1);
        let binary = args.next().context("the binary is named")?;
        let dir = args.next().context("the directory is named")?;
        let mut number = |default: u64| args.next().map_or(Ok(default), |text| text.parse());
        Ok(Self {
            binary: PathBuf::from(binary),
            dir: PathBuf::from(dir),
            memory_mib: number(384)?,
            seconds: number(15)?,
            connections: usize::try_from(number(10_000)?)?,
            slow: usize::try_from(number(1000)?)?,
        })
    }

    /// Raises the limit of open files, because both processes need a file for each connection.
    fn raise_files(&self) -> Result<()> {
        let needed = (self.connections + self.slow) as u64 + 1000;
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        let most = limit.maximum.unwrap_or(u64::MAX);
        ensure!(
            most >= needed,
            "{needed} open files are needed and {most} allowed: raise the hard limit (ulimit -Hn)"
        );
        Ok(setrlimit(Resource::Nofile, limit)?)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let plan = Plan::read()?;
    plan.raise_files()?;
    let (most, limit) = cold::run(&plan).await?;
    check(&most, limit)?;
    let settings = ["highwater.upload.interval.ms=500"];
    let broker = Broker::start(&plan.binary, &plan.dir, plan.memory_mib, &settings).await?;
    let address = broker.address;
    clients::create_topics(address).await?;
    let backlog = clients::backlog(address, (2 * plan.memory_mib) << 20, BATCH_BYTES).await?;
    say(&format!(
        "backlog {} MiB; {}",
        backlog >> 20,
        broker.look().await?
    ));

    let before = healthy::measure(address, MEASURED_BEFORE).await?;
    say(&format!("before:  {before}"));
    let counts = Arc::new(Counts::default());
    let mut crowd = crowd(&plan, address, &counts);
    let mut most = Seen::default();
    let opened = opened(&plan, &counts);
    most.join(&watch(&broker, opened).await?.1);
    let healthy = healthy::measure(address, Duration::from_secs(plan.seconds));
    let (during, seen) = watch(&broker, healthy).await?;
    most.join(&seen);
    let during = during?;
    say(&format!("during:  {during}"));
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    say(&format!(
        "clients: {} idle, slow ones opened {} and took {} MiB, deaf ones sent {}, half frames {}",
        count(&counts.idle),
        count(&counts.slow_opened),
        count(&counts.slow_bytes) >> 20,
        count(&counts.deaf_sent),
        count(&counts.half_opened),
    ));
    most.join(&broker.look().await?);
    say(&format!("most:    {most}"));
    let idle = count(&counts.idle);
    crowd.shutdown().await;
    ensure!(
        idle == plan.connections as u64,
        "{idle} idle connections were open, {} wanted",
        plan.connections
    );
    check(&most, plan.memory_mib << 20)?;
    broker.stop().await
}

/// Samples the broker's memory until a future is done.
async fn watch<T>(broker: &Broker, until: impl Future<Output = T>) -> Result<(T, Seen)> {
    let mut until = std::pin::pin!(until);
    let mut most = Seen::default();
    loop {
        // Cancellation safe: the awaited future lives outside.
        tokio::select! {
            done = &mut until => return Ok((done, most)),
            () = tokio::time::sleep(SAMPLE_EVERY) => most.join(&broker.look().await?),
        }
    }
}

/// Waits until the crowd is connected, as far as the broker admits it.
async fn opened(plan: &Plan, counts: &Counts) {
    let until = Instant::now() + OPENED_WITHIN;
    let idle = || counts.idle.load(Ordering::Relaxed);
    while idle() < plan.connections as u64 && Instant::now() < until {
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
}

fn crowd(plan: &Plan, address: SocketAddr, counts: &Arc<Counts>) -> JoinSet<()> {
    let mut crowd = JoinSet::new();
    for number in 0..plan.connections {
        crowd.spawn(clients::idle(address, number, Arc::clone(counts)));
    }
    for number in 0..plan.slow {
        crowd.spawn(clients::slow(address, number, Arc::clone(counts)));
    }
    for number in 0..6 {
        crowd.spawn(clients::deaf(address, number, Arc::clone(counts)));
    }
    for number in 0..100 {
        crowd.spawn(clients::half(address, number, Arc::clone(counts)));
    }
    crowd
}

/// I11: checks that every budget is within its limit, all of them are within the node's, and the process is little
/// above it.
fn check(most: &Seen, limit: u64) -> Result<()> {
    ensure!(!most.budgets.is_empty(), "the broker tells of no memory");
    for (budget, (used, limit)) in &most.budgets {
        ensure!(
            used <= limit,
            "the budget {budget} held {used} bytes, over its limit of {limit}"
        );
    }
    let counted = most.counted;
    ensure!(counted <= limit, "{counted} bytes counted, over the limit");
    let allowed = limit / 100 * PROCESS_PERCENT_MAX;
    ensure!(
        most.process <= allowed,
        "the process took {} MiB at most, over {} MiB",
        most.process >> 20,
        allowed >> 20
    );
    Ok(())
}
