//! Every client's scenario with one cluster, while its brokers hand all that they lead over, one after the other; then a
//! consumer that reads in its rack.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use crate::clients::{jars, java_program};
use crate::cluster::{BROKERS, Cluster, rack};
use crate::report::{Outcome, say};
use crate::rust::run;
use crate::scenario::{Program, programs};
use crate::time::{now, pause};

/// The number of programs that run at the same time.
const AT_ONCE: usize = 3;
/// The time for which a broker leads again before the next one hands over.
const CALM: Duration = Duration::from_secs(3);
/// The number of drains under which the suite shows too little.
const DRAINS_MIN: usize = BROKERS.len();

/// The suite. A broker that is drained hands its partitions, its groups' among them, over to the others: no program may
/// see more of it than its client retries. No broker stops, because some clients hand the end of a connection to the program
/// when it meets a request about groups.
pub(crate) fn play() -> Result<Outcome> {
    let mut ready = VecDeque::new();
    for (name, prepare) in programs() {
        match prepare()? {
            Program::Ready(program) => ready.push_back((name, program)),
            Program::Missing(missing) => return Ok(Outcome::Skipped(missing)),
        }
    }
    let settings = [
        "group.initial.rebalance.delay.ms=300",
        "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector",
    ];
    let cluster = Cluster::start("clients-cluster", &settings)?;
    let bootstrap = cluster.bootstrap();
    let count = ready.len();
    let (ready, ended) = (Mutex::new(ready), AtomicUsize::new(0));
    let (failed, drains) = std::thread::scope(|scope| {
        let players = [(); AT_ONCE].map(|()| scope.spawn(|| all(&ready, &ended, &bootstrap)));
        let drains = disturb(&cluster, || ended.load(Ordering::SeqCst) < count);
        let failed: Result<Vec<_>> = players
            .into_iter()
            .map(|player| player.join().map_err(|_panic| anyhow!("a thread panicked")))
            .collect();
        (failed.map(|failed| failed.concat()), drains)
    });
    let (failed, drains) = (failed?, drains?);
    say(&format!("brokers were drained {drains} times"));
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    ensure!(drains >= DRAINS_MIN, "too few brokers were drained");
    read_in_rack(&cluster)?;
    cluster.stop(&[])?;
    Ok(Outcome::Passed)
}

/// A consumer in Java that is far behind reads from the replica in its rack (KIP-392).
fn read_in_rack(cluster: &Cluster) -> Result<()> {
    let [leader, replica, _] = BROKERS;
    let mut nearest = java_program(&jars()?, "Nearest");
    nearest.arg(cluster.bootstrap());
    nearest.args([leader.to_string(), replica.to_string(), rack(replica)]);
    run(&mut nearest)
}

type Ready = Mutex<VecDeque<(&'static str, Command)>>;

/// Runs programs until none is left, and returns those that failed.
fn all(ready: &Ready, ended: &AtomicUsize, bootstrap: &str) -> Vec<String> {
    let next = || {
        let mut ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.pop_front()
    };
    let mut failed = Vec::new();
    while let Some((name, mut program)) = next() {
        let since = now();
        let played = run(program.args([bootstrap, name]));
        say(&format!("{name}: {:.1} s", since.elapsed().as_secs_f64()));
        if let Err(error) = played {
            failed.push(format!("{name}: {error:#}"));
        }
        ended.fetch_add(1, Ordering::SeqCst);
    }
    failed
}

/// Drains the brokers one after the other, and returns how often.
fn disturb(cluster: &Cluster, goes_on: impl Fn() -> bool) -> Result<usize> {
    for (drains, broker) in BROKERS.into_iter().cycle().enumerate() {
        pause(CALM);
        if !goes_on() {
            return Ok(drains);
        }
        cluster.operate("drain", broker)?;
        cluster.operate("uncordon", broker)?;
    }
    Ok(0)
}
