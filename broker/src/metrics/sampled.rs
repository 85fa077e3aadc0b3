//! The metrics that are sampled at each scrape.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater_coordinator::GroupShard;
use highwater_io::Device;
use highwater_kraft_meta::{MetadataImage, MetadataStore};
use highwater_object_storage::RequestCounts;
use highwater_types::NodeId;
use metrics::{describe_gauge, gauge};
use metrics_process::Collector;

use crate::broker::Broker;

/// Bytes taken from each memory budget.
pub(crate) const MEMORY_USED: &str = "highwater_broker_memory_used_bytes";
/// Size of each memory budget in bytes.
pub(crate) const MEMORY_LIMIT: &str = "highwater_broker_memory_limit_bytes";
/// Partitions that this node leads, by whether they are open.
pub(crate) const PARTITIONS: &str = "highwater_broker_partitions";
/// Claims in the metadata, each of which takes some 500 bytes of memory.
pub(crate) const METADATA_CLAIMS: &str = "highwater_broker_metadata_claims";
/// Free bytes on the file system of the data directory.
pub(crate) const DISK_FREE: &str = "highwater_broker_disk_free_bytes";
/// Groups by state.
pub(crate) const GROUPS: &str = "highwater_broker_groups";
/// Seconds since the last heartbeat that the active controller answered.
pub(crate) const HEARTBEAT_AGE: &str = "highwater_broker_heartbeat_age_seconds";
/// Brokers of the cluster by whether they are fenced, on the active controller; 0 on every other node.
pub(crate) const BROKERS: &str = "highwater_controller_registered_brokers";
/// 1, labelled with the version and the commit of the process.
pub(crate) const BUILD_INFO: &str = "highwater_build_info";

/// How long counting the groups may take, because a slow coordinator must not delay the metrics.
const GROUPS_WITHIN: Duration = Duration::from_secs(1);
/// The name of the memory budget of producers' states.
const PRODUCERS: &str = "producers";
/// Kafka's names of a classic group's states.
const GROUP_STATES: [&str; 4] = [
    "Empty",
    "PreparingRebalance",
    "CompletingRebalance",
    "Stable",
];

pub(super) fn describe() {
    describe_gauge!(MEMORY_USED, "Bytes taken from a memory budget.");
    describe_gauge!(MEMORY_LIMIT, "Size of a memory budget in bytes.");
    describe_gauge!(
        PARTITIONS,
        "Partitions that this node leads, by state. For a partition that stays not_open the log has the reason."
    );
    describe_gauge!(
        METADATA_CLAIMS,
        "Parts of objects in the metadata. Each takes some 500 bytes of memory."
    );
    describe_gauge!(
        DISK_FREE,
        "Free bytes on the file system of the data directory."
    );
    describe_gauge!(GROUPS, "Groups, by state.");
    describe_gauge!(
        HEARTBEAT_AGE,
        "Seconds since the last heartbeat that the active controller answered. At broker.session.timeout.ms the broker is \
         fenced, unless all brokers are silent."
    );
    describe_gauge!(
        BROKERS,
        "Brokers of the cluster, by state: active or fenced. The active controller counts them; another node says 0."
    );
    describe_gauge!(
        BUILD_INFO,
        "1, labelled with the version and the commit that the process was built from."
    );
    Collector::default().describe();
}

/// The sources of the samples.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    pub(crate) broker: Arc<Broker>,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) requests: Arc<RequestCounts>,
}

/// Reads the current values of a controller.
#[derive(Debug, Clone)]
pub(crate) struct ControllerSampler {
    pub(crate) metadata: Arc<dyn MetadataStore>,
    pub(crate) node: NodeId,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) data_dir: PathBuf,
}

impl ControllerSampler {
    /// Sets every gauge to its current value.
    pub(crate) async fn sample(&self) {
        sample_metadata(&*self.metadata);
        sample_disk(&*self.device, &self.data_dir).await;
    }
}

/// Sets the gauges of the process, which exist before the node does.
pub(crate) fn sample_process(commit: &'static str) {
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "commit" => commit).set(1.0);
    Collector::default().collect();
}

/// Sets the gauges of the metadata, and those of the active controller.
fn sample_metadata(metadata: &dyn MetadataStore) {
    let image = metadata.image();
    gauge!(METADATA_CLAIMS).set(float(image.claims() as u64));
    let (active, fenced) = match metadata.leads() {
        Some(_term) => count_brokers(&image),
        None => (0, 0),
    };
    gauge!(BROKERS, "state" => "active").set(float(active));
    gauge!(BROKERS, "state" => "fenced").set(float(fenced));
}

