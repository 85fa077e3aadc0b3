//! Clients inside and outside find an installed release, over three zones.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::super::control_plane::NODE_ADDRESSES;
use super::super::release::{CLUSTER, INSIDE, NAMESPACE, OUTSIDE, Release, outside};
use super::super::stream::Stream;
use crate::report::say;
use crate::time::pause;

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
/// How long records flow while nothing happens.
const STREAMED: Duration = Duration::from_secs(3);
/// Writes a hundred records with an idempotent producer.
const WRITE: &str = "seq 100 | $K -P -t records -X enable.idempotence=true";

pub(super) fn prove(release: &Release) -> Result<()> {
    zones(release)?;
    release.test()?;
    say("ok helm test");
    metrics(release)?;
    tools(release)?;
    producers(release)?;
    group(release)?;
    streams(release)
}

/// Every set of pods is spread over the zones, and each broker's rack is its zone.
fn zones(release: &Release) -> Result<()> {
    for component in ["broker", "controller"] {
        let nodes: BTreeSet<String> = release.nodes_of(component)?.into_iter().collect();
        ensure!(nodes.len() == 3, "the {component}s share a node");
    }
    let told = release.tool(true, CLUSTER, &["list-endpoints"])?;
    for (broker, node) in release.nodes_of("broker")?.iter().enumerate() {
        let zone = node.replace("node", "zone-");
        let line = told
            .lines()
            .find(|line| line.starts_with(&broker.to_string()));
        ensure!(
            line.is_some_and(|line| line.contains(&zone)),
            "broker {broker} has not the rack {zone}: {told}"
        );
    }
    say("ok three zones, and the racks of the brokers are their zones");
    Ok(())
}

/// Brokers and controllers tell the free space on their disks, on which an alert depends.
fn metrics(release: &Release) -> Result<()> {
    for component in ["broker", "controller"] {
        let pod = format!("hw-highwater-{component}-0:9644");
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/proxy/metrics");
        let told = release.cluster.kubectl(&["get", "--raw", &path])?;
        let free = told
            .lines()
            .find_map(|line| line.strip_prefix("highwater_broker_disk_free_bytes "));
        ensure!(
            free.is_some_and(|free| free.parse::<f64>().is_ok_and(|free| free > 0.0)),
            "a {component} does not tell the free space: {told}"
        );
    }
    say("ok metrics");
    Ok(())
}

/// Kafka's own tools, in a pod and outside.
fn tools(release: &Release) -> Result<()> {
    let create = ["--create", "--topic", "records", "--partitions", "6"];
    release.tool(true, TOPICS, &create)?;
    let told = release.tool(false, TOPICS, &["--describe", "--topic", "events"])?;
    ensure!(
        told.contains("PartitionCount: 6") && told.contains("retention.ms=604800000"),
        "the job made another topic: {told}"
    );
    say("ok kafka-topics from a pod and from outside");
    Ok(())
}

/// Idempotent producers: from a pod, and from outside through the node port of each broker.
fn producers(release: &Release) -> Result<()> {
    release.kcat(true, INSIDE, WRITE)?;
    for (broker, address) in NODE_ADDRESSES.iter().enumerate() {
        release.kcat(false, &outside(address, broker), WRITE)?;
    }
    let read = "$K -C -t records -e -q | sort -n | uniq -c | grep -c '^ *4 '";
    let found = release.kcat(false, OUTSIDE, read)?;
    ensure!(
        found.trim() == "100",
        "{found} records are there four times"
    );
    say("ok idempotent producers from a pod and through the node port of each broker");
    Ok(())
}

/// A group reads and commits in a pod, and the tool outside sees it.
fn group(release: &Release) -> Result<()> {
    let read = "$K -G readers -X auto.offset.reset=earliest -c 400 -q records | wc -l";
    let found = release.kcat(true, INSIDE, read)?;
    ensure!(found.trim() == "400", "the group read {found} records");
    let told = release.tool(false, GROUPS, &["--describe", "--group", "readers"])?;
    // a partition that got no record has no committed offset, and no line
    let mut committed = 0;
    for line in told.lines().filter(|line| line.starts_with("readers")) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_group, _topic, _partition, offset, _end, lag, ..] = fields[..] else {
            bail!("a line has too few fields: {told}");
        };
        ensure!(lag == "0", "the group has a lag: {told}");
        committed += offset.parse::<u64>()?;
    }
    ensure!(
        committed == 400,
        "the group has committed {committed}: {told}"
    );
    say("ok a group");
    Ok(())
}

/// franz-go, in a pod and outside, for a while.
fn streams(release: &Release) -> Result<()> {
    let inside = Stream::start(release.stream_in_pod(), INSIDE, "stream-inside")?;
    let outside = Stream::start(release.stream_outside(), OUTSIDE, "stream-outside")?;
    pause(STREAMED);
    inside.finish("from a pod")?;
    outside.finish("from outside")
}
