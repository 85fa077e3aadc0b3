//! Forming a quorum, joining it, and taking part in it again after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_types::NodeId;
use openraft::ServerState;
use openraft::errors::{InitializeError, RaftError};
use openraft::metrics::WaitError;

use super::admission::{Admitted, listed};
use super::{Config, HEARTBEAT_MS, LONE_TICK_MS, RaftMetadata, failed};
use crate::command::{Action, Endpoint, Format};
use crate::error::OpenError;
use crate::raft::log_store::LogStore;
use crate::raft::record::DirectoryRecord;
use crate::raft::replica::{self, Replica};
use crate::raft::types::{Metrics, has_decided};
use crate::transport::{NoTransport, Transport};

/// How long a start waits for a leader, or for the entries that a leader has committed, before it looks again and says
/// what it waits for.
const LOOK: Duration = Duration::from_secs(10);
/// The session of brokers where nothing else is configured.
const SESSION: Duration = Duration::from_secs(3);
/// How long a start waits for a snapshot of the log that the last process left.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(60);

/// The controllers of a cluster's metadata, and the transport between them.
#[derive(Debug, Clone)]
pub struct Quorum {
    /// The voters that form the quorum, this node among them. Every voter is started with the same set. None if this node
    /// joins a quorum, and is configured with addresses alone.
    pub voters: BTreeSet<NodeId>,
    /// The controllers that are configured by their address alone; the transport has a negative number for each.
    pub bootstrap: Vec<NodeId>,
    /// The configured addresses of controllers, and those at which others reach this one.
    pub endpoints: BTreeMap<NodeId, Vec<Endpoint>>,
    /// The transport to the other controllers.
    pub transport: Arc<dyn Transport>,
    /// How long the session of a broker lasts after its last heartbeat (E2, E6).
    pub session: Duration,
}

/// How a start takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// As the replica that was started.
    Taken,
    /// As another replica, which the log names.
    AsAnother,
}

impl Quorum {
    /// The ids of the voters in Raft.
    pub(super) fn voter_ids(&self) -> Result<BTreeSet<u64>, OpenError> {
        self.voters.iter().map(|node| founder(*node)).collect()
    }

    /// A quorum of one voter, which stays alone.
    #[must_use]
    pub fn alone(node: NodeId) -> Self {
        Self {
            voters: [node].into(),
            bootstrap: Vec::new(),
            endpoints: BTreeMap::new(),
            transport: Arc::new(NoTransport),
            session: SESSION,
        }
    }

    /// The configured controllers, as calls name them.
    pub(super) fn configured(&self) -> Vec<NodeId> {
        let voters = self.voters.iter();
        voters.chain(&self.bootstrap).copied().collect()
    }

    /// The interval of heartbeats.
    pub(super) fn heartbeat_ms(&self, own: NodeId) -> u64 {
        let may_grow = self.endpoints.contains_key(&own);
        match self.voters.len() == 1 && !may_grow {
            true => LONE_TICK_MS,
            false => HEARTBEAT_MS,
        }
    }

    /// The id in Raft of the replica that a log names; if it names none, of the founder that this node may be, or of the
    /// replica that joins.
    pub(super) async fn replica(&self, config: &Config, log: &LogStore) -> Result<u64, OpenError> {
        let founder = founder(config.node)?;
        if let Some(own) = log.own(founder) {
            return match replica::node_id(own.node) == config.node {
                true => Ok(own.node),
                false => Err(OpenError::OtherNode {
                    path: config.dir.display().to_string(),
                    node: config.node,
                    voters: replica::node_id(own.node).to_string(),
                }),
            };
        }
        let may_be_founder = self.voters.contains(&config.node) || self.bootstrap.len() == 1;
        if may_be_founder {
            return Ok(founder);
        }
        let id = replica::joining_id(founder, config.new_directory_id);
        let own = DirectoryRecord::new(id, config.new_directory_id);
        log.be(own).await.map_err(failed)?;
        Ok(id)
    }
}

/// The id in Raft of a voter that forms a quorum.
pub(super) fn founder(node: NodeId) -> Result<u64, OpenError> {
    let id = replica::founder_id(node);
    id.ok_or_else(|| OpenError::Raft(format!("node.id must not be negative: {node}")))
}

impl RaftMetadata {
    /// Takes part in the quorum, and returns when this node's image is up to date and its log takes commands.
    pub(super) async fn take_part(
        &self,
        quorum: &Quorum,
        config: &Config,
    ) -> Result<Part, OpenError> {
        let voters = match self.be_admitted(quorum, config).await? {
            Admitted::AsFounder(voters) => voters,
            Admitted::Joins => {
                let founder = founder(config.node)?;
                let id = replica::joining_id(founder, config.new_directory_id);
                let own = DirectoryRecord::new(id, config.new_directory_id);
                self.voter.log.be(own).await.map_err(failed)?;
                return Ok(Part::AsAnother);
            }
        };
        let is_initialized = self.voter.raft.is_initialized().await.map_err(failed)?;
        match is_initialized || voters.is_empty() {
            true => self.restart(config).await?,
            false => self.form(&voters).await?,
        }
        self.until_followed(config).await?;
        let found = self.voter.for_room(SNAPSHOT_DEADLINE).await;
        found.map_err(OpenError::Raft)?;
        Ok(Part::Taken)
    }

