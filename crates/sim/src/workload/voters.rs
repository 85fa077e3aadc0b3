//! An operator who looks at the quorum of the controllers, and changes its voters: one is removed and added again, or
//! one that has lost its disk is replaced by the controller that has come back without it.

use highwater_protocol::StrBytes;
use highwater_protocol::messages::add_raft_voter_request::Listener;
use highwater_protocol::messages::describe_quorum_request::{
    PartitionData as AskedPartition, TopicData,
};
use highwater_protocol::messages::describe_quorum_response::{PartitionData, ReplicaState};
use highwater_protocol::messages::{
    AddRaftVoterRequest, DescribeQuorumRequest, RemoveRaftVoterRequest,
};

use super::{Again, Clients, Connection};
use crate::checker::{Leader, ToldQuorum};

/// The longest time between two looks.
const REST_MS: u64 = 800;
/// With fewer voters none is removed that has its disk.
const VOTERS_MIN: usize = 3;

/// What the operator asks for.
#[derive(Debug)]
enum Change {
    Add(ReplicaState),
    Remove(ReplicaState),
}

/// Looks and changes until all is calm.
pub(super) async fn run(clients: &Clients) {
    while !clients.is_calm() {
        clients.rest(REST_MS).await;
        // a change may be carried out later, or never
        drop(turn(clients).await);
    }
}

async fn turn(clients: &Clients) -> Result<(), Again> {
    let known = clients.checker.lock().quorum.known();
    let mut connection = Connection::open(clients).await?;
    let answer = connection.call(&of_metadata(), 2).await?;
    clients.expect("DescribeQuorum", answer.error_code)?;
    let topic = answer.topics.first();
    let quorum = topic.and_then(|topic| topic.partitions.first());
    let quorum = quorum.ok_or(Again::Later)?;
    let mut voters = quorum.current_voters.iter();
    let leader = voters.find(|voter| voter.replica_id == quorum.leader_id);
    if let Some(leader) = leader {
        let told = ToldQuorum {
            term: quorum.leader_epoch,
            leader: Leader {
                node: quorum.leader_id,
                directory: leader.replica_directory_id,
            },
            log_end: leader.log_end_offset,
            committed: quorum.high_watermark,
        };
        let found = clients.checker.lock().quorum.told(&known, told);
        clients.checker.check(found);
    }
    let change = drawn(clients, quorum);
    tracing::debug!(?quorum, ?change, "an operator looks at the quorum");
    let code = match change {
        Some(Change::Add(one)) => {
            let request = addition(clients, &one);
            connection.call(&request, 1).await?.error_code
        }
        Some(Change::Remove(one)) => {
            let request = RemoveRaftVoterRequest {
                cluster_id: None,
                voter_id: one.replica_id,
                voter_directory_id: one.replica_directory_id,
            };
            connection.call(&request, 0).await?.error_code
        }
        None => return Ok(()),
    };
    tracing::debug!(code, "an operator has changed the voters");
    if code == 0 {
        clients.checker.lock().quorum.changes += 1;
    }
    Ok(())
}

fn of_metadata() -> DescribeQuorumRequest {
    DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: StrBytes::from("__cluster_metadata"),
            partitions: vec![AskedPartition { partition_index: 0 }],
        }],
    }
}

fn addition(clients: &Clients, one: &ReplicaState) -> AddRaftVoterRequest {
    let controllers = clients.controllers.iter();
    let listeners = controllers
        .filter(|controller| controller.id.0 == one.replica_id)
        .map(|controller| Listener {
            name: StrBytes::from("CONTROLLER"),
            host: StrBytes::from(controller.name.clone()),
            port: controller.port,
        });
    AddRaftVoterRequest {
        cluster_id: None,
        timeout_ms: 3000,
        voter_id: one.replica_id,
        voter_directory_id: one.replica_directory_id,
        listeners: listeners.collect(),
        ack_when_committed: true,
    }
}

/// The next change, if there is one: the voter that has lost its disk is removed, a controller without a vote is added,
/// and otherwise any voter is removed, unless a disk may get lost.
fn drawn(clients: &Clients, quorum: &PartitionData) -> Option<Change> {
    let voters = &quorum.current_voters;
    let controllers = &clients.controllers;
    let mut others = quorum.observers.iter().filter(|other| {
        let mut ids = controllers.iter().map(|controller| controller.id.0);
        ids.any(|id| id == other.replica_id)
    });
    if let Some(other) = others.next() {
        let lost = voters.iter().find(|it| it.replica_id == other.replica_id);
        return Some(match lost {
            Some(lost) => Change::Remove(lost.clone()),
            None => Change::Add(other.clone()),
        });
    }
    let may_remove = !clients.loses_a_voter && voters.len() >= VOTERS_MIN;
    if !may_remove || clients.rng.below(3) > 0 {
        return None;
    }
    let at = usize::try_from(clients.rng.below(voters.len() as u64)).unwrap_or(0);
    Some(Change::Remove(voters[at].clone()))
}
