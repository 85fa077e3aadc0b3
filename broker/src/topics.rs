//! Creates topics, by request and on first use. Source: `ReplicationControlManager`, `Topic.validate`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::command::{CreateTopic, Replicas};
use highwater_kraft_meta::{Action, TopicImage};
use highwater_protocol::ErrorCode;
use highwater_types::limits::TOPIC_NAME_CHARS_MAX;
use tokio::time::Instant;

use crate::api::error::Refusal;
use crate::broker::Broker;
use crate::config::Config;
use crate::placement;
use crate::topic_configs;

/// Kafka's internal topics.
pub(crate) const INTERNAL: &[&str] = &[
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
];

/// The name of Kafka's metadata log, which no topic may have.
pub(crate) const CLUSTER_METADATA: &str = "__cluster_metadata";

/// The number of partitions of the internal topics whose coordinators are not built yet: Kafka's default.
const INTERNAL_PARTITIONS: i32 = 50;

/// A topic that is to be created.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewTopic {
    pub(crate) name: String,
    /// -1 for the broker's default.
    pub(crate) partitions: i32,
    /// -1 for the broker's default.
    pub(crate) replication_factor: i16,
    /// The replicas of each partition, if the client chooses them.
    pub(crate) assignments: BTreeMap<i32, Vec<i32>>,
    pub(crate) configs: BTreeMap<String, String>,
}

/// The most partitions that one request may create: Kafka's `MAX_PARTITIONS_PER_BATCH`.
pub(crate) const PARTITIONS_PER_REQUEST_MAX: i32 = 10_000;

/// How long an answer waits, at most, until new partitions have leaders and those that this node leads are open.
pub(crate) const CREATION_DEADLINE: Duration = Duration::from_secs(10);

/// Checks the name of a topic as Kafka does.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    let why = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.len() > TOPIC_NAME_CHARS_MAX {
        format!(
            "the length of '{name}' is longer than the max allowed length {TOPIC_NAME_CHARS_MAX}"
        )
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    {
        format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        )
    } else {
        return Ok(());
    };
    Err(Refusal::new(
        ErrorCode::InvalidTopicException,
        format!("Topic name is invalid: {why}"),
    ))
}

/// Whether metrics could not distinguish two names, because they write a dot as an underscore.
fn collide(one: &str, other: &str) -> bool {
    let squash = |b: u8| if b == b'.' { b'_' } else { b };
    one.len() == other.len() && one.bytes().map(squash).eq(other.bytes().map(squash))
}

/// A topic that is created on first use. An internal topic has the settings that Kafka's coordinators use, any other
/// topic the broker's defaults.
pub(crate) fn on_first_use(name: &str, config: &Config) -> NewTopic {
    let text = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let own: &[(&str, &str)] = match name {
        "__consumer_offsets" => &[
            ("cleanup.policy", "compact"),
            ("compression.type", "producer"),
        ],
        "__transaction_state" => &[
            ("cleanup.policy", "compact"),
            ("compression.type", "uncompressed"),
        ],
        "__share_group_state" => &[
            ("cleanup.policy", "delete"),
            ("compression.type", "producer"),
            ("retention.ms", "-1"),
        ],
        _ => {
            return NewTopic {
                name: name.to_owned(),
                partitions: -1,
                replication_factor: -1,
                ..NewTopic::default()
            };
        }
    };
    let partitions = match name {
        "__consumer_offsets" => config.int("offsets.topic.num.partitions"),
        _ => INTERNAL_PARTITIONS,
    };
    let replicas = config.int("offsets.topic.replication.factor");
    let mut configs: BTreeMap<String, String> = own.iter().map(text).collect();
    configs.insert("segment.bytes".to_owned(), "104857600".to_owned());
    NewTopic {
        name: name.to_owned(),
        partitions,
        replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
        configs,
        ..NewTopic::default()
    }
}

impl Broker {
    /// Makes every check of a creation (KAFKA-BEHAVIOUR 8); returns the replicas of each partition.
    pub(crate) fn plan_topic(&self, topic: &NewTopic) -> Result<Vec<Replicas>, Refusal> {
        if topic.name == CLUSTER_METADATA {
            let why = format!("Creation of internal topic {CLUSTER_METADATA} is prohibited.");
            return Err(Refusal::new(ErrorCode::InvalidRequest, why));
        }
        check_name(&topic.name)?;
        let image = self.metadata.image();
        if image.topic(&topic.name).is_some() {
            let message = format!("Topic '{}' already exists.", topic.name);
            return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
        }
        if topic.name.contains(['.', '_'])
            && let Some(other) = image
                .topics()
                .find(|other| collide(&other.name, &topic.name))
        {
            let message = format!(
                "Topic '{}' collides with existing topic: {}",
                topic.name, other.name
            );
            return Err(Refusal::new(ErrorCode::InvalidTopicException, message));
        }
        topic_configs::check(&topic.configs)
            .map_err(|why| Refusal::new(ErrorCode::InvalidConfig, why))?;
        if topic.assignments.is_empty() {
            self.placed(topic)
        } else {
            self.assigned(topic)
        }
    }

