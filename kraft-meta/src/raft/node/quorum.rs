//! Forming a quorum, joining it, and taking part in it again after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_types::NodeId;
use openraft::errors::{InitializeError, RaftError};
use openraft::metrics::WaitError;
use openraft::{BasicNode, ServerState};

use super::admission::listed;
use super::{Config, RaftMetadata, failed};
use crate::MetadataStore;
use crate::command::{Action, Format};
use crate::error::OpenError;
use crate::raft::types::Types;
use crate::transport::{NoTransport, Transport};

/// How long a start waits for a leader, or for the entries that a leader has committed, before it looks again and says
/// what it waits for.
const LOOK: Duration = Duration::from_secs(10);
/// The session of brokers where nothing else is configured.
const SESSION: Duration = Duration::from_secs(3);
/// How long a start waits for a snapshot of the log that the last process left.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(60);

type Metrics = openraft::RaftMetrics<Types>;

/// The voters of a cluster's metadata, and the transport between them.
#[derive(Debug, Clone)]
pub struct Quorum {
    /// The voters that form the quorum, this node among them. Every voter is started with the same set.
    pub voters: BTreeSet<NodeId>,
    /// The transport to the other voters.
    pub transport: Arc<dyn Transport>,
    /// How long the session of a broker lasts after its last heartbeat (E2, E6).
    pub session: Duration,
}

impl Quorum {
    /// The ids of the voters in Raft.
    pub(super) fn voter_ids(&self) -> Result<BTreeSet<u64>, OpenError> {
        self.voters.iter().map(|node| voter_id(*node)).collect()
    }

    /// A quorum of one voter.
    #[must_use]
    pub fn alone(node: NodeId) -> Self {
        Self {
            voters: [node].into(),
            transport: Arc::new(NoTransport),
            session: SESSION,
        }
    }
}

/// The id of a node in Raft.
pub(super) fn voter_id(node: NodeId) -> Result<u64, OpenError> {
    u64::try_from(node.0)
        .map_err(|_cause| OpenError::Raft(format!("node.id must not be negative: {node}")))
}

impl RaftMetadata {
    /// Takes part in the quorum, and returns when this node's image is up to date and its log takes commands.
    pub(super) async fn take_part(&self, config: &Config) -> Result<(), OpenError> {
        self.be_admitted(config).await?;
        match self.voter.raft.is_initialized().await.map_err(failed)? {
            true => self.restart(config).await?,
            false => self.form().await?,
        }
        loop {
            let (leader, term) = self.leader().await?;
            if leader == self.voter.id {
                // The first command of a term is answered when everything before it is applied.
                let format = Action::Format(Format {
                    cluster_id: config.cluster.0.to_vec(),
                });
                match self.voter.decide(format.into()).await {
                    Ok(_) => break,
                    Err(_) if self.voter.voters.len() > 1 && self.check().is_ok() => {
                        self.until_deposed(term).await?;
                    }
                    Err(error) => return Err(failed(error)),
                }
            } else if self.has_followed(leader).await? {
                break;
            }
        }
        // A voter that joined has the voters from the others' log.
        self.check_log_voters(config).await?;
        let found = self.voter.for_room(SNAPSHOT_DEADLINE).await;
        found.map_err(OpenError::Raft)
    }

    /// Forms a new quorum. Every voter starts with the same first entry, so that any of them may campaign.
    async fn form(&self) -> Result<(), OpenError> {
        let voters = &self.voter.voters;
        let members = voters.iter().map(|voter| (*voter, BasicNode::default()));
        let members: BTreeMap<u64, BasicNode> = members.collect();
        match self.voter.raft.initialize(members).await {
            // Another voter was faster: it has formed the quorum, and sends its log.
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) if voters.len() > 1 => Ok(()),
            formed => formed.map_err(failed),
        }
    }

    async fn restart(&self, config: &Config) -> Result<(), OpenError> {
        let voters = self.check_log_voters(config).await?;
        if voters.is_empty() {
            // This voter has voted before, but has no log yet: the voter that formed the quorum sends it.
            return Ok(());
        }
        if voters.len() == 1 {
            // No other voter can lead, so that there is no reason to wait before campaigning.
            let elected = self.voter.raft.trigger().elect(false).await;
            elected.map_err(failed)?;
        }
        Ok(())
    }

    /// Checks that the voters in the log are those of the configuration, this node among them, and returns them; there
    /// are none before the log has its first entry.
    async fn check_log_voters(&self, config: &Config) -> Result<BTreeSet<u64>, OpenError> {
        let raft = &self.voter.raft;
        let voters: BTreeSet<u64> = raft
            .with_raft_state(|state| state.membership_state.effective().voter_ids().collect())
            .await
            .map_err(failed)?;
        if voters.is_empty() {
            return Ok(voters);
        }
        if !voters.contains(&self.voter.id) {
            // The node is no voter of this metadata, and would wait for a leader for ever.
            return Err(OpenError::OtherNode {
                path: config.dir.display().to_string(),
                node: config.node,
                voters: listed(&voters),
            });
        }
        let holder = || format!("the metadata in {}", config.dir.display());
        self.check_voters(&voters, holder)?;
        Ok(voters)
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
            let voters = listed(&self.voter.voters);
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
            let committed = metrics.cluster_committed;
            let is_of_this_term =
                committed.is_some_and(|last| last.leader_id.term == metrics.current_term);
            let is_applied = is_of_this_term && metrics.last_applied >= committed;
            let is_formatted = !self.voter.image.borrow().cluster().is_zero();
            metrics.current_leader != Some(leader) || (is_applied && is_formatted)
        };
        let followed = self.until(is_over).await?;
        if followed.is_none() {
            tracing::warn!(
                node_id = leader,
                "waiting for the metadata of the active controller"
            );
        }
        Ok(followed.is_some_and(|followed| followed.current_leader == Some(leader)))
    }
}
