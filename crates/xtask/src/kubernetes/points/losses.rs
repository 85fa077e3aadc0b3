//! Nodes are drained and die, processes are killed, a volume is lost: nothing acknowledged is lost by any of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::control_plane::{NODE_ADDRESSES, until};
use super::super::release::{OUTSIDE, Release, outside, within};
use super::super::stream::Stream;
use super::lost_volume;
use crate::report::say;
use crate::time::{now, pause};

const WAIT_MAX: Duration = Duration::from_secs(180);
/// How often a broker is killed.
const KILLS: u32 = 20;
/// The node of the store and the clients, which neither is drained nor dies.
const SPARED: &str = "node1";
/// The time in which others serve the partitions of a dead node's brokers. The session of a broker is three seconds.
const TAKEOVER_MAX: Duration = Duration::from_secs(30);
/// How long clients live with a dead node.
const WITHOUT: Duration = Duration::from_secs(10);

pub(super) fn prove(release: &Release) -> Result<()> {
    evictions(release)?;
    drain(release)?;
    kills(release)?;
    lost_volume::prove(release)?;
    dead_node(release)
}

/// The budget of each set lets one pod go at a time.
fn evictions(release: &Release) -> Result<()> {
    for component in ["broker", "controller"] {
        let pod = |ordinal: u32| format!("hw-highwater-{component}-{ordinal}");
        let allowed = ["get", "pdb", &format!("hw-highwater-{component}")];
        let allowed = [&allowed[..], &["-o=jsonpath={.status.disruptionsAllowed}"]].concat();
        until("one may go", WAIT_MAX, || {
            Ok(release.kubectl(&allowed)? == "1")
        })?;
        release.replaced(&pod(0), WAIT_MAX, || {
            let first = release.evict(&pod(0))?;
            ensure!(first.is_none(), "the first eviction is refused: {first:?}");
            release.is_not_evicted(&pod(1))
        })?;
        release.await_ready(3, WAIT_MAX)?;
    }
    say("ok an eviction beyond the budget is refused");
    Ok(())
}

/// A node that has a broker, and may lose it.
fn node_of_a_broker(release: &Release) -> Result<String> {
    let mut nodes = release.nodes_of("broker")?.into_iter();
    let other = nodes.find(|node| node != SPARED);
    other.with_context(|| format!("all brokers are on {SPARED}"))
}

/// The ids of the brokers on a node.
fn brokers_on(release: &Release, node: &str) -> Result<Vec<i64>> {
    let nodes = release.nodes_of("broker")?;
    let found = (0..).zip(nodes).filter(|(_, of)| of == node);
    Ok(found.map(|(broker, _)| broker).collect())
}

/// A node is drained as for its upgrade, and comes back.
fn drain(release: &Release) -> Result<()> {
    let stream = Stream::start(release.stream_outside(), OUTSIDE, "stream-drain")?;
    let since = now();
    let node = node_of_a_broker(release)?;
    let drain = [
        "drain",
        &node,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
    ];
    release
        .cluster
        .kubectl(&[&drain[..], &["--timeout=180s"]].concat())?;
    let took = since.elapsed().as_secs_f64();
    say(&format!("{node} is drained after {took:.0} s"));
    pause(WITHOUT);
    release.cluster.kubectl(&["uncordon", &node])?;
    release.await_ready(3, WAIT_MAX)?;
    stream.finish("a drained node")
}

/// The process of a broker is killed again and again.
fn kills(release: &Release) -> Result<()> {
    let stream = Stream::start(release.stream_outside(), OUTSIDE, "stream-kills")?;
    let since = now();
    for kill in 0..KILLS {
        let pod = format!("hw-highwater-broker-{}", kill % 3);
        release.restart(&pod, WAIT_MAX)?;
    }
    let took = since.elapsed().as_secs_f64();
    say(&format!(
        "{KILLS} times a broker is killed and ready again: {took:.0} s"
    ));
    stream.finish(&format!("{KILLS} times a broker killed with SIGKILL"))
}

/// A node dies, is taken out of the cluster, and comes back.
fn dead_node(release: &Release) -> Result<()> {
    let stream = Stream::start(release.stream_outside(), OUTSIDE, "stream-node")?;
    let name = node_of_a_broker(release)?;
    let dead: Vec<i64> = brokers_on(release, &name)?;
    // Kubernetes goes on sending clients of the bootstrap to the dead node, until it notices that the node is silent
    let living = (0..3).find(|broker| !dead.contains(broker));
    let living = usize::try_from(living.context("all brokers are dead")?)?;
    let bootstrap = outside(NODE_ADDRESSES[0], living);
    let since = now();
    release.cluster.kill_node(&name)?;
    let what = format!("{name} is dead, and others lead the partitions of brokers {dead:?}");
    until(&what, WAIT_MAX, || {
        let leaders = release.metadata(&bootstrap)?.leaders;
        Ok(!leaders.is_empty() && dead.iter().all(|id| !leaders.contains(id)))
    })?;
    within(&what, since.elapsed(), TAKEOVER_MAX)?;
    pause(WITHOUT);
    release.cluster.kubectl(&["delete", "node", &name])?;
    let path = "-o=jsonpath={.status.readyReplicas}";
    let took = until("three brokers are ready on two nodes", WAIT_MAX, || {
        let ready = release.kubectl(&["get", "statefulset", "hw-highwater-broker", path])?;
        Ok(ready == "3" && !release.nodes_of("broker")?.contains(&name))
    })?;
    let seconds = took.as_secs_f64();
    say(&format!(
        "its brokers are ready on other nodes {seconds:.0} s after it was taken out"
    ));
    release.cluster.start_node(&name)?;
    release.await_ready(3, WAIT_MAX)?;
    stream.finish("a node that dies without a word")
}
