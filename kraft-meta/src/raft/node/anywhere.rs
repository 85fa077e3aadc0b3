//! What a voter's own process asks of the active controller, whichever voter that is.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_runtime::SeededRng;
use highwater_types::{LogIndex, NodeEpoch, NodeId};
use tokio::time::{Instant, timeout_at};

use super::RaftMetadata;
use crate::command::{Command, Endpoint, Outcome, Rejection};
use crate::quorum_state::{QuorumState, VotersChange, VotersError};
use crate::raft::change::Unchanged;
use crate::raft::observer::message::{Heartbeat, Propose};
use crate::raft::observer::voters::Voters;
use crate::raft::observer::{Observer, PROPOSAL_DEADLINE};
use crate::raft::replica;
use crate::raft::voter::{Undecided, Voter};
use crate::sessions::{Taken, Told};
use crate::transport::{Calls, Transport};

/// The way to all voters: to the own one in this process, and to the others by its transport.
#[derive(Debug)]
struct AllVoters {
    own: Voter,
    transport: Arc<dyn Transport>,
}

#[async_trait]
impl Calls for AllVoters {
    async fn call(&self, to: NodeId, request: Bytes, within: Duration) -> io::Result<Bytes> {
        match to == self.own.node {
            true => self.own.answer(&request).await,
            false => self.transport.call(to, request, within).await,
        }
    }

    fn learn(&self, addresses: &BTreeMap<NodeId, Vec<Endpoint>>) {
        self.transport.learn(addresses);
    }
}

/// The way of a voter's own process to the active controller.
pub(super) fn way(
    own: &Voter,
    transport: &Arc<dyn Transport>,
    configured: Vec<NodeId>,
    seed: u64,
) -> Voters {
    let all = AllVoters {
        own: own.clone(),
        transport: Arc::clone(transport),
    };
    let observer = Observer {
        voters: configured,
        calls: Arc::new(all),
        cluster: None,
        rng: SeededRng::from_seed(seed),
    };
    Voters::of_voter(observer, own.id, own.log.clone())
}

impl RaftMetadata {
    /// Proposes a command to the active controller, and returns what is decided once the own image has it.
    pub(super) async fn propose_anywhere(
        &self,
        command: Command,
    ) -> Result<(LogIndex, Result<Outcome, Rejection>), Undecided> {
        if self.voter.is_alone() {
            return self.voter.propose(command).await;
        }
        let until = Instant::now() + PROPOSAL_DEADLINE;
        let leader = match self.voter.propose(command.clone()).await {
            Err(Undecided::NotLeader(leader)) => leader,
            decided => return decided,
        };
        self.turn_to(leader);
        let propose = Propose {
            command: Some(command),
            cluster: self.controllers.cluster_bytes(&self.voter.image.borrow()),
        };
        let decided = self.controllers.propose(propose, until).await;
        let (at, decided) = decided.map_err(Undecided::Unavailable)?;
        let mut applied_end = self.voter.applied_end.clone();
        let includes = applied_end.wait_for(|end| *end > at.0);
        match timeout_at(until, includes).await {
            Ok(Ok(_)) => Ok((at, decided)),
            _ => Err(Undecided::Unavailable(format!(
                "the change is decided, and this node has not seen it yet log_index={}",
                at.0
            ))),
        }
    }

    /// Sends a heartbeat to the active controller; `None` if the epoch is not open.
    pub(super) async fn heartbeat_anywhere(
        &self,
        node: NodeId,
        epoch: NodeEpoch,
        told: Told,
    ) -> Result<Option<Taken>, String> {
        let leader = match self.voter.heartbeat(node, epoch, told.clone()) {
            Err(Undecided::NotLeader(leader)) if !self.voter.is_alone() => leader,
            answered => return answered.map_err(|undecided| undecided.to_string()),
        };
        self.turn_to(leader);
        let cluster = self.controllers.cluster_bytes(&self.voter.image.borrow());
        let heartbeat = Heartbeat::new(node, epoch, cluster, &told);
        self.controllers.heartbeat(heartbeat).await
    }

    /// The state of the quorum, as the active controller sees it.
    pub(super) async fn quorum_anywhere(&self) -> Result<QuorumState, String> {
        let leader = match self.voter.describe() {
            Err(Undecided::NotLeader(leader)) if !self.voter.is_alone() => leader,
            described => return described.map_err(|undecided| undecided.to_string()),
        };
        self.turn_to(leader);
        let cluster = self.controllers.cluster_bytes(&self.voter.image.borrow());
        let until = Instant::now() + PROPOSAL_DEADLINE;
        self.controllers.describe(cluster, until).await
    }

    /// Changes the voters, whichever controller is the active one.
    pub(super) async fn change_anywhere(&self, change: VotersChange) -> Result<(), VotersError> {
        let leader = match self.voter.change_voters(&change).await {
            Ok(()) => return Ok(()),
            Err(Unchanged::Refused(refused)) => return Err(refused),
            Err(Unchanged::NotLeader(leader)) => leader,
        };
        self.turn_to(leader);
        let cluster = self.controllers.cluster_bytes(&self.voter.image.borrow());
        let until = Instant::now() + PROPOSAL_DEADLINE;
        self.controllers.change(&change, cluster, until).await
    }

    fn turn_to(&self, leader: Option<u64>) {
        if let Some(leader) = leader {
            self.controllers.turn_to(replica::node_id(leader));
        }
    }
}
