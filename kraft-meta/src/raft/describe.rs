//! What the active controller knows of the quorum.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use highwater_types::{NodeId, Term, Uuid};
use openraft::async_runtime::WatchReceiver;
use openraft::metrics::SerdeInstant;
use tokio::time::Instant;

use super::message::Reply;
use super::observer::described::Describe;
use super::observer::message::{NotLeader, Unavailable};
use super::replica;
use super::types::{LogId, Membership, Metrics, has_decided};
use super::voter::{Undecided, Voter};
use crate::command::uuid;
use crate::quorum_state::{QuorumState, ReplicaState};

/// An observer that has been silent for this long is left out of the answer (`LeaderState.OBSERVER_SESSION_TIMEOUT_MS`).
const OBSERVED_WITHIN: Duration = Duration::from_secs(300);

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
        let members = metrics.membership_config.membership();
        let state = |id| self.replica_state(id, log_end, &metrics);
        let observers = members.learner_ids().map(state);
        let observers = observers.chain(self.broker_states(members));
        // a new active controller has not heard them yet
        let leads_for = self.leads_for(term);
        let is_heard =
            |observer: &ReplicaState| observer.heard_before.unwrap_or(leads_for) < OBSERVED_WITHIN;
        Ok(QuorumState {
            leader: self.node,
            term,
            committed_end: end(metrics.cluster_committed),
            has_decided: has_decided(&metrics),
            voters: self.voters_in(members).into_iter().map(state).collect(),
            observers: observers.filter(is_heard).collect(),
        })
    }

    /// How long ago this active controller was first asked in its term.
    fn leads_for(&self, term: Term) -> Duration {
        let asked = self.asked_first.lock();
        let mut asked = asked.unwrap_or_else(PoisonError::into_inner);
        let first = asked.filter(|(of, _)| *of == term);
        let (_, since) = *asked.insert(first.unwrap_or_else(|| (term, Instant::now())));
        since.elapsed()
    }

    fn replica_state(&self, id: u64, log_end: u64, metrics: &Metrics) -> ReplicaState {
        let own = id == self.id;
        let matching = metrics.replication.as_ref().and_then(|all| all.get(&id));
        // until it has answered once, nothing is known of its log
        let matching = matching.copied().flatten();
        let matching = matching.map(|matching| end(Some(matching)));
        let acknowledged = metrics
            .heartbeat
            .as_ref()
            .and_then(|all| all.get(&id).copied());
        let acknowledged = acknowledged.flatten().map(SerdeInstant::into_inner);
        let heard = acknowledged.map(|at| openraft::Instant::elapsed(&at));
        let members = metrics.membership_config.membership();
        let directory = self.directory_of(id, members);
        let has = if own { Some(log_end) } else { matching };
        ReplicaState {
            node: replica::node_id(id),
            directory: directory.unwrap_or(Uuid([0; 16])),
            endpoints: self.endpoints_of(id, members),
            is_recorded: members
                .get_node(&id)
                .is_some_and(|known| !known.endpoints.is_empty()),
            log_end: has,
            heard_before: if own { Some(Default::default()) } else { heard },
            is_caught_up: has == Some(log_end),
        }
    }

    /// The brokers that follow, those that are fenced too. One that is a controller without a vote as well is told as that.
    fn broker_states(&self, members: &Membership) -> Vec<ReplicaState> {
        let image = self.image.borrow().clone();
        let followed: BTreeMap<NodeId, (u64, Instant)> = {
            let observers = self.observers.lock();
            observers.unwrap_or_else(PoisonError::into_inner).clone()
        };
        let applied_end = *self.applied_end.borrow();
        let controllers: BTreeSet<NodeId> = members
            .nodes()
            .map(|(id, _)| replica::node_id(*id))
            .collect();
        let brokers = followed
            .into_iter()
            .filter(|(node, _)| !controllers.contains(node));
        let states = brokers.filter_map(|(node, (end, at))| {
            let registered = image.node(node)?;
            Some(ReplicaState {
                node,
                directory: uuid(&registered.directory),
                endpoints: Vec::new(),
                is_recorded: false,
                log_end: Some(end),
                heard_before: Some(at.elapsed()),
                is_caught_up: end >= applied_end,
            })
        });
        states.collect()
    }
}