    fn placed(&self, topic: &NewTopic) -> Result<Vec<Replicas>, Refusal> {
        let partitions = match topic.partitions {
            -1 => self.config.int("num.partitions"),
            count => count,
        };
        if topic.replication_factor <= 0 && topic.replication_factor != -1 {
            let why = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, why));
        }
        if partitions <= 0 {
            let why = "Number of partitions was set to an invalid non-positive value.";
            return Err(Refusal::new(ErrorCode::InvalidPartitions, why));
        }
        if partitions > PARTITIONS_PER_REQUEST_MAX {
            let why = "Excessively large number of partitions per request.";
            return Err(Refusal::new(ErrorCode::PolicyViolation, why));
        }
        let factor = match topic.replication_factor {
            -1 => self.config.int("default.replication.factor"),
            factor => factor.into(),
        };
        let count = usize::try_from(partitions).unwrap_or_default();
        let placed = placement::place(&self.metadata.image(), count, factor);
        placed.map_err(|mut refusal| {
            let why = refusal.message.unwrap_or_default();
            refusal.message = Some(format!(
                "Unable to replicate the partition {factor} time(s): {why}"
            ));
            refusal
        })
    }

    fn assigned(&self, topic: &NewTopic) -> Result<Vec<Replicas>, Refusal> {
        let set = match (topic.partitions, topic.replication_factor) {
            (-1, -1) => None,
            (-1, _) => Some("replication factor"),
            _ => Some("numPartitions"),
        };
        if let Some(set) = set {
            let why = format!(
                "A manual partition assignment was specified, but {set} was not set to -1."
            );
            return Err(Refusal::new(ErrorCode::InvalidRequest, why));
        }
        let assignments = topic.assignments.iter();
        let chosen = assignments.map(|(partition, nodes)| (*partition, nodes.as_slice()));
        placement::check_assignments(&self.metadata.image(), chosen, None)?;
        let indexes = topic.assignments.keys().copied();
        if !(0..)
            .zip(indexes)
            .all(|(expected, index)| index == expected)
        {
            let why = "partitions should be a consecutive 0-based integer sequence";
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, why));
        }
        let replicas = topic.assignments.values().map(|nodes| Replicas {
            nodes: nodes.clone(),
        });
        Ok(replicas.collect())
    }

    /// Creates a topic, whose partitions may have no leaders yet (E4): see [`Partitions::wait_created`].
    ///
    /// [`Partitions::wait_created`]: crate::partitions::Partitions::wait_created
    pub(crate) async fn add_topic(
        &self,
        topic: NewTopic,
        deadline: Instant,
    ) -> Result<Arc<TopicImage>, Refusal> {
        let partitions = self.plan_topic(&topic)?;
        let create = CreateTopic {
            internal: INTERNAL.contains(&topic.name.as_str()),
            name: topic.name.clone(),
            id: self.rng.next_id().to_vec(),
            partitions,
            is_chosen: !topic.assignments.is_empty(),
            configs: topic.configs,
        };
        self.change(Action::CreateTopic(create), deadline).await?;
        let created = self
            .topic(&topic.name)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let partitions = created.partitions.len();
        tracing::info!(topic = %created.name, partitions, "topic created");
        Ok(created)
    }

    /// Creates a topic and waits until its partitions have leaders, and those that this node leads are open.
    pub(crate) async fn create_topic(&self, topic: NewTopic) -> Result<Arc<TopicImage>, Refusal> {
        let deadline = Instant::now() + CREATION_DEADLINE;
        let created = self.add_topic(topic, deadline).await?;
        let indexes = created.partition_indexes();
        let partitions = &self.partitions;
        partitions.wait_created(created.id, indexes, deadline).await;
        Ok(self.topic_by_id(created.id).unwrap_or(created))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use highwater_client::{create_topics, describe_all_topics, new_topic};
    use highwater_kraft_meta::{PartitionImage, Standing};
    use highwater_protocol::messages::create_partitions_request::CreatePartitionsTopic;
    use highwater_protocol::messages::{CreatePartitionsRequest, CreateTopicsRequest};
    use highwater_types::NodeId;

    use super::*;
    use crate::fixture::{TestNode, ask, connect};

    /// Less than any wait of the node's own.
    const SHORT_MS: i32 = 300;

    fn partitions(node: &TestNode) -> Vec<PartitionImage> {
        let topic = node.broker().topic("t").expect("is there");
        topic.partitions.clone()
    }

    // E4
    #[tokio::test(flavor = "multi_thread")]
    async fn new_partitions_are_led_by_brokers_that_serve_when_the_request_is_answered() {
        let node = TestNode::start(&[]).await;
        let broker = node.broker();
        let other = node.register(2).await;
        let heard = broker
            .metadata
            .heartbeat(NodeId(2), other, Standing::Starting.into())
            .await;
        heard.expect("is open");
        let create = create_topics(vec![new_topic("t", 4, &[])]);
        let created = ask(&node.node, &create, 7).await;
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
        let leaders = || {
            let partitions = partitions(&node).into_iter();
            partitions.map(|one| one.leader).collect::<Vec<_>>()
        };
        let own = Some((broker.config.node_id, broker.epoch));
        assert_eq!(leaders(), [own; 4]);
        let grow = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: "t".into(),
                count: 8,
                assignments: None,
            }],
            timeout_ms: 60_000,
            validate_only: false,
        };
        let grown = ask(&node.node, &grow, 3).await;
        assert_eq!(grown.results[0].error_code, 0, "{grown:?}");
        assert_eq!(leaders(), [own; 8]);
        let starting = vec![NodeId(2)];
        assert!(
            partitions(&node)[4..]
                .iter()
                .any(|one| one.replicas == starting)
        );
        node.stop().await;
    }

    // E4: the active controller gives nothing away before it has heard every live broker
    #[tokio::test(flavor = "multi_thread")]
    async fn a_topic_is_created_although_no_broker_can_lead_it_yet() {
        let long = [("broker.session.timeout.ms", "600000")];
        let node = TestNode::start(&long).await;
        let other = node.register(2).await;
        let create = CreateTopicsRequest {
            timeout_ms: SHORT_MS,
            ..create_topics(vec![new_topic("t", 2, &[])])
        };
        let created = ask(&node.node, &create, 7).await;
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
        let described = ask(&node.node, &describe_all_topics(), 9).await;
        for partition in &described.topics[0].partitions {
            let told = (partition.error_code, partition.leader_id);
            assert_eq!(told, (ErrorCode::LeaderNotAvailable.code(), -1));
        }
        let broker = node.broker();
        let heard = broker
            .metadata
            .heartbeat(NodeId(2), other, Standing::Starting.into())
            .await;
        heard.expect("is open");
        let mut images = broker.metadata.watch();
        let is_led = |image: &Arc<highwater_kraft_meta::MetadataImage>| {
            let partitions = &image.topic("t").expect("is there").partitions;
            partitions.iter().all(|one| one.leader.is_some())
        };
        images.wait_for(is_led).await.expect("goes on");
        node.stop().await;
    }

    // A5: the topic exists, so that a client without an answer would ask again, and be told that it exists
    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_that_stops_answers_a_creation_that_waits_for_leaders() {
        let long = [("broker.session.timeout.ms", "600000")];
        let node = TestNode::start(&long).await;
        node.register(2).await;
        let create = CreateTopicsRequest {
            timeout_ms: 60_000,
            ..create_topics(vec![new_topic("t", 2, &[])])
        };
        let mut client = connect(&node.node).await;
        let mut images = node.broker().metadata.watch();
        let stopping = async {
            let is_made =
                |image: &Arc<highwater_kraft_meta::MetadataImage>| image.topic("t").is_some();
            images.wait_for(is_made).await.expect("goes on");
            node.stop().await;
        };
        let (created, ()) = futures::join!(client.call(&create, 7), stopping);
        let created = created.expect("is answered");
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_creation_is_answered_in_its_time_while_the_metadata_does_not_go_on() {
        let node = TestNode::start(&[]).await;
        node.faults.syncs_hang.store(true, Ordering::SeqCst);
        let create = CreateTopicsRequest {
            timeout_ms: SHORT_MS,
            ..create_topics(vec![new_topic("t", 1, &[])])
        };
        let created = ask(&node.node, &create, 7).await;
        let code = created.topics[0].error_code;
        assert_eq!(code, ErrorCode::RequestTimedOut.code());
        node.faults.syncs_hang.store(false, Ordering::SeqCst);
        node.stop().await;
    }

    #[test]
    fn names_that_metrics_could_not_tell_apart_collide() {
        assert!(collide("a.b_c", "a_b.c"));
        assert!(!collide("a.b", "a-b"));
        assert!(!collide("a.b", "a.bc"));
    }

    #[test]
    fn names_are_checked_as_kafka_checks_them() {
        for good in ["a", "a.b_c-D9", &"x".repeat(249)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "\u{e9}", &"x".repeat(250)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
