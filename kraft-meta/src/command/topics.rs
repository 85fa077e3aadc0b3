//! Commands of topics and partitions.

use prost::Message;

/// See [`super::Action::CreateTopic`].
#[derive(Clone, PartialEq, Message)]
pub struct CreateTopic {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub id: Vec<u8>,
    /// For each partition its replicas.
    #[prost(message, repeated, tag = "3")]
    pub partitions: Vec<Replicas>,
    /// Its own configurations.
    #[prost(btree_map = "string, string", tag = "4")]
    pub configs: std::collections::BTreeMap<String, String>,
    /// Whether it is one of Kafka's internal topics.
    #[prost(bool, tag = "5")]
    pub internal: bool,
}

/// The replicas of one partition.
#[derive(Clone, PartialEq, Message)]
pub struct Replicas {
    /// Nodes, the preferred leader first.
    #[prost(int32, repeated, tag = "1")]
    pub nodes: Vec<i32>,
}

/// See [`super::Action::DeleteTopic`].
#[derive(Clone, PartialEq, Message)]
pub struct DeleteTopic {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
}

/// See [`super::Action::CreatePartitions`].
#[derive(Clone, PartialEq, Message)]
pub struct CreatePartitions {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub topic: Vec<u8>,
    /// Refused unless the topic has this many now.
    #[prost(uint32, tag = "2")]
    pub existing: u32,
    /// The new ones.
    #[prost(message, repeated, tag = "3")]
    pub added: Vec<Replicas>,
}

/// See [`super::Action::SetTopicConfigs`].
#[derive(Clone, PartialEq, Message)]
pub struct SetTopicConfigs {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub topic: Vec<u8>,
    /// All of them.
    #[prost(btree_map = "string, string", tag = "2")]
    pub configs: std::collections::BTreeMap<String, String>,
    /// Refused unless they were changed last by the command at this index: see [`crate::TopicImage::configs_at`].
    #[prost(uint64, tag = "3")]
    pub decided_at: u64,
}
