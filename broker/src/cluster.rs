//! A view of the cluster: its brokers and their endpoints, the leader of each partition, the coordinator of each key.
//!
//! Every answer comes from one metadata image, as in Kafka's `KRaftMetadataCache`. A client gets the endpoints of the
//! listener on which it is connected; it can't reach a broker without an endpoint on that listener. A broker is fenced
//! from the moment when its last epoch is no longer open (E3). It stays in the lists of replicas and is offline there.
//! It leads nothing, although no other broker may lead its partitions yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_coordinator::partition_of;
use highwater_kraft_meta::{MetadataImage, NodeImage, PartitionImage, TopicImage};
use highwater_protocol::StrBytes;
use highwater_protocol::messages::{fetch_response, produce_response};
use highwater_types::{ClusterId, LeaderEpoch, NodeId, TopicId};

use crate::reassignment::Reassignment;

/// Kafka's id for "no broker".
pub(crate) const NO_BROKER: NodeId = NodeId(-1);

/// The cluster in one image, as the broker that answers sees it.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    image: Arc<MetadataImage>,
    own: NodeId,
}

/// A broker with its endpoint on one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BrokerEndpoint {
    pub(crate) id: NodeId,
    pub(crate) host: StrBytes,
    pub(crate) port: i32,
    pub(crate) rack: Option<StrBytes>,
    pub(crate) is_fenced: bool,
}

impl Cluster {
    /// The view that the broker `own` has of an image.
    #[must_use]
    pub(crate) fn new(image: Arc<MetadataImage>, own: NodeId) -> Self {
        Self { image, own }
    }

    /// The cluster's id.
    #[must_use]
    pub(crate) fn id(&self) -> ClusterId {
        self.image.cluster()
    }

    /// Every broker with an endpoint on this listener, by id, including fenced ones.
    pub(crate) fn brokers(&self, listener: &str) -> impl Iterator<Item = BrokerEndpoint> {
        let nodes = self.image.nodes();
        nodes.filter_map(move |(id, node)| endpoint(id, node, listener))
    }

    /// The live brokers with an endpoint on this listener, by id.
    pub(crate) fn live_brokers(&self, listener: &str) -> impl Iterator<Item = BrokerEndpoint> {
        self.brokers(listener).filter(|broker| !broker.is_fenced)
    }

    /// A broker, if it is live and has an endpoint on this listener.
    #[must_use]
    pub(crate) fn live_broker(&self, id: NodeId, listener: &str) -> Option<BrokerEndpoint> {
        let found = endpoint(id, self.image.node(id)?, listener)?;
        (!found.is_fenced).then_some(found)
    }

    /// Those of the given brokers that are live and have an endpoint on this listener. A response that names leaders
    /// has their endpoints too (KIP-951).
    pub(crate) fn live_among(
        &self,
        ids: &BTreeSet<NodeId>,
        listener: &str,
    ) -> impl Iterator<Item = BrokerEndpoint> {
        ids.iter().filter_map(|id| self.live_broker(*id, listener))
    }

    /// Whether a broker is live and has an endpoint on this listener.
    #[must_use]
    pub(crate) fn is_reachable(&self, id: NodeId, listener: &str) -> bool {
        let node = self.image.node(id);
        node.is_some_and(|node| {
            let mut endpoints = node.endpoints.iter();
            node.is_live() && endpoints.any(|endpoint| endpoint.listener == listener)
        })
    }

    /// The first endpoint of the broker that answers.
    #[must_use]
    pub(crate) fn own_endpoint(&self) -> Option<BrokerEndpoint> {
        let node = self.image.node(self.own)?;
        let first = node.endpoints.first()?;
        endpoint(self.own, node, &first.listener)
    }

