//! The requests that are sent once per run: topics and offsets.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use highwater_client::{
    EARLIEST, LATEST, Versions, create_topics, delete_topic, describe_all_topics, describe_topic,
    list_offsets, new_topic,
};
use highwater_protocol::Request;
use highwater_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use highwater_protocol::messages::create_topics_request::CreatableTopic;
use highwater_protocol::messages::elect_leaders_request::TopicPartitions;
use highwater_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition,
};
use highwater_protocol::messages::{
    AlterPartitionReassignmentsRequest, DescribeQuorumRequest, ElectLeadersRequest,
    describe_quorum_request,
};
use highwater_types::Uuid;

use crate::consume::Span;
use crate::machine::pause;
use crate::socket::{connect, done};

const TIMEOUT_MS: i32 = 30_000;
const READY_TRIES: u32 = 1000;
const TRY_EVERY: Duration = Duration::from_millis(20);
const TOPIC_ALREADY_EXISTS: i16 = 36;
const ELECTION_NOT_NEEDED: i16 = 84;

/// The highest versions that the generator uses: those of Kafka 4.4's own clients, by topic id where there is one.
const METADATA: i16 = 12;
const CREATE_TOPICS: i16 = 7;
const DELETE_TOPICS: i16 = 5;
const LIST_OFFSETS: i16 = 9;
const ALTER_REASSIGNMENTS: i16 = 0;
const ELECT_LEADERS: i16 = 2;
const DESCRIBE_QUORUM: i16 = 1;

/// An end of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    First,
    Next,
}

/// A cluster as one broker sees it.
#[derive(Debug)]
pub(crate) struct View {
    /// The addresses of the live brokers.
    pub(crate) brokers: BTreeMap<i32, String>,
    leaders: BTreeMap<i32, i32>,
    /// How many replicas of each partition are in sync.
    pub(crate) in_sync: BTreeMap<i32, usize>,
}

impl View {
    /// The id and the address of a partition's leader, if it has one that lives.
    pub(crate) fn leader(&self, partition: i32) -> Option<(i32, &str)> {
        let id = self.leaders.get(&partition)?;
        Some((*id, self.brokers.get(id)?))
    }
}

/// A connection that sends one request at a time, in a version that the broker serves.
#[derive(Debug)]
pub(crate) struct Admin {
    connection: highwater_client::Connection,
    versions: Versions,
}

impl Admin {
    pub(crate) fn open(bootstrap: &str) -> Result<Self> {
        let (mut connection, _) = connect(bootstrap)?;
        let versions = done(connection.versions())?;
        Ok(Self {
            connection,
            versions,
        })
    }

    fn call<R: Request>(&mut self, request: &R, version_max: i16) -> Result<R::Response> {
        let version = self.versions.up_to::<R>(version_max)?;
        done(self.connection.call(request, version))
    }

