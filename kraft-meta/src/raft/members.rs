//! The replicas of the log, as its last membership names them, committed or not.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use highwater_types::{NodeId, Uuid};
use openraft::async_runtime::WatchReceiver;
use tokio::time::sleep;

use super::change::message::Join;
use super::observer::voters::Voters;
use super::replica;
use super::types::{Membership, StoredMembership, Types};
use super::voter::Voter;
use crate::command::Endpoint;
use crate::transport::Transport;

impl Voter {
    /// The membership in the log; it is empty before the log has its first entry.
    pub(super) fn stored(&self) -> Arc<StoredMembership> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        Arc::clone(&metrics.membership_config)
    }

    /// The voters in the log; those that this one is configured with if the log has none.
    pub(super) fn voters(&self) -> BTreeSet<u64> {
        self.voters_in(self.stored().membership())
    }

    pub(super) fn voters_in(&self, membership: &Membership) -> BTreeSet<u64> {
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        match voters.is_empty() {
            true => (*self.founders).clone(),
            false => voters,
        }
    }

    /// Whether this replica is a voter, as far as its own log says.
    pub(super) fn has_vote(&self) -> bool {
        self.voters().contains(&self.id)
    }

    /// Whether this replica is the only voter.
    pub(super) fn is_alone(&self) -> bool {
        self.is_alone_in(self.stored().membership())
    }

    fn is_alone_in(&self, membership: &Membership) -> bool {
        let voters = self.voters_in(membership);
        voters.len() == 1 && voters.contains(&self.id)
    }

    /// Whether a quorum has acknowledged this voter within its lease, or no other one can lead.
    pub(super) fn is_acknowledged(&self, metrics: &openraft::RaftMetrics<Types>) -> bool {
        let acknowledged = metrics.last_quorum_acked;
        let acknowledged = acknowledged.map(openraft::metrics::SerdeInstant::into_inner);
        self.is_alone_in(metrics.membership_config.membership())
            || acknowledged.is_some_and(|since| openraft::Instant::elapsed(&since) < self.lease)
    }

    /// Whether a replica is in the membership, or among the voters that this one is configured with.
    pub(super) fn knows(&self, replica: u64) -> bool {
        self.founders.contains(&replica) || self.stored().membership().get_node(&replica).is_some()
    }

    /// Whether a node is a controller.
    pub(super) fn is_controller(&self, node: NodeId) -> bool {
        let stored = self.stored();
        let mut members = stored.membership().nodes();
        self.founders.iter().any(|id| replica::node_id(*id) == node)
            || members.any(|(id, _)| replica::node_id(*id) == node)
    }

    /// The data directory of a replica, if it is known.
    pub(super) fn directory_of(&self, id: u64, membership: &Membership) -> Option<Uuid> {
        let told = membership.get_node(&id).and_then(|known| known.directory);
        told.or_else(|| match id == self.id {
            true => self.log.own_directory(id),
            false => self.log.known_directory(id),
        })
    }

    /// The addresses of a replica: those in the membership, else those that are configured.
    pub(super) fn endpoints_of(&self, id: u64, membership: &Membership) -> Vec<Endpoint> {
        let told = membership.get_node(&id).map(|known| &known.endpoints);
        match told {
            Some(told) if !told.is_empty() => told.clone(),
            _ => {
                let configured = self.endpoints.get(&replica::node_id(id));
                configured.cloned().unwrap_or_default()
            }
        }
    }
}

/// The nodes to which calls go: the voters in the log, then those that are configured.
fn callable(voter: &Voter, membership: &Membership, configured: &[NodeId]) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = Vec::new();
    let voters = voter.voters_in(membership).into_iter();
    let has_voters = membership.voter_ids().next().is_some();
    // a configured controller that is no voter any more is not asked; one with an address alone may be any
    let others = configured.iter().copied();
    let others = others.filter(|node| node.0 < 0 || !has_voters);
    for node in voters.map(replica::node_id).chain(others) {
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    nodes
}

/// Tells the transport and the way to the active controller of each change of the membership, and the operator whether
/// this controller has a vote. It never returns.
pub(super) async fn follow(
    voter: Voter,
    transport: Arc<dyn Transport>,
    (controllers, configured): (Arc<Voters>, Vec<NodeId>),
) {
    let mut had_vote = None;
    loop {
        let stored = voter.stored();
        let membership = stored.membership();
        let addresses = replica::addresses(membership);
        let addresses = addresses.map(|(node, endpoints)| (node, endpoints.to_vec()));
        transport.learn(&addresses.collect::<BTreeMap<_, _>>());
        controllers.know(callable(&voter, membership, &configured));
        if membership.voter_ids().next().is_some() {
            let has_vote = membership.voter_ids().any(|id| id == voter.id);
            tell(had_vote, has_vote);
            had_vote = Some(has_vote);
        }
        let at = *stored.log_id();
        let wait = voter.raft.wait(None);
        let is_other =
            |metrics: &openraft::RaftMetrics<Types>| *metrics.membership_config.log_id() != at;
        if wait.metrics(is_other, "the members change").await.is_err() {
            // the metadata has ended
            return pending().await;
        }
    }
}

/// How often a controller looks whether it hears from the active one.
const LOOK: Duration = Duration::from_secs(5);

/// Asks to follow again if the voters go on without this replica: one that was away does not learn of its removal from
/// its own log. It never returns.
pub(super) async fn rejoin(voter: Voter, controllers: Arc<Voters>) {
    loop {
        sleep(LOOK).await;
        if voter.is_alone() || voter.check().is_ok() {
            continue;
        }
        let Some(endpoints) = voter.endpoints.get(&voter.node) else {
            continue;
        };
        let others = voter.voters().into_iter().filter(|id| *id != voter.id);
        let asked = others.map(|other| voter.network.introduced(other, LOOK));
        let answers = join_all(asked).await.into_iter().flatten();
        let mut formed = answers.filter(|answer| answer.is_formed);
        if formed.any(|answer| !answer.voters.contains(&voter.id)) {
            let join = Join {
                cluster: controllers.cluster_bytes(&voter.image.borrow()),
                endpoints: endpoints.clone(),
            };
            // it is asked again as long as nothing comes
            if let Err(reason) = controllers.join(join).await {
                tracing::info!(?reason, "this controller is not taken as an observer yet");
            }
        }
    }
}

fn tell(had_vote: Option<bool>, has_vote: bool) {
    match (had_vote, has_vote) {
        (Some(true), false) => tracing::info!(
            "this controller is a voter no more: it goes on as an observer, and may be added again"
        ),
        (None, false) => tracing::info!(
            "this controller has no vote: it follows the others until it is added to the voters"
        ),
        (Some(false), true) => tracing::info!("this controller is a voter"),
        (Some(true) | None, true) | (Some(false), false) => {}
    }
}