    /// Waits until this node leads, or has what the leader has committed.
    async fn until_followed(&self, config: &Config) -> Result<(), OpenError> {
        loop {
            self.join().await?;
            let (leader, term) = self.leader().await?;
            if leader == self.voter.id {
                // The first command of a term is answered when everything before it is applied.
                let format = Action::Format(Format {
                    cluster_id: config.cluster.0.to_vec(),
                });
                match self.voter.decide(format.into()).await {
                    Ok(_) => return Ok(()),
                    Err(_) if !self.voter.is_alone() && self.voter.check_own().is_ok() => {
                        self.until_deposed(term).await?;
                    }
                    Err(error) => return Err(failed(error)),
                }
            } else if self.has_followed(leader).await? {
                return Ok(());
            }
        }
    }

    /// Forms a new quorum. Every voter starts with the same first entry, so that any of them may campaign.
    async fn form(&self, voters: &BTreeSet<u64>) -> Result<(), OpenError> {
        let members = voters.iter().map(|voter| (*voter, Replica::default()));
        let members: BTreeMap<u64, Replica> = members.collect();
        match self.voter.raft.initialize(members).await {
            // Another voter was faster: it has formed the quorum, and sends its log.
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) if voters.len() > 1 => Ok(()),
            formed => formed.map_err(failed),
        }
    }

    /// Takes part again. The voters in the log win over those in the configuration, because the quorum may have changed
    /// since that was written.
    async fn restart(&self, config: &Config) -> Result<(), OpenError> {
        let raft = &self.voter.raft;
        let voters: BTreeSet<u64> = raft
            .with_raft_state(|state| state.membership_state.effective().voter_ids().collect())
            .await
            .map_err(failed)?;
        if voters.is_empty() {
            // This node has no log yet: the voters send it.
            return Ok(());
        }
        let founders = &self.voter.founders;
        let nodes = |ids: &BTreeSet<u64>| ids.iter().map(|id| replica::node_id(*id)).collect();
        let (in_log, configured): (BTreeSet<NodeId>, BTreeSet<NodeId>) =
            (nodes(&voters), nodes(founders));
        if !configured.is_empty() && in_log != configured {
            let reason = format!(
                "the voters are {} in the metadata in {}, and {} in controller.quorum.voters",
                listed(&voters),
                config.dir.display(),
                listed(founders)
            );
            tracing::warn!(reason, "the voters in the metadata are those that count");
        }
        if voters.len() == 1 && voters.contains(&self.voter.id) {
            // No other voter can lead, so that there is no reason to wait before campaigning.
            let elected = self.voter.raft.trigger().elect(false).await;
            elected.map_err(failed)?;
        }
        Ok(())
    }

    /// Waits until a voter leads, and returns its id and its term. While none does it says so.
    async fn leader(&self) -> Result<(u64, u64), OpenError> {
        let is_led = |metrics: &Metrics| match metrics.current_leader {
            // This node may decide once a quorum has acknowledged it as the leader of its term.
            Some(leader) if leader == metrics.id => {
                metrics.state == ServerState::Leader && metrics.last_quorum_acked.is_some()
            }
            Some(_) => true,
            None => false,
        };
        loop {
            if let Some(led) = self.until(is_led).await?
                && let Some(leader) = led.current_leader
            {
                return Ok((leader, led.current_term));
            }
            let silent = self.silent_voters().await;
            let voters = listed(&self.voter.voters());
            let reason = format!(
                "the voters are {voters}; without an answer: {}",
                silent.join("; ")
            );
            tracing::warn!(
                reason,
                "waiting for an active controller: more than half of the voters have to run and reach each other"
            );
        }
    }

    /// Waits for a state of the library; `None` if that takes too long.
    async fn until(
        &self,
        is_so: impl Fn(&Metrics) -> bool + Send,
    ) -> Result<Option<Metrics>, OpenError> {
        let wait = self.voter.raft.wait(Some(LOOK));
        match wait.metrics(is_so, "a start goes on").await {
            Ok(metrics) => Ok(Some(metrics)),
            Err(WaitError::Timeout(..)) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Waits until this node knows that it no longer leads in a term, but not for long.
    async fn until_deposed(&self, term: u64) -> Result<(), OpenError> {
        let is_deposed = move |metrics: &Metrics| {
            metrics.state != ServerState::Leader || metrics.current_term != term
        };
        self.until(is_deposed).await.map(drop)
    }

    /// Waits until this node has applied all entries that a leader has announced as committed, at least one of them of
    /// the leader's own term. Returns false if that voter stops leading before, or if it takes long.
    async fn has_followed(&self, leader: u64) -> Result<bool, OpenError> {
        let is_over = |metrics: &Metrics| {
            let has_all = metrics.last_applied >= metrics.cluster_committed;
            let is_applied = has_decided(metrics) && has_all;
            let is_formatted = !self.voter.image.borrow().cluster().is_zero();
            metrics.current_leader != Some(leader) || (is_applied && is_formatted)
        };
        let followed = self.until(is_over).await?;
        if followed.is_none() {
            tracing::warn!(
                node_id = %replica::node_id(leader),
                "waiting for the metadata of the active controller"
            );
        }
        Ok(followed.is_some_and(|followed| followed.current_leader == Some(leader)))
    }
}
