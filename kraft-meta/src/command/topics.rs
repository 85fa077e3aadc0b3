//! Commands of topics and partitions.

use prost::Message;

/// See [`super::Action::CreateTopic`].
#[derive(Clone, PartialEq, Message)]
pub struct CreateTopic {
    /// The topic's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The topic's id, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub id: Vec<u8>,
    /// The replicas of each partition.
    #[prost(message, repeated, tag = "3")]
    pub partitions: Vec<Replicas>,
    /// The topic's own configurations.
    #[prost(btree_map = "string, string", tag = "4")]
    pub configs: std::collections::BTreeMap<String, String>,
    /// Whether it is one of Kafka's internal topics.
    #[prost(bool, tag = "5")]
    pub internal: bool,
    /// Whether an operator chose the replicas.
    #[prost(bool, tag = "6")]
    pub is_chosen: bool,
}

/// The replicas of one partition.
#[derive(Clone, PartialEq, Message)]
pub struct Replicas {
    /// The ids of the nodes; the first one that serves becomes the leader (E4).
    #[prost(int32, repeated, tag = "1")]
    pub nodes: Vec<i32>,
}

/// See [`super::Action::DeleteTopic`].
#[derive(Clone, PartialEq, Message)]
pub struct DeleteTopic {
    /// The topic's id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
}

/// See [`super::Action::CreatePartitions`].
#[derive(Clone, PartialEq, Message)]
pub struct CreatePartitions {
    /// The topic's id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub topic: Vec<u8>,
    /// The number of partitions the topic must have now.
    #[prost(uint32, tag = "2")]
    pub existing: u32,
    /// The replicas of each new partition.
    #[prost(message, repeated, tag = "3")]
    pub added: Vec<Replicas>,
    /// Whether an operator chose the replicas.
    #[prost(bool, tag = "4")]
    pub is_chosen: bool,
}

/// See [`super::Action::SetTopicConfigs`].
#[derive(Clone, PartialEq, Message)]
pub struct SetTopicConfigs {
    /// The topic's id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub topic: Vec<u8>,
    /// All configurations of the topic.
    #[prost(btree_map = "string, string", tag = "2")]
    pub configs: std::collections::BTreeMap<String, String>,
    /// The index of the command that must have changed them last: see [`crate::TopicImage::configs_at`].
    #[prost(uint64, tag = "3")]
    pub decided_at: u64,
}
