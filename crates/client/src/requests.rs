//! Requests that many clients send. The fields that most clients leave at their usual values are filled in.

use bytes::Bytes;
use highwater_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use highwater_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use highwater_protocol::messages::metadata_request::MetadataRequestTopic;
use highwater_protocol::messages::produce_request::PartitionProduceData;
use highwater_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, FindCoordinatorRequest, ListOffsetsRequest,
    MetadataRequest, ProduceRequest, TopicProduceData,
};
use highwater_protocol::{Records, StrBytes};
use highwater_types::Uuid;

/// The timestamp in ListOffsets that requests the beginning of a partition.
pub const EARLIEST: i64 = -2;
/// The timestamp in ListOffsets that requests the end of a partition.
pub const LATEST: i64 = -1;

const TIMEOUT_MS: i32 = 10_000;

/// How a request names a topic. Produce and Fetch do so by name up to version 12, and by id from 13 on (KIP-516).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// By its name.
    Name(StrBytes),
    /// By its id.
    Id(Uuid),
}

impl Topic {
    /// The name; empty if the topic is named by its id.
    #[must_use]
    pub fn name(&self) -> StrBytes {
        match self {
            Self::Name(name) => name.clone(),
            Self::Id(_) => StrBytes::default(),
        }
    }

    /// The id; zero if the topic is named by its name.
    #[must_use]
    pub fn id(&self) -> Uuid {
        match self {
            Self::Name(_) => Uuid::default(),
            Self::Id(id) => *id,
        }
    }

    /// The version of Produce for this way to name a topic.
    #[must_use]
    pub fn produce_version(&self) -> i16 {
        match self {
            Self::Name(_) => 12,
            Self::Id(_) => 13,
        }
    }

    /// The version of Fetch for this way to name a topic.
    #[must_use]
    pub fn fetch_version(&self) -> i16 {
        match self {
            Self::Name(_) => 12,
            Self::Id(_) => 17,
        }
    }
}

impl From<&str> for Topic {
    fn from(name: &str) -> Self {
        Self::Name(StrBytes::from(name))
    }
}

impl From<Uuid> for Topic {
    fn from(id: Uuid) -> Self {
        Self::Id(id)
    }
}

/// A topic to create, on one broker.
#[must_use]
pub fn new_topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: StrBytes::from(*name),
        value: Some(StrBytes::from(*value)),
    };
    CreatableTopic {
        name: StrBytes::from(name),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.iter().map(config).collect(),
        ..Default::default()
    }
}

/// A request to create topics.
#[must_use]
pub fn create_topics(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest {
        topics,
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    }
}

/// A request to delete one topic by its name, up to version 5.
#[must_use]
pub fn delete_topic(name: &str) -> DeleteTopicsRequest {
    DeleteTopicsRequest {
        topic_names: vec![StrBytes::from(name)],
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    }
}

/// A request for one topic by its name.
#[must_use]
pub fn describe_topic(name: &str) -> MetadataRequest {
    MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(StrBytes::from(name)),
            ..Default::default()
        }]),
        ..Default::default()
    }
}

/// A request for all topics.
#[must_use]
pub fn describe_all_topics() -> MetadataRequest {
    MetadataRequest {
        topics: None,
        ..Default::default()
    }
}

/// A request for the coordinator of one group, from version 4 on.
#[must_use]
pub fn find_coordinator(group: &str) -> FindCoordinatorRequest {
    FindCoordinatorRequest {
        coordinator_keys: vec![StrBytes::from(group)],
        ..Default::default()
    }
}

/// A request for the offsets of these partitions of one topic at a timestamp, or at [`EARLIEST`] or [`LATEST`].
#[must_use]
pub fn list_offsets(
    topic: &str,
    partitions: impl IntoIterator<Item = i32>,
    timestamp: i64,
) -> ListOffsetsRequest {
    let partition = |partition_index| ListOffsetsPartition {
        partition_index,
        current_leader_epoch: -1,
        timestamp,
    };
    ListOffsetsRequest {
        replica_id: -1,
        timeout_ms: TIMEOUT_MS,
        topics: vec![ListOffsetsTopic {
            name: StrBytes::from(topic),
            partitions: partitions.into_iter().map(partition).collect(),
        }],
        ..Default::default()
    }
}

/// A request to produce batches to partitions of one topic, one batch to each.
#[must_use]
pub fn produce(
    topic: &Topic,
    batches: impl IntoIterator<Item = (i32, Bytes)>,
    acks: i16,
) -> ProduceRequest {
    let partition = |(index, batch)| PartitionProduceData {
        index,
        records: Some(Records::from(batch)),
    };
    ProduceRequest {
        acks,
        timeout_ms: TIMEOUT_MS,
        topic_data: vec![TopicProduceData {
            name: topic.name(),
            topic_id: topic.id(),
            partition_data: batches.into_iter().map(partition).collect(),
        }],
        ..Default::default()
    }
}
