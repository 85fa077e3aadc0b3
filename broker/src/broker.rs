//! The state that all handlers share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use highwater_kraft_meta::command::{AllocateProducerIds, MovePartitions, PartitionMove};
use highwater_kraft_meta::{Action, MetadataStore, Outcome, ProposeError, Rejection, TopicImage};
use highwater_partition_log::ProducerMemory;
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::ApiVersion;
use highwater_runtime::{SeededRng, WallClock, WorkPool};
use highwater_s3stream::{AppendPermit, ObjectStreamStore, Share, StreamError, StreamStore};
use highwater_types::{NodeEpoch, TopicId};
use tokio::time::{Instant, timeout_at};

use crate::api::error::{self, Refusal};
use crate::auth::Authorizer;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::coordinators::Groups;
use crate::heartbeats::Heartbeats;
use crate::memory::RequestBudgets;
use crate::metrics::Metrics;
use crate::partitions::{FetchSessions, Partitions};
use crate::session;

/// One node, as handlers see it.
#[derive(Debug)]
pub(crate) struct Broker {
    /// The APIs and versions in the answer to ApiVersions.
    pub api_versions: Vec<ApiVersion>,
    /// Its configuration.
    pub config: Arc<Config>,
    /// Its epoch.
    pub epoch: NodeEpoch,
    /// The cluster's metadata.
    pub metadata: Arc<dyn MetadataStore>,
    /// What the controllers hear of it.
    pub(crate) heartbeats: Heartbeats,
    /// The partitions it leads.
    pub partitions: Arc<Partitions>,
    /// Its streams.
    pub streams: ObjectStreamStore,
    /// The memory of producer state in all partitions.
    pub producers: ProducerMemory,
    /// The metrics that handlers count.
    pub(crate) metrics: Metrics,
    /// Its groups.
    pub(crate) groups: Groups,
    /// Its fetch sessions.
    pub sessions: FetchSessions,
    /// The authorizer.
    pub authorizer: Arc<dyn Authorizer>,
    /// Budgets of requests and answers.
    pub budgets: RequestBudgets,
    /// The threads that decompress batches.
    pub pool: WorkPool,
    /// The time of day.
    pub clock: WallClock,
    /// Randomness for ids.
    pub rng: SeededRng,
    /// The producer ids of this node's block that were not given out yet.
    pub producer_ids: Mutex<VecDeque<i64>>,
}

/// The most partitions that one command moves; with ten replicas each it has some 100 KB.
const MOVED_AT_ONCE: usize = 1000;

/// The number of producer ids that a node takes at a time, as in Kafka's `ProducerIdsBlock`.
const PRODUCER_ID_BLOCK: i64 = 1000;

impl Broker {
    /// The view of the cluster in this node's current image.
    #[must_use]
    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::new(self.metadata.image(), self.config.node_id)
    }

    /// Whether the controllers were not heard for a session. Then another broker may have taken over what this one leads,
    /// so this one must not say that something doesn't exist which the other one may have.
    #[must_use]
    pub(crate) fn is_cut_off(&self) -> bool {
        self.heartbeats.is_cut_off()
    }

    /// Whether this broker may acknowledge records now (D5). What its log holds is acknowledged only where this holds too,
    /// because the process may have been stopped since the log looked.
    #[must_use]
    pub(crate) fn may_acknowledge(&self) -> bool {
        !self.is_cut_off() || !session::is_needed(&self.config)
    }

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

    /// Reserves room for a whole produce request.
    ///
    /// # Errors
    /// [`StreamError`].
    pub(crate) async fn reserve(&self, bytes: u64) -> Result<AppendPermit, StreamError> {
        self.streams.reserve(bytes, Share::Common).await
    }

    /// Makes a change of the metadata for a client that waits for it until the deadline. After that it may still be made.
    ///
    /// # Errors
    /// As [`error::from_proposal`] says; `REQUEST_TIMED_OUT` at the deadline.
    pub(crate) async fn change(&self, action: Action, deadline: Instant) -> Result<(), Refusal> {
        self.decide(action, deadline).await.map(drop)
    }

    /// Does the same as [`Broker::change`], and returns the outcome.
    async fn decide(&self, action: Action, deadline: Instant) -> Result<Outcome, Refusal> {
        let proposed = timeout_at(deadline, self.metadata.propose(action.into())).await;
        let late = |_elapsed| {
            let why = "The controllers have not answered in time; the change may still be made.";
            Refusal::new(ErrorCode::RequestTimedOut, why)
        };
        let (_, outcome) = proposed
            .map_err(late)?
            .map_err(|error| error::from_proposal(&error))?;
        Ok(outcome)
    }

    /// Changes partitions, each independently of the others; the answers are in their order. `None` stands for a partition
    /// that has changed since the caller looked.
    pub(crate) async fn move_partitions(
        &self,
        moves: &[PartitionMove],
        deadline: Instant,
    ) -> Vec<Option<Result<(), Refusal>>> {
        let mut answers = Vec::with_capacity(moves.len());
        for moves in moves.chunks(MOVED_AT_ONCE) {
            let moves = moves.to_vec();
            let asked = moves.len();
            let command = Action::MovePartitions(MovePartitions { moves });
            match self.decide(command, deadline).await {
                Ok(Outcome::Moved(moved)) => answers.extend(moved.into_iter().map(answer_to_move)),
                Ok(_) => {
                    let other = Refusal::from(ErrorCode::UnknownServerError);
                    answers.extend(vec![Some(Err(other)); asked]);
                }
                Err(refusal) => answers.extend(vec![Some(Err(refusal)); asked]),
            }
        }
        answers
    }

    /// A producer id that was never given out before.
    ///
    /// # Errors
    /// The metadata is unavailable.
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

fn answer_to_move(moved: Result<(), Rejection>) -> Option<Result<(), Refusal>> {
    match moved {
        Ok(()) => Some(Ok(())),
        Err(Rejection::Changed | Rejection::NotHeld { .. }) => None,
        // the partition was deleted since
        Err(Rejection::UnknownStream(_)) => Some(Err(ErrorCode::UnknownTopicOrPartition.into())),
        Err(other) => Some(Err(error::from_rejection(&other))),
    }
}