    /// The broker to which clients send changes of the cluster. Every broker accepts them, so, as in Kafka with KRaft,
    /// it is a live broker and not the active controller. It is the broker that answers, because the client can reach
    /// that one.
    #[must_use]
    pub(crate) fn controller(&self) -> NodeId {
        let live = |id: &NodeId| self.image.node(*id).is_some_and(NodeImage::is_live);
        let ids = self.image.nodes().map(|(id, _)| id);
        let mut candidates = std::iter::once(self.own).chain(ids);
        candidates.find(live).unwrap_or(NO_BROKER)
    }

    /// The broker that leads a partition; `None` if the epoch that was given the partition is no longer open.
    #[must_use]
    pub(crate) fn leader(&self, partition: &PartitionImage) -> Option<NodeId> {
        self.image.live_leader(partition).map(|(id, _)| id)
    }

    /// The leader of a partition and its leader epoch, by the topic's id, otherwise by its name. It is [`NO_BROKER`]
    /// without a leader, and the epoch is -1 if the partition does not exist.
    #[must_use]
    pub(crate) fn leader_of(&self, id: TopicId, name: &str, index: i32) -> (NodeId, LeaderEpoch) {
        let topic = self
            .image
            .topic_by_id(id)
            .or_else(|| self.image.topic(name));
        let Some(partition) = topic.and_then(|topic| topic.partition(index)) else {
            return (NO_BROKER, LeaderEpoch(-1));
        };
        let leader = self.leader(partition).unwrap_or(NO_BROKER);
        (leader, partition.leader_epoch)
    }

    /// The replicas of a partition as clients are told: its list, then the brokers that a reassignment under way removes,
    /// and the leader in any case.
    #[must_use]
    pub(crate) fn replicas(&self, partition: &PartitionImage) -> Vec<NodeId> {
        let mut replicas = match Reassignment::of(partition) {
            Some(reassignment) => reassignment.replicas,
            None => partition.replicas.clone(),
        };
        let leader = self.leader(partition);
        replicas.extend(leader.filter(|leader| !replicas.contains(leader)));
        replicas
    }

    /// The in-sync replicas of a partition: the live brokers of its replicas.
    #[must_use]
    pub(crate) fn in_sync(&self, partition: &PartitionImage) -> Vec<NodeId> {
        let live = |id: &NodeId| self.image.node(*id).is_some_and(NodeImage::is_live);
        self.replicas(partition).into_iter().filter(live).collect()
    }

    /// The live broker that coordinates a key by this internal topic: the leader of the key's partition.
    #[must_use]
    pub(crate) fn coordinator(
        &self,
        topic: &TopicImage,
        key: &str,
        listener: &str,
    ) -> Option<BrokerEndpoint> {
        let partition = topic.partition(coordinating_partition(topic, key))?;
        self.live_broker(self.leader(partition)?, listener)
    }
}

/// The partition of an internal topic whose leader coordinates a key.
#[must_use]
pub(crate) fn coordinating_partition(topic: &TopicImage, key: &str) -> i32 {
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    partition_of(key, count)
}

fn endpoint(id: NodeId, node: &NodeImage, listener: &str) -> Option<BrokerEndpoint> {
    let mut endpoints = node.endpoints.iter();
    let found = endpoints.find(|endpoint| endpoint.listener == listener)?;
    Some(BrokerEndpoint {
        id,
        host: StrBytes::from(found.host.as_str()),
        port: i32::try_from(found.port).unwrap_or(-1),
        rack: (!node.rack.is_empty()).then(|| StrBytes::from(node.rack.as_str())),
        is_fenced: !node.is_live(),
    })
}

impl From<BrokerEndpoint> for produce_response::NodeEndpoint {
    fn from(broker: BrokerEndpoint) -> Self {
        Self {
            node_id: broker.id.0,
            host: broker.host,
            port: broker.port,
            rack: broker.rack,
        }
    }
}

