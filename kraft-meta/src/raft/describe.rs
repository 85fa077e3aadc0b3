//! What the active controller knows of the quorum.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use highwater_types::{NodeId, Uuid};
use openraft::async_runtime::WatchReceiver;
use openraft::metrics::SerdeInstant;
use tokio::time::Instant;

use super::message::Reply;
use super::observer::described::Describe;
use super::observer::message::{NotLeader, Unavailable};
use super::types::{LogId, Types};
use super::voter::{Undecided, Voter};
use crate::command::uuid;
use crate::quorum_state::{QuorumState, ReplicaState};

type Metrics = openraft::RaftMetrics<Types>;

fn end(last: Option<LogId>) -> u64 {
    last.map_or(0, |last| last.index.saturating_add(1))
}

impl Voter {
    /// Answers a node that asks for the state of the quorum.
    pub(super) fn describe_to(&self, describe: &Describe) -> Reply {
        if let Some(other) = self.other_cluster(&describe.cluster) {
            return other;
        }
        match self.describe() {
            Ok(state) => Reply::Described(state.into()),
            Err(Undecided::NotLeader(leader)) => Reply::NotLeader(NotLeader::new(leader)),
            Err(undecided) => Reply::Unavailable(Unavailable {
                reason: undecided.to_string(),
            }),
        }
    }

    /// The state of the quorum, if this voter is the active controller.
    pub(super) fn describe(&self) -> Result<QuorumState, Undecided> {
        let Some(term) = self.leads() else {
            return Err(self.not_leader());
        };
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let log_end = metrics
            .last_log_index
            .map_or(0, |last| last.saturating_add(1));
        let voters = self
            .voters
            .iter()
            .map(|id| self.voter_state(*id, log_end, &metrics));
        Ok(QuorumState {
            leader: node_id(self.id),
            term,
            committed_end: end(metrics.cluster_committed),
            voters: voters.collect(),
            observers: self.observer_states(),
        })
    }

    fn voter_state(&self, id: u64, log_end: u64, metrics: &Metrics) -> ReplicaState {
        let own = id == self.id;
        let matching = metrics.replication.as_ref().and_then(|all| all.get(&id));
        // until the voter has answered once, nothing is known of its log
        let matching = matching.copied().flatten();
        let matching = matching.map(|matching| end(Some(matching)));
        let acknowledged = metrics
            .heartbeat
            .as_ref()
            .and_then(|all| all.get(&id).copied());
        let acknowledged = acknowledged.flatten().map(SerdeInstant::into_inner);
        let heard = acknowledged.map(|at| openraft::Instant::elapsed(&at));
        let directory = match own {
            true => self.log.own_directory(id),
            false => self.log.known_directory(id),
        };
        let has = if own { Some(log_end) } else { matching };
        ReplicaState {
            node: node_id(id),
            directory: directory.unwrap_or(Uuid([0; 16])),
            log_end: has,
            heard_before: if own { Some(Default::default()) } else { heard },
            is_caught_up: has == Some(log_end),
        }
    }

    /// The brokers that follow, those that are fenced too.
    fn observer_states(&self) -> Vec<ReplicaState> {
        let image = self.image.borrow().clone();
        let followed: BTreeMap<NodeId, (u64, Instant)> = {
            let observers = self.observers.lock();
            observers.unwrap_or_else(PoisonError::into_inner).clone()
        };
        let applied_end = *self.applied_end.borrow();
        let states = followed.into_iter().filter_map(|(node, (end, at))| {
            let registered = image.node(node)?;
            Some(ReplicaState {
                node,
                directory: uuid(&registered.directory),
                log_end: Some(end),
                heard_before: Some(at.elapsed()),
                is_caught_up: end >= applied_end,
            })
        });
        states.collect()
    }
}

fn node_id(voter: u64) -> NodeId {
    NodeId(i32::try_from(voter).unwrap_or(i32::MAX))
}