/// Sets the gauges of a broker that does not run: it leads nothing, nothing of it waits or takes memory, and there is no
/// last heartbeat.
pub(crate) fn reset_broker() {
    highwater_s3stream::metrics::reset();
    gauge!(HEARTBEAT_AGE).set(f64::NAN);
    gauge!(PARTITIONS, "state" => "open").set(0.0);
    gauge!(PARTITIONS, "state" => "not_open").set(0.0);
    for state in GROUP_STATES {
        gauge!(GROUPS, "state" => state).set(0.0);
    }
    // requests hold nothing any more
    for budget in highwater_s3stream::metrics::CACHES
        .into_iter()
        .chain([PRODUCERS])
    {
        gauge!(MEMORY_USED, "budget" => budget).set(0.0);
    }
}

async fn sample_disk(device: &dyn Device, data_dir: &Path) {
    match device.bytes_free(data_dir).await {
        Ok(free) => gauge!(DISK_FREE).set(float(free)),
        Err(error) => {
            tracing::debug!(%error, "cannot read the free space of the data directory")
        }
    }
}

/// The brokers whose last epoch is open, and the others.
fn count_brokers(image: &MetadataImage) -> (u64, u64) {
    let count = image.nodes().count() as u64;
    let active = image.live().count() as u64;
    (active, count - active)
}

impl Sampler {
    /// Sets every gauge to its current value.
    pub(crate) async fn sample(&self) {
        self.memory();
        self.broker.streams.sample();
        self.requests.sample();
        self.partitions();
        gauge!(HEARTBEAT_AGE).set(self.broker.heartbeats.age().as_secs_f64());
        sample_metadata(&*self.broker.metadata);
        sample_disk(&*self.device, &self.broker.config.data_dir).await;
        self.groups().await;
    }

    fn memory(&self) {
        let requests = self.broker.budgets.held();
        let caches = self.broker.streams.memory();
        let producers = &self.broker.producers;
        let producers = (PRODUCERS, producers.used(), producers.limit());
        for (budget, used, limit) in requests.into_iter().chain(caches).chain([producers]) {
            gauge!(MEMORY_USED, "budget" => budget).set(float(used));
            gauge!(MEMORY_LIMIT, "budget" => budget).set(float(limit));
        }
    }

    fn partitions(&self) {
        let own = Some((self.broker.config.node_id, self.broker.epoch));
        let (mut open, mut not_open) = (0, 0);
        for topic in self.broker.metadata.image().topics() {
            for (index, partition) in topic.partition_indexes().zip(&topic.partitions) {
                if partition.leader != own {
                    continue;
                }
                match self.broker.partitions.find(topic, index) {
                    Some(_) => open += 1,
                    None => not_open += 1,
                }
            }
        }
        gauge!(PARTITIONS, "state" => "open").set(float(open));
        gauge!(PARTITIONS, "state" => "not_open").set(float(not_open));
    }

    async fn groups(&self) {
        let counted = self
            .broker
            .groups
            .read_all(&self.broker, None, GroupShard::count_by_state);
        let Ok(Ok(counted)) = tokio::time::timeout(GROUPS_WITHIN, counted).await else {
            return;
        };
        let mut sum: BTreeMap<&str, usize> = GROUP_STATES.iter().map(|state| (*state, 0)).collect();
        for (state, count) in counted.into_iter().flatten() {
            *sum.entry(state).or_default() += count;
        }
        for (state, count) in sum {
            gauge!(GROUPS, "state" => state).set(float(count as u64));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use highwater_kraft_meta::command::{FenceEpoch, RegisterNode, WalKind};
    use highwater_kraft_meta::{Action, Command};
    use highwater_types::LogIndex;

    use super::*;

    // Kafka's ActiveBrokerCount and FencedBrokerCount
    #[test]
    fn a_broker_is_counted_once_by_its_last_epoch() {
        let mut image = MetadataImage::default();
        let mut at = 0;
        let mut apply = |action: Action| {
            at += 1;
            let applied = image.apply(LogIndex(at), Command::from(action));
            applied.expect("is applied");
        };
        for (node, after) in [(1, 0), (2, 0), (1, 1)] {
            apply(Action::RegisterNode(RegisterNode {
                node,
                incarnation: vec![1 + u8::try_from(after).expect("is small")],
                after,
                wal: WalKind::Object.into(),
                ..RegisterNode::default()
            }));
        }
        apply(Action::FenceEpoch(FenceEpoch { node: 2, epoch: 2 }));
        assert_eq!(count_brokers(&image), (1, 1));
    }
}
