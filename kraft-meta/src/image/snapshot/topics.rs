//! Topics and their partitions.

use highwater_types::{LeaderEpoch, LogIndex, NodeEpoch, NodeId, StreamId};
use prost::Message;

use crate::command::{Replicas, uuid};
use crate::image::{Moving, PartitionImage, TopicImage};

#[derive(Clone, PartialEq, Message)]
pub(super) struct TopicRecord {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bool, tag = "3")]
    internal: bool,
    #[prost(btree_map = "string, string", tag = "4")]
    configs: std::collections::BTreeMap<String, String>,
    #[prost(message, repeated, tag = "5")]
    partitions: Vec<PartitionRecord>,
    #[prost(uint64, tag = "6")]
    configs_at: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PartitionRecord {
    #[prost(uint64, tag = "1")]
    stream: u64,
    #[prost(message, optional, tag = "2")]
    replicas: Option<Replicas>,
    #[prost(message, optional, tag = "3")]
    leader: Option<LeaderRecord>,
    #[prost(int32, tag = "4")]
    leader_epoch: i32,
    #[prost(bool, tag = "5")]
    is_chosen: bool,
    #[prost(uint64, tag = "6")]
    decided_at: u64,
    #[prost(message, optional, tag = "7")]
    moving: Option<MovingRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct MovingRecord {
    #[prost(int32, tag = "1")]
    to: i32,
    #[prost(message, optional, tag = "2")]
    before: Option<Replicas>,
    #[prost(uint64, tag = "3")]
    epoch: u64,
}

fn replicas(nodes: &[NodeId]) -> Replicas {
    Replicas {
        nodes: nodes.iter().map(|node| node.0).collect(),
    }
}

fn nodes(replicas: Replicas) -> Vec<NodeId> {
    replicas.nodes.into_iter().map(NodeId).collect()
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct LeaderRecord {
    #[prost(int32, tag = "1")]
    node: i32,
    #[prost(uint64, tag = "2")]
    epoch: u64,
}

pub(super) fn record(topic: &TopicImage) -> TopicRecord {
    let partition = |partition: &PartitionImage| PartitionRecord {
        stream: partition.stream.0,
        replicas: Some(replicas(&partition.replicas)),
        leader: partition.leader.map(|(node, epoch)| LeaderRecord {
            node: node.0,
            epoch: epoch.0,
        }),
        leader_epoch: partition.leader_epoch.0,
        is_chosen: partition.is_chosen,
        decided_at: partition.decided_at.0,
        moving: partition.moving.as_ref().map(|moving| MovingRecord {
            to: moving.to.0,
            before: moving.before.as_deref().map(replicas),
            epoch: moving.epoch.0,
        }),
    };
    TopicRecord {
        id: topic.id.0.to_vec(),
        name: topic.name.to_string(),
        internal: topic.internal,
        configs: topic.configs.clone(),
        configs_at: topic.configs_at.0,
        partitions: topic.partitions.iter().map(partition).collect(),
    }
}

pub(super) fn image(topic: TopicRecord) -> TopicImage {
    let partition = |partition: PartitionRecord| PartitionImage {
        stream: StreamId(partition.stream),
        replicas: nodes(partition.replicas.unwrap_or_default()),
        is_chosen: partition.is_chosen,
        decided_at: LogIndex(partition.decided_at),
        moving: partition.moving.map(|moving| Moving {
            to: NodeId(moving.to),
            before: moving.before.map(nodes),
            epoch: NodeEpoch(moving.epoch),
        }),
        leader: partition
            .leader
            .map(|leader| (NodeId(leader.node), NodeEpoch(leader.epoch))),
        leader_epoch: LeaderEpoch(partition.leader_epoch),
    };
    TopicImage {
        id: uuid(&topic.id),
        name: topic.name.into(),
        internal: topic.internal,
        configs: topic.configs,
        configs_at: LogIndex(topic.configs_at),
        partitions: topic.partitions.into_iter().map(partition).collect(),
    }
}