impl From<BrokerEndpoint> for fetch_response::NodeEndpoint {
    fn from(broker: BrokerEndpoint) -> Self {
        Self {
            node_id: broker.id.0,
            host: broker.host,
            port: broker.port,
            rack: broker.rack,
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_kraft_meta::command::{PartitionMove, Replicas};

    use super::*;
    use crate::fixture::ImageBuilder;

    const CLIENTS: &str = "PLAINTEXT";
    const OTHERS: &str = "EXTERNAL";

    /// Three brokers, of which only the second has no second listener.
    fn three() -> ImageBuilder {
        let mut images = ImageBuilder::default();
        images.register(1, &[(CLIENTS, "one", 9092), (OTHERS, "one.example", 19092)]);
        images.register(2, &[(CLIENTS, "two", 9092)]);
        images.register(
            3,
            &[(OTHERS, "three.example", 19092), (CLIENTS, "three", 9092)],
        );
        images
    }

    fn view(images: &ImageBuilder) -> Cluster {
        Cluster::new(images.image(), NodeId(1))
    }

    fn told(brokers: impl Iterator<Item = BrokerEndpoint>) -> Vec<(i32, String, i32)> {
        let one = |broker: BrokerEndpoint| (broker.id.0, broker.host.to_string(), broker.port);
        brokers.map(one).collect()
    }

    fn address(id: i32, host: &str, port: i32) -> (i32, String, i32) {
        (id, host.to_owned(), port)
    }

    #[test]
    fn brokers_are_told_by_the_listener_of_the_client() {
        let cluster = view(&three());
        let plain =
            [(1, "one"), (2, "two"), (3, "three")].map(|(id, host)| address(id, host, 9092));
        assert_eq!(told(cluster.live_brokers(CLIENTS)), plain);
        let other = [(1, "one.example"), (3, "three.example")];
        let other = other.map(|(id, host)| address(id, host, 19092));
        assert_eq!(told(cluster.live_brokers(OTHERS)), other);
        assert_eq!(cluster.live_brokers("CONTROLLER").count(), 0);
        let own = cluster.own_endpoint().into_iter();
        assert_eq!(told(own), [address(1, "one", 9092)]);
    }

    #[test]
    fn a_fenced_broker_is_told_to_those_alone_that_ask_for_it() {
        let mut images = three();
        images.fence(2);
        let cluster = view(&images);
        assert_eq!(
            told(cluster.live_brokers(CLIENTS)),
            [address(1, "one", 9092), address(3, "three", 9092)]
        );
        let all = cluster.brokers(CLIENTS);
        let all: Vec<_> = all.map(|broker| (broker.id.0, broker.is_fenced)).collect();
        assert_eq!(all, [(1, false), (2, true), (3, false)]);
        assert_eq!(cluster.live_broker(NodeId(2), CLIENTS), None);
        assert_eq!(cluster.live_broker(NodeId(4), CLIENTS), None);
    }

    // Kafka's `getRandomAliveBrokerId`
    #[test]
    fn the_controller_is_the_broker_that_is_asked_as_long_as_it_lives() {
        let mut images = three();
        assert_eq!(view(&images).controller(), NodeId(1));
        images.fence(1);
        assert_eq!(view(&images).controller(), NodeId(2));
        images.fence(2);
        images.fence(3);
        assert_eq!(view(&images).controller(), NO_BROKER);
    }

    // KIP-951
    #[test]
    fn a_leader_elsewhere_is_told_with_its_epoch_and_endpoint() {
        let mut images = three();
        let id = images.create("t", &[&[2, 1], &[1, 3]]);
        let cluster = view(&images);
        assert_eq!(cluster.leader_of(id, "", 0), (NodeId(2), LeaderEpoch(0)));
        let by_name = cluster.leader_of(TopicId::ZERO, "t", 1);
        assert_eq!(by_name, (NodeId(1), LeaderEpoch(0)));
        let unknown = (NO_BROKER, LeaderEpoch(-1));
        assert_eq!(cluster.leader_of(id, "t", 2), unknown);
        assert_eq!(cluster.leader_of(TopicId::ZERO, "u", 0), unknown);
        let leaders = BTreeSet::from([NodeId(2), NO_BROKER]);
        let endpoints = told(cluster.live_among(&leaders, CLIENTS));
        assert_eq!(endpoints, [address(2, "two", 9092)]);
        assert_eq!(cluster.live_among(&leaders, OTHERS).count(), 0);
    }

    // E4: a partition has no leader until the former leader's epoch is closed, and a restart is another epoch.
    #[test]
    fn what_a_fenced_epoch_led_is_led_by_nobody_until_it_is_given_away() {
        let mut images = three();
        let id = images.create("t", &[&[2, 1]]);
        let leader = |images: &ImageBuilder| view(images).leader_of(id, "t", 0);
        images.fence(2);
        assert_eq!(leader(&images), (NO_BROKER, LeaderEpoch(0)));
        images.restart(2);
        assert_eq!(leader(&images), (NO_BROKER, LeaderEpoch(0)));
        assert!(view(&images).is_reachable(NodeId(2), CLIENTS));
        images.lead(3, "t", 0);
        assert_eq!(leader(&images), (NodeId(3), LeaderEpoch(1)));
    }

    #[test]
    fn in_sync_are_the_live_brokers_of_the_replicas() {
        let mut images = three();
        images.create("t", &[&[3, 2, 1]]);
        let in_sync = |images: &ImageBuilder| {
            let image = images.image();
            let topic = image.topic("t").expect("is there");
            let ids = view(images).in_sync(&topic.partitions[0]);
            ids.into_iter().map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(in_sync(&images), [3, 2, 1]);
        images.fence(2);
        assert_eq!(in_sync(&images), [3, 1]);
        images.restart(2);
        assert_eq!(in_sync(&images), [3, 2, 1]);
    }

    // KIP-455
    #[test]
    fn the_leader_is_among_the_replicas_that_are_told() {
        let mut images = three();
        images.create("t", &[&[1, 2]]);
        let told = |images: &ImageBuilder| {
            let partition = &images.topic("t").partitions[0];
            let ids = |nodes: Vec<NodeId>| nodes.into_iter().map(|id| id.0).collect::<Vec<_>>();
            let view = view(images);
            (ids(view.replicas(partition)), ids(view.in_sync(partition)))
        };
        let mut reassign = |nodes: &[i32], to: Option<i32>| {
            let partition = images.topic("t").partitions[0].clone();
            images.move_partition(PartitionMove {
                replicas: Some(Replicas {
                    nodes: nodes.to_vec(),
                }),
                by_operator: true,
                to,
                ..PartitionMove::of(&partition)
            });
            told(&images)
        };
        let all = vec![3, 1, 2];
        assert_eq!(reassign(&[3], Some(3)), (all.clone(), all), "it moves");
        // nobody on the list may lead it
        assert_eq!(reassign(&[2], None), (vec![2, 1], vec![2, 1]));
    }

    #[test]
    fn a_key_is_coordinated_where_its_partition_is_led() {
        let mut images = three();
        images.create("__consumer_offsets", &[&[1], &[2]]);
        let found = |images: &ImageBuilder, key: &str, listener: &str| {
            let topic = images.topic("__consumer_offsets");
            let found = view(images).coordinator(&topic, key, listener);
            told(found.into_iter())
        };
        let topic = images.topic("__consumer_offsets");
        let key_of = |index| {
            let mut keys = (0..100).map(|number| format!("group-{number}"));
            keys.find(|key| coordinating_partition(&topic, key) == index)
                .expect("keys are spread")
        };
        let (here, elsewhere) = (key_of(0), key_of(1));
        assert_eq!(found(&images, &here, CLIENTS), [address(1, "one", 9092)]);
        assert_eq!(
            found(&images, &elsewhere, CLIENTS),
            [address(2, "two", 9092)]
        );
        assert_eq!(found(&images, &elsewhere, OTHERS), []);
        images.fence(2);
        assert_eq!(found(&images, &elsewhere, CLIENTS), []);
    }
}