    /// Creates a topic, or uses an existing one, and returns its id once this broker leads all its partitions.
    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(String, String)],
    ) -> Result<Uuid> {
        let id = self.create_led(name, partitions, configs)?;
        self.await_leaders(name, partitions)?;
        Ok(id)
    }

    /// Creates a topic, or uses an existing one, and returns its id once all its partitions have a leader.
    pub(crate) fn create_led(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(String, String)],
    ) -> Result<Uuid> {
        let configs = configs.iter().map(|(name, value)| (&**name, &**value));
        let configs: Vec<_> = configs.collect();
        self.create(new_topic(name, partitions, &configs))
    }

    /// Does the same with so many replicas of each partition.
    pub(crate) fn create_replicated(
        &mut self,
        name: &str,
        partitions: i32,
        replicas: i16,
    ) -> Result<Uuid> {
        let mut topic = new_topic(name, partitions, &[]);
        topic.replication_factor = replicas;
        self.create(topic)
    }

    /// Makes these brokers the replicas of a partition and the first of them its leader.
    pub(crate) fn lead(&mut self, topic: &str, partition: i32, replicas: &[i32]) -> Result<()> {
        let moved = ReassignablePartition {
            partition_index: partition,
            replicas: Some(replicas.to_vec()),
        };
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![ReassignableTopic {
                name: topic.into(),
                partitions: vec![moved],
            }],
            timeout_ms: TIMEOUT_MS,
            ..Default::default()
        };
        let answer = self.call(&request, ALTER_REASSIGNMENTS)?;
        ensure!(
            answer.error_code == 0 && answer.responses[0].partitions[0].error_code == 0,
            "cannot reassign: {answer:?}"
        );
        let request = ElectLeadersRequest {
            topic_partitions: Some(vec![TopicPartitions {
                topic: topic.into(),
                partitions: vec![partition],
            }]),
            timeout_ms: TIMEOUT_MS,
            ..Default::default()
        };
        let answer = self.call(&request, ELECT_LEADERS)?;
        let results = answer.replica_election_results.iter();
        let mut codes = results.flat_map(|topic| topic.partition_result.iter());
        ensure!(
            codes.all(|one| [0, ELECTION_NOT_NEEDED].contains(&one.error_code)),
            "cannot elect: {answer:?}"
        );
        Ok(())
    }

    /// The number of entries in the log of the quorum.
    pub(crate) fn log_end(&mut self) -> Result<i64> {
        let request = DescribeQuorumRequest {
            topics: vec![describe_quorum_request::TopicData {
                topic_name: "__cluster_metadata".into(),
                partitions: vec![describe_quorum_request::PartitionData { partition_index: 0 }],
            }],
        };
        let answer = self.call(&request, DESCRIBE_QUORUM)?;
        let topics = answer.topics.iter();
        let mut partitions = topics.flat_map(|topic| &topic.partitions);
        Ok(partitions.next().context("one is answered")?.high_watermark)
    }

    fn create(&mut self, topic: CreatableTopic) -> Result<Uuid> {
        let (name, partitions) = (topic.name.clone(), topic.num_partitions);
        let mut request = create_topics(vec![topic]);
        request.timeout_ms = TIMEOUT_MS;
        let response = self.call(&request, CREATE_TOPICS)?;
        let topic = response.topics.first().context("one topic is answered")?;
        ensure!(
            [0, TOPIC_ALREADY_EXISTS].contains(&topic.error_code),
            "cannot create {name}: error {} {:?}",
            topic.error_code,
            topic.error_message
        );
        self.topic(&name, partitions)
    }

    /// The addresses of the live brokers, and the leaders of a topic's partitions; a leader that is not live has no
    /// address.
    pub(crate) fn view(&mut self, topic: &str) -> Result<View> {
        let mut request = describe_topic(topic);
        request.allow_auto_topic_creation = false;
        let response = self.call(&request, METADATA)?;
        let address = |broker: &MetadataResponseBroker| {
            let address = format!("{}:{}", broker.host, broker.port);
            (broker.node_id, address)
        };
        let topics = response.topics.iter();
        let partitions = topics.flat_map(|topic| &topic.partitions);
        let partitions: Vec<&MetadataResponsePartition> = partitions.collect();
        let of_all = partitions.iter();
        let in_sync = of_all.map(|one| (one.partition_index, one.isr_nodes.len()));
        let leaders = partitions.iter();
        let leaders = leaders.map(|one| (one.partition_index, one.leader_id));
        Ok(View {
            brokers: response.brokers.iter().map(address).collect(),
            in_sync: in_sync.collect(),
            leaders: leaders.collect(),
        })
    }

    /// Kafka announces leaders shortly before they accept requests; until then they refuse.
    fn await_leaders(&mut self, name: &str, partitions: i32) -> Result<()> {
        for _ in 1..READY_TRIES {
            if self.offsets(name, partitions, End::Next).is_ok() {
                return Ok(());
            }
            pause(TRY_EVERY);
        }
        self.offsets(name, partitions, End::Next).map(|_| ())
    }

    /// Returns a topic's id once all its partitions have a leader.
    pub(crate) fn topic(&mut self, name: &str, partitions: i32) -> Result<Uuid> {
        let request = describe_topic(name);
        let expected = usize::try_from(partitions)?;
        for _ in 0..READY_TRIES {
            let response = self.call(&request, METADATA)?;
            let topic = response.topics.first().context("one topic is answered")?;
            let led = |list: &[_]| list.len() == expected;
            let leaders = topic.partitions.iter().filter(|one| one.leader_id >= 0);
            let ready: Vec<_> = leaders.filter(|one| one.error_code == 0).collect();
            if topic.error_code == 0 && led(&ready) {
                return Ok(topic.topic_id);
            }
            ensure!(
                topic.partitions.is_empty() || topic.partitions.len() == expected,
                "{name} has {} partitions, not {expected}",
                topic.partitions.len()
            );
            pause(TRY_EVERY);
        }
        bail!("{name} does not get leaders");
    }

    /// Returns whether a topic of this name exists.
    pub(crate) fn exists(&mut self, name: &str) -> Result<bool> {
        let response = self.call(&describe_all_topics(), METADATA)?;
        let mut names = response.topics.into_iter().filter_map(|topic| topic.name);
        Ok(names.any(|one| one == *name))
    }

    /// The span of everything that a topic holds.
    pub(crate) fn span(&mut self, topic: &str, partitions: i32) -> Result<Span> {
        Ok(Span {
            from: self.offsets(topic, partitions, End::First)?,
            to: self.offsets(topic, partitions, End::Next)?,
            repeats: false,
        })
    }

    pub(crate) fn delete_topic(&mut self, name: &str) -> Result<()> {
        let mut request = delete_topic(name);
        request.timeout_ms = TIMEOUT_MS;
        let response = self.call(&request, DELETE_TOPICS)?;
        let topic = response.responses.first().context("one is answered")?;
        ensure!(
            topic.error_code == 0,
            "cannot delete {name}: error {}",
            topic.error_code
        );
        Ok(())
    }

    /// One end of each partition, in the order of the partitions.
    pub(crate) fn offsets(&mut self, topic: &str, partitions: i32, end: End) -> Result<Vec<i64>> {
        let timestamp = match end {
            End::First => EARLIEST,
            End::Next => LATEST,
        };
        let request = list_offsets(topic, 0..partitions, timestamp);
        let response = self.call(&request, LIST_OFFSETS)?;
        let topic = response.topics.first().context("one topic is answered")?;
        let mut list = topic.partitions.clone();
        list.sort_by_key(|one| one.partition_index);
        ensure!(
            list.iter().all(|one| one.error_code == 0),
            "cannot list offsets: {list:?}"
        );
        Ok(list.iter().map(|one| one.offset).collect())
    }
}
