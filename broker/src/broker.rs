//! What every handler shares.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use highwater_kraft_meta::command::AllocateProducerIds;
use highwater_kraft_meta::{Action, MetadataStore, Outcome, ProposeError, TopicImage};
use highwater_partition_log::ProducerMemory;
use highwater_protocol::StrBytes;
use highwater_protocol::messages::{fetch_response, produce_response};
use highwater_runtime::{SeededRng, WallClock, WorkPool};
use highwater_s3stream::{AppendPermit, ObjectStreamStore, Share, StreamError, StreamStore};
use highwater_types::{LeaderEpoch, NodeEpoch, NodeId, TopicId};

use crate::auth::Authorizer;
use crate::config::{Advertised, Config};
use crate::coordinators::Groups;
use crate::memory::RequestBudgets;
use crate::metrics::Metrics;
use crate::partitions::{FetchSessions, Partitions};

/// One node, as handlers see it.
#[derive(Debug)]
pub(crate) struct Broker {
    /// Its configuration.
    pub config: Arc<Config>,
    /// Its epoch.
    pub epoch: NodeEpoch,
    /// What the cluster agrees on.
    pub metadata: Arc<dyn MetadataStore>,
    /// The partitions it leads.
    pub partitions: Arc<Partitions>,
    /// Its streams.
    pub streams: ObjectStreamStore,
    /// What its partitions may remember of producers.
    pub producers: ProducerMemory,
    /// What its handlers count.
    pub(crate) metrics: Metrics,
    /// Its groups.
    pub(crate) groups: Groups,
    /// Its fetch sessions.
    pub sessions: FetchSessions,
    /// Who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    /// Budgets of requests and answers.
    pub budgets: RequestBudgets,
    /// Where batches are decompressed.
    pub pool: WorkPool,
    /// What clients are told, with the ports that the machine gave.
    pub advertised: Vec<Advertised>,
    /// The time of day.
    pub clock: WallClock,
    /// Randomness for ids.
    pub rng: SeededRng,
    /// Producer ids of this node's block that are not given yet.
    pub producer_ids: Mutex<VecDeque<i64>>,
}

/// How many producer ids a node takes at a time, as Kafka's `ProducerIdsBlock`.
const PRODUCER_ID_BLOCK: i64 = 1000;

impl Broker {
    /// A topic by name.
    #[must_use]
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<TopicImage>> {
        self.metadata.image().topic(name).cloned()
    }

    /// A topic by id.
    #[must_use]
    pub(crate) fn topic_by_id(&self, id: TopicId) -> Option<Arc<TopicImage>> {
        self.metadata.image().topic_by_id(id).cloned()
    }

    /// Room for a whole produce request.
    ///
    /// # Errors
    /// [`StreamError`].
    pub(crate) async fn reserve(&self, bytes: u64) -> Result<AppendPermit, StreamError> {
        self.streams.reserve(bytes, Share::Common).await
    }

    /// Who leads a partition, by topic id or else name; -1 for nobody.
    #[must_use]
    pub(crate) fn leader_of(&self, id: TopicId, name: &str, index: i32) -> (NodeId, LeaderEpoch) {
        let topic = self.topic_by_id(id).or_else(|| self.topic(name));
        let partition = topic.as_ref().and_then(|topic| topic.partition(index));
        let leader =
            partition.and_then(|found| found.leader.map(|(node, _)| (node, found.leader_epoch)));
        leader.unwrap_or((NodeId(-1), LeaderEpoch(-1)))
    }

    /// The address that clients of a listener are told.
    #[must_use]
    pub(crate) fn address(&self, listener: &str) -> (StrBytes, i32) {
        let found = self.advertised.iter().find(|told| told.name == listener);
        found.map_or_else(
            || (StrBytes::default(), -1),
            |told| (StrBytes::from(told.host.as_str()), i32::from(told.port)),
        )
    }

    /// This node as a produce answer's endpoints (KIP-951).
    #[must_use]
    pub(crate) fn produce_endpoints(&self, listener: &str) -> Vec<produce_response::NodeEndpoint> {
        let (host, port) = self.address(listener);
        let node_id = self.config.node_id.0;
        vec![produce_response::NodeEndpoint {
            node_id,
            host,
            port,
            rack: None,
        }]
    }

    /// This node as a fetch answer's endpoints (KIP-951).
    #[must_use]
    pub(crate) fn fetch_endpoints(&self, listener: &str) -> Vec<fetch_response::NodeEndpoint> {
        let (host, port) = self.address(listener);
        let node_id = self.config.node_id.0;
        vec![fetch_response::NodeEndpoint {
            node_id,
            host,
            port,
            rack: None,
        }]
    }

    /// A producer id that was never given before.
    ///
    /// # Errors
    /// When the metadata is away.
    pub(crate) async fn next_producer_id(&self) -> Result<i64, ProposeError> {
        let take = || {
            self.producer_ids
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front()
        };
        if let Some(id) = take() {
            return Ok(id);
        }
        let allocate = AllocateProducerIds {
            node_epoch: self.epoch.0,
            count: PRODUCER_ID_BLOCK,
        };
        let (_, outcome) = self
            .metadata
            .propose(Action::AllocateProducerIds(allocate).into())
            .await?;
        let Outcome::ProducerIds(first) = outcome else {
            return Err(ProposeError::Unavailable(
                "another answer than producer ids".to_owned(),
            ));
        };
        let mut ids = self
            .producer_ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ids.extend(first + 1..first + PRODUCER_ID_BLOCK);
        Ok(first)
    }
}
