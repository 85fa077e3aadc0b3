//! A client's connection in the simulation. It ends with the node's process, and a malformed answer is a violation.

use std::time::Duration;

use highwater_client::{Error, Options, Sent};
use highwater_protocol::Request;
use highwater_types::NodeId;
use tokio::sync::watch;

use super::{Again, Broker, Clients};
use crate::SimNetwork;
use crate::checker::{Checker, TopicPartition};
use crate::options::PORT;

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    inner: highwater_client::Connection,
    checker: Checker,
    crashes: watch::Receiver<u64>,
    node: NodeId,
    epoch: i32,
}

/// The broker that leads a partition, and its leader epoch.
type Leader = (NodeId, i32);

/// A time limit that is longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(6);
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

impl Connection {
    /// Connects to any broker.
    pub(super) async fn open(clients: &Clients) -> Result<Self, Again> {
        let at = clients.rng.below(clients.brokers.len() as u64);
        let any = usize::try_from(at).unwrap_or(0);
        Self::open_to(clients, &clients.brokers[any]).await
    }

    /// Connects to any broker that knows the topic of a partition, not a former one of its name.
    pub(super) async fn open_knowing(clients: &Clients, at: TopicPartition) -> Result<Self, Again> {
        let mut connection = Self::open(clients).await?;
        connection.knows(clients, at).await?;
        Ok(connection)
    }

    /// Asks the broker whether it knows the topic of a partition, not a former one of its name.
    pub(super) async fn knows(
        &mut self,
        clients: &Clients,
        at: TopicPartition,
    ) -> Result<(), Again> {
        match clients.is_cluster() {
            true => self.leader(clients, at).await.map(drop),
            false => Ok(()),
        }
    }

    /// Connects to the leader of a partition. Any broker is asked for it, whose answer may be old, and then the leader
    /// itself for its epoch, which stays the same as long as the connection lasts: a broker that is fenced ends its
    /// connections.
    pub(super) async fn open_to_leader(
        clients: &Clients,
        at: TopicPartition,
    ) -> Result<Self, Again> {
        let mut connection = Self::open(clients).await?;
        if !clients.is_cluster() {
            return Ok(connection);
        }
        let (leader, _) = connection.leader(clients, at).await?;
        connection.follow(clients, leader).await?;
        connection.leads(clients, at).await?;
        Ok(connection)
    }

    /// Asks this broker whether it leads a partition, and for its epoch.
    pub(super) async fn leads(
        &mut self,
        clients: &Clients,
        at: TopicPartition,
    ) -> Result<(), Again> {
        match self.leader(clients, at).await? {
            (leader, epoch) if leader == self.node => {
                self.epoch = epoch;
                Ok(())
            }
            _ => Err(Again::Later),
        }
    }

    /// Goes on at another broker.
    pub(super) async fn follow(&mut self, clients: &Clients, to: NodeId) -> Result<(), Again> {
        if to != self.node {
            let mut brokers = clients.brokers.iter();
            // -1 stands for no leader
            let to = brokers.find(|broker| broker.id == to).ok_or(Again::Later)?;
            *self = Self::open_to(clients, to).await?;
        }
        Ok(())
    }

    /// The leader of a partition, as this broker knows it.
    async fn leader(&mut self, clients: &Clients, at: TopicPartition) -> Result<Leader, Again> {
        let request = highwater_client::describe_topic(at.topic);
        let answer = self.call(&request, 12).await?;
        let topic = answer.topics.first().ok_or(Again::Later)?;
        clients.expect("Metadata", topic.error_code)?;
        // the broker may not know yet that the topic was created again
        let id = clients
            .checker
            .lock()
            .topic_ids
            .get(&at.of_topic())
            .copied();
        if id.is_some_and(|id| id != topic.topic_id) {
            return Err(Again::Later);
        }
        let mut partitions = topic.partitions.iter();
        let partition = partitions.find(|partition| partition.partition_index == at.index);
        let partition = partition.ok_or(Again::Later)?;
        let (leader, epoch) = (partition.leader_id, partition.leader_epoch);
        tracing::debug!(partition = %at, broker = %self.node, leader, epoch, "a client is told a leader");
        let checker = &clients.checker;
        checker.partition(at, |history| history.told(epoch));
        clients.expect("Metadata", partition.error_code)?;
        Ok((NodeId(leader), epoch))
    }

    async fn open_to(clients: &Clients, broker: &Broker) -> Result<Self, Again> {
        let mut crashes = broker.crashes.clone();
        crashes.mark_unchanged();
        let options = Options {
            client_id: "sim".to_owned(),
            timeout: Some(PATIENCE),
            ..Options::default()
        };
        let network = SimNetwork {
            trace: clients.trace.clone(),
        };
        let opening = highwater_client::Connection::open(&network, &broker.name, PORT, options);
        let opened = tokio::time::timeout(CONNECT_PATIENCE, opening).await;
        let inner = opened.unwrap_or(Err(Error::Late));
        Ok(Self {
            inner: inner.map_err(|error| again(&clients.checker, &error))?,
            checker: clients.checker.clone(),
            crashes,
            node: broker.id,
            epoch: 0,
        })
    }

    /// The leader epoch of the partition for which the connection was opened; 0 in a world of one broker.
    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Returns the connection and the guard that ends its use, for a client that keeps its requests to send them again.
    pub(super) fn split(&mut self) -> (&mut highwater_client::Connection, WhileUp<'_>) {
        let up = WhileUp {
            checker: &self.checker,
            crashes: &mut self.crashes,
        };
        (&mut self.inner, up)
    }

    /// Sends a request, whose answer is received in turn.
    pub(super) async fn send<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<Sent<R>, Again> {
        let (inner, up) = self.split();
        up.run(inner.send(request, version)).await
    }

    /// Receives the answer to a request.
    pub(super) async fn receive<R: Request>(
        &mut self,
        sent: Sent<R>,
    ) -> Result<R::Response, Again> {
        let (inner, up) = self.split();
        up.run(inner.receive(sent)).await
    }

    /// Sends a request and receives its answer.
    pub(super) async fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, Again> {
        let (inner, up) = self.split();
        up.run(inner.call(request, version)).await
    }
}

/// A guard that lasts until the node's process ends.
pub(super) struct WhileUp<'a> {
    checker: &'a Checker,
    crashes: &'a mut watch::Receiver<u64>,
}

impl WhileUp<'_> {
    /// Runs a future that uses the connection, unless the process has ended or ends first, because the reset that the
    /// node's machine would send is not simulated. The future is dropped then, and the connection is given up.
    pub(super) async fn run<T>(
        self,
        done: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Again> {
        if self.crashes.has_changed().unwrap_or(true) {
            return Err(Again::Later);
        }
        let done = tokio::select! {
            biased;
            _ = self.crashes.changed() => return Err(Again::Later),
            done = done => done,
        };
        done.map_err(|error| again(self.checker, &error))
    }
}

/// Turns a failure into the client's next step. The client connects again, but an answer that does not fit is a
/// violation.
fn again(checker: &Checker, error: &Error) -> Again {
    match error {
        Error::Connection(_) | Error::Closed | Error::Late | Error::Torn => {
            tracing::debug!(%error, "client lost its connection");
            Again::Later
        }
        Error::Refused { api, code } => super::judge(checker, api.name(), *code)
            .err()
            .unwrap_or(Again::Later),
        Error::Encode(_)
        | Error::Length(_)
        | Error::Decode(_)
        | Error::Order { .. }
        | Error::Version(_)
        | Error::Incomplete(_) => {
            checker.check(Err(highwater_runtime::reasons(error)));
            Again::Violation
        }
    }
}
