//! A blocking connection for what is asked once: topics and offsets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use highwater_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use highwater_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use highwater_protocol::messages::metadata_request::MetadataRequestTopic;
use highwater_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, ListOffsetsRequest, MetadataRequest,
};
use highwater_protocol::{FrameWriter, Message, Reader, Request, StrBytes};
use highwater_types::Uuid;

use crate::consume::Span;

/// What this client calls itself.
pub(crate) const CLIENT_ID: &str = "highwater-bench";
const ANSWER_BYTES_MAX: usize = 256 << 20;
const TIMEOUT_MS: i32 = 30_000;
const READY_TRIES: u32 = 1000;
const TRY_EVERY: Duration = Duration::from_millis(20);
const TOPIC_ALREADY_EXISTS: i16 = 36;

/// The versions that are spoken: those of Kafka 4.4's own clients, by topic id where there is one.
const METADATA: i16 = 12;
const CREATE_TOPICS: i16 = 7;
const DELETE_TOPICS: i16 = 5;
const LIST_OFFSETS: i16 = 9;

/// Which end of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    First,
    Next,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    correlation_id: i32,
}

impl Connection {
    pub(crate) fn open(bootstrap: &str) -> Result<Self> {
        Ok(Self {
            socket: connect(bootstrap)?,
            correlation_id: 0,
        })
    }

    fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        self.correlation_id += 1;
        let flexible = version >= R::FLEXIBLE_FROM;
        let id = self.correlation_id;
        let mut out = FrameWriter::request(R::KEY, version, flexible, id, CLIENT_ID);
        request.write(&mut out, version);
        for part in out.finish()? {
            self.socket.write_all(&part)?;
        }
        let mut length = [0; 4];
        self.socket.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length))?;
        ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
        let mut frame = BytesMut::zeroed(length);
        self.socket.read_exact(&mut frame)?;
        decode::<R>(frame.freeze(), version, id)
    }

    /// Creates a topic, or takes the one that is there; answers its id once all its partitions have a leader.
    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(String, String)],
    ) -> Result<Uuid> {
        let config = |(name, value): &(String, String)| CreatableTopicConfig {
            name: StrBytes::from(name.as_str()),
            value: Some(StrBytes::from(value.as_str())),
        };
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: StrBytes::from(name),
                num_partitions: partitions,
                replication_factor: 1,
                configs: configs.iter().map(config).collect(),
                ..Default::default()
            }],
            timeout_ms: TIMEOUT_MS,
            ..Default::default()
        };
        let response = self.send(&request, CREATE_TOPICS)?;
        let topic = response.topics.first().context("one topic is answered")?;
        ensure!(
            [0, TOPIC_ALREADY_EXISTS].contains(&topic.error_code),
            "cannot create {name}: error {} {:?}",
            topic.error_code,
            topic.error_message
        );
        let id = self.topic(name, partitions)?;
        self.await_leaders(name, partitions)?;
        Ok(id)
    }

    /// Kafka tells of leaders a little before they are: until then they refuse.
    fn await_leaders(&mut self, name: &str, partitions: i32) -> Result<()> {
        for _ in 1..READY_TRIES {
            if self.offsets(name, partitions, End::Next).is_ok() {
                return Ok(());
            }
            pause(TRY_EVERY);
        }
        self.offsets(name, partitions, End::Next).map(|_| ())
    }

    /// A topic's id, once all its partitions have a leader.
    pub(crate) fn topic(&mut self, name: &str, partitions: i32) -> Result<Uuid> {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(StrBytes::from(name)),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let expected = usize::try_from(partitions)?;
        for _ in 0..READY_TRIES {
            let response = self.send(&request, METADATA)?;
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

    /// Says whether there is a topic of this name.
    pub(crate) fn exists(&mut self, name: &str) -> Result<bool> {
        let all = MetadataRequest {
            topics: None,
            ..Default::default()
        };
        let response = self.send(&all, METADATA)?;
        let mut names = response.topics.into_iter().filter_map(|topic| topic.name);
        Ok(names.any(|one| one == *name))
    }

    /// All that a topic holds.
    pub(crate) fn span(&mut self, topic: &str, partitions: i32) -> Result<Span> {
        Ok(Span {
            from: self.offsets(topic, partitions, End::First)?,
            to: self.offsets(topic, partitions, End::Next)?,
            repeats: false,
        })
    }

    pub(crate) fn delete_topic(&mut self, name: &str) -> Result<()> {
        let request = DeleteTopicsRequest {
            topic_names: vec![StrBytes::from(name)],
            timeout_ms: TIMEOUT_MS,
            ..Default::default()
        };
        let response = self.send(&request, DELETE_TOPICS)?;
        let topic = response.responses.first().context("one is answered")?;
        ensure!(
            topic.error_code == 0,
            "cannot delete {name}: error {}",
            topic.error_code
        );
        Ok(())
    }

    /// One end of each partition, in their order.
    pub(crate) fn offsets(&mut self, topic: &str, partitions: i32, end: End) -> Result<Vec<i64>> {
        let timestamp = match end {
            End::First => -2,
            End::Next => -1,
        };
        let one = |partition_index| ListOffsetsPartition {
            partition_index,
            timestamp,
            ..Default::default()
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            timeout_ms: TIMEOUT_MS,
            topics: vec![ListOffsetsTopic {
                name: StrBytes::from(topic),
                partitions: (0..partitions).map(one).collect(),
            }],
            ..Default::default()
        };
        let response = self.send(&request, LIST_OFFSETS)?;
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

/// A socket that sends at once.
pub(crate) fn connect(bootstrap: &str) -> Result<TcpStream> {
    let socket =
        TcpStream::connect(bootstrap).with_context(|| format!("cannot connect to {bootstrap}"))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Reads an answer without its length; it has to be the request's.
pub(crate) fn decode<R: Request>(frame: Bytes, version: i16, id: i32) -> Result<R::Response> {
    let mut reader = Reader::new(frame);
    let of = reader.i32()?;
    ensure!(of == id, "the answer to {of} instead of {id}");
    if version >= R::FLEXIBLE_FROM {
        reader.tagged_fields(|_, _| Ok(false))?;
    }
    Ok(R::Response::read(&mut reader, version)?)
}

/// Waits.
pub(crate) fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a tool that waits for a broker")]
    std::thread::sleep(time);
}
