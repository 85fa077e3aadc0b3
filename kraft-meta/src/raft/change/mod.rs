//! Changes of the voters, which the active controller makes one after the other.
//!
//! A change adds or removes one voter, so that any quorum before it and any quorum after it have a voter in common. A
//! controller that is to be added gets the log first, without a vote, so that a change never waits for it. If the active
//! controller ends in between, the controller follows on without a vote, and may be added again.

pub(super) mod message;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use highwater_types::{NodeId, Uuid};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::metrics::SerdeInstant;
use openraft::{ChangeMembers, EntryPayload};
use tokio::time::{Instant, timeout_at};

use self::message::{ChangeVoters, Join, VotersChanged};
use super::message::{Nothing, Reply, malformed};
use super::observer::message::{NotLeader, Unavailable};
use super::record::DirectoryRecord;
use super::replica::{self, Replica};
use super::types::{Membership, Metrics, Types, has_decided};
use super::voter::{Undecided, Voter};
use crate::command::Endpoint;
use crate::quorum_state::{VotersChange, VotersError};

/// The longest that a change takes, but for [`FORGOTTEN_WITHIN`]: less than the 30 s that Kafka's clients wait.
pub(super) const CHANGE_MAX: Duration = Duration::from_secs(20);
/// How long a change waits until the active controller, which may be new, can decide anything.
const DECIDES_WITHIN: Duration = Duration::from_secs(5);
/// How long a controller that asks for the log waits until it is a member.
const JOINS_WITHIN: Duration = Duration::from_secs(10);
/// How long a refusal waits until the controller that was not added is no member any more.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(5);
/// The controllers that a membership may have, with and without a vote.
const MEMBERS_MAX: usize = 64;
/// The addresses of one controller at most, and the bytes of each name in them.
const ENDPOINTS_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 255;

type WriteError = RaftError<Types, ClientWriteError<Types>>;
type Changes = ChangeMembers<u64, Replica>;

/// Why a change was not made.
#[derive(Debug)]
pub(super) enum Unchanged {
    /// This voter is not the active controller; the one that is, if it is known.
    NotLeader(Option<u64>),
    /// The active controller refuses it, or does not know.
    Refused(VotersError),
}

impl From<VotersError> for Unchanged {
    fn from(refused: VotersError) -> Self {
        Self::Refused(refused)
    }
}

fn unavailable(why: impl Into<String>) -> Unchanged {
    VotersError::Unavailable(why.into()).into()
}

fn are_sound(endpoints: &[Endpoint]) -> bool {
    let is_sound = |endpoint: &Endpoint| {
        (1..=NAME_BYTES_MAX).contains(&endpoint.host.len())
            && endpoint.listener.len() <= NAME_BYTES_MAX
            && (1..=u32::from(u16::MAX)).contains(&endpoint.port)
    };
    (1..=ENDPOINTS_MAX).contains(&endpoints.len()) && endpoints.iter().all(is_sound)
}

/// A node with its directory, as texts name it.
fn named(node: NodeId, directory: Uuid) -> String {
    format!("node.id={node} with directory.id={directory}")
}

impl Voter {
    /// Answers a node that asks for a change of the voters.
    pub(super) async fn change_for(&self, asked: ChangeVoters) -> io::Result<Reply> {
        if let Some(other) = self.other_cluster(&asked.cluster) {
            return Ok(other);
        }
        let change = asked.change();
        let change = change.ok_or_else(|| malformed("it names no voter"))?;
        Ok(match self.change_voters(&change).await {
            Ok(()) => Reply::VotersChanged(Ok(()).into()),
            Err(Unchanged::Refused(refused)) => {
                Reply::VotersChanged(VotersChanged::from(Err(refused)))
            }
            Err(Unchanged::NotLeader(leader)) => Reply::NotLeader(NotLeader::new(leader)),
        })
    }

    /// Changes the voters, if this one is the active controller. An active controller that is to be removed hands its
    /// leadership over, and leaves the removal to the next one.
    pub(super) async fn change_voters(&self, change: &VotersChange) -> Result<(), Unchanged> {
        let asked = Instant::now();
        if self.leads().is_none() {
            return Err(self.unchanged());
        }
        let Ok(_turn) = self.changing.try_acquire() else {
            return Err(unavailable("another change of the voters is under way"));
        };
        self.until_decides(asked + DECIDES_WITHIN).await?;
        let until = asked + CHANGE_MAX;
        match change {
            VotersChange::Add {
                node,
                directory,
                endpoints,
                within,
                awaits_commit,
            } => {
                if node.0 < 0 || directory.0 == [0; 16] || !are_sound(endpoints) {
                    let why = "the voter to add has no id, no directory id, or no address";
                    return Err(VotersError::Invalid(why.to_owned()).into());
                }
                let until = until.min(asked + *within);
                self.add((*node, *directory), endpoints, until, *awaits_commit)
                    .await
            }
            VotersChange::Remove { node, directory } => self.remove(*node, *directory, until).await,
        }
    }

    /// Waits until an entry of this leader is committed. Before that it may not change the voters, because it may not know
    /// of a change that its predecessor made.
    async fn until_decides(&self, until: Instant) -> Result<(), Unchanged> {
        let wait = self.raft.wait(None);
        let is_over =
            |metrics: &Metrics| metrics.current_leader != Some(self.id) || has_decided(metrics);
        match timeout_at(until, wait.metrics(is_over, "decides")).await {
            Ok(Ok(metrics)) if metrics.current_leader == Some(self.id) => Ok(()),
            Ok(_) => Err(self.unchanged()),
            Err(_elapsed) => Err(unavailable(
                "no quorum of the voters answers the active controller; nothing was changed",
            )),
        }
    }

    fn unchanged(&self) -> Unchanged {
        match self.not_leader() {
            Undecided::NotLeader(leader) => Unchanged::NotLeader(leader),
            other => unavailable(other.to_string()),
        }
    }

    async fn add(
        &self,
        (node, directory): (NodeId, Uuid),
        endpoints: &[Endpoint],
        until: Instant,
        awaits_commit: bool,
    ) -> Result<(), Unchanged> {
        let before = self.stored();
        let before = before.membership();
        if let Some(id) = before.voter_ids().find(|id| replica::node_id(*id) == node) {
            let known = self.directory_of(id, before).unwrap_or(Uuid([0; 16]));
            let why = format!("{} is a voter already", named(node, known));
            return Err(VotersError::Duplicate(why).into());
        }
        let id = self.id_of(node, directory, before)?;
        let replica = Replica {
            directory: Some(directory),
            endpoints: endpoints.to_vec(),
        };
        let known = before.get_node(&id);
        let (is_new, is_told) = (known.is_none(), known == Some(&replica));
        self.tell_of(id, replica.clone(), until).await?;
        if is_told {
            // an entry that it does not have yet, because a controller that has died since may have had all others
            let again = Changes::SetNodes([(id, replica)].into());
            self.change_nodes(again, until).await?;
        }
        if let Err(late) = self.until_caught_up(id, until).await {
            if is_new {
                // it may have another address or directory than the operator has said
                self.forget(id).await;
            }
            let why = format!("{} is not added: {late}", named(node, directory));
            return Err(unavailable(why));
        }
        let stored = self.stored();
        let members = stored.membership();
        let mut voters: BTreeSet<u64> = members.voter_ids().collect();
        voters.insert(id);
        self.set_voters(voters, members, until, awaits_commit).await
    }

    /// The id in Raft of a replica: a founder of the quorum that was removed and still has its directory keeps its own.
    fn id_of(&self, node: NodeId, directory: Uuid, members: &Membership) -> Result<u64, Unchanged> {
        let founder = replica::founder_id(node).ok_or_else(|| {
            VotersError::Invalid("the id of the voter to add is negative".to_owned())
        })?;
        if self.directory_of(founder, members) == Some(directory) {
            return Ok(founder);
        }
        let id = replica::joining_id(founder, directory);
        match self.directory_of(id, members) {
            Some(known) if known != directory => {
                let why = format!("the directory.id of {} is taken", named(node, directory));
                Err(VotersError::Invalid(why).into())
            }
            _ => Ok(id),
        }
    }

    async fn remove(&self, node: NodeId, directory: Uuid, until: Instant) -> Result<(), Unchanged> {
        let stored = self.stored();
        let before = stored.membership();
        let is_named = |id: &u64| {
            replica::node_id(*id) == node && self.directory_of(*id, before) == Some(directory)
        };
        let mut voters: BTreeSet<u64> = before.voter_ids().collect();
        let not_found = |why: &str| {
            let why = format!("{} cannot be removed: {why}", named(node, directory));
            Unchanged::from(VotersError::NotFound(why))
        };
        let Some(id) = voters.iter().copied().find(is_named) else {
            return Err(not_found("it is no voter"));
        };
        if voters.len() == 1 {
            return Err(not_found("it is the last voter"));
        }
        voters.remove(&id);
        let left = |heard: &BTreeSet<u64>| heard.intersection(&voters).count();
        let is_enough = |left: usize| left > voters.len() / 2;
        // the one to be removed too: one that does not answer is forgotten
        let are_heard = |heard: &BTreeSet<u64>| is_enough(left(heard)) && heard.contains(&id);
        let heard = self.until_heard(are_heard).await;
        let left = left(&heard);
        if !is_enough(left) {
            let why = format!(
                "{} is not removed: only {left} of the {} voters that would be left answer, and nothing could be decided \
                 any more",
                named(node, directory),
                voters.len()
            );
            return Err(VotersError::Invalid(why).into());
        }
        if id == self.id {
            self.hand_over("it is to be removed from the voters").await;
            return Err(match self.leads() {
                Some(_) => unavailable("no other voter leads in place of the one to be removed"),
                None => self.unchanged(),
            });
        }
        self.complete(until).await?;
        let stored = self.stored();
        let members = match heard.contains(&id) {
            true => stored.membership().clone(),
            // it does not answer: if it comes back it asks to follow again
            false => without(stored.membership(), id),
        };
        self.set_voters(voters, &members, until, true).await
    }

    /// The replicas that answer, once they are enough, or a lease later: a new active controller has not heard them yet.
    async fn until_heard(
        &self,
        are_enough: impl Fn(&BTreeSet<u64>) -> bool + Send + Sync,
    ) -> BTreeSet<u64> {
        let wait = self.raft.wait(Some(self.lease));
        let are_heard = |metrics: &Metrics| are_enough(&self.heard_in(metrics));
        // without them the caller sees who is missing
        drop(wait.metrics(are_heard, "enough voters answer").await);
        self.heard_replicas()
    }

    /// The replicas that answered within the lease, this one among them.
    fn heard_replicas(&self) -> BTreeSet<u64> {
        self.heard_in(&self.raft.metrics().borrow_watched())
    }

    fn heard_in(&self, metrics: &Metrics) -> BTreeSet<u64> {
        let heard = metrics.heartbeat.iter().flatten();
        let heard = heard.filter(|(_, at)| {
            let at = at.map(SerdeInstant::into_inner);
            at.is_some_and(|at| openraft::Instant::elapsed(&at) < self.lease)
        });
        heard.map(|(id, _)| *id).chain([self.id]).collect()
    }

    /// Sends the log to a controller without a vote, or tells the others that it has another address. Answers the
    /// controller that asks for it.
    pub(super) async fn join(
        &self,
        from: Option<DirectoryRecord>,
        join: Join,
    ) -> io::Result<Reply> {
        if let Some(other) = self.other_cluster(&join.cluster) {
            return Ok(other);
        }
        let from = from.filter(|from| from.node != self.id && are_sound(&join.endpoints));
        let from = from.ok_or_else(|| malformed("it names no controller or no address"))?;
        let unavailable = |reason: String| Reply::Unavailable(Unavailable { reason });
        if self.leads().is_none() {
            return Ok(match self.not_leader() {
                Undecided::NotLeader(leader) => Reply::NotLeader(NotLeader::new(leader)),
                other => unavailable(other.to_string()),
            });
        }
        let directory = from.id();
        let stored = self.stored();
        let known = self.directory_of(from.node, stored.membership());
        if !replica::may_have(from.node, directory) || known.is_some_and(|known| known != directory)
        {
            return Err(malformed("its directory is of another controller"));
        }
        if let Some(voter) = self.twin_of(from.node, stored.membership()) {
            let node = replica::node_id(voter);
            // the controller that asks logs the reason; any client could fill this log
            return Ok(unavailable(format!(
                "a voter has node.id={node} and answers: give this controller another node.id"
            )));
        }
        let Ok(_turn) = self.changing.try_acquire() else {
            return Ok(unavailable(
                "a change of the voters is under way".to_owned(),
            ));
        };
        let replica = Replica {
            directory: Some(directory),
            endpoints: join.endpoints,
        };
        let until = Instant::now() + JOINS_WITHIN;
        Ok(match self.tell_of(from.node, replica, until).await {
            Ok(()) => Reply::Done(Nothing {}),
            Err(Unchanged::NotLeader(leader)) => Reply::NotLeader(NotLeader::new(leader)),
            Err(Unchanged::Refused(why)) => unavailable(why.to_string()),
        })
    }

    /// Another replica of the same node that has a vote and answers. The transport has one address for each node, so that the
    /// voter would hear nothing any more.
    fn twin_of(&self, id: u64, members: &Membership) -> Option<u64> {
        let heard = self.heard_replicas();
        let mut voters = members.voter_ids();
        voters.find(|voter| {
            *voter != id
                && replica::node_id(*voter) == replica::node_id(id)
                && heard.contains(voter)
        })
    }

    /// Writes to the membership where a replica is, unless it is there already. A replica that is new there gets the log
    /// from then on, without a vote, and takes the place of the other replicas of its node that have no vote.
    async fn tell_of(&self, id: u64, replica: Replica, until: Instant) -> Result<(), Unchanged> {
        let stored = self.stored();
        let members = stored.membership();
        if members.get_node(&id) == Some(&replica) {
            return self.complete(until).await;
        }
        let node = replica::node_id(id);
        let has_vote: BTreeSet<u64> = members.voter_ids().collect();
        let replaced = members.nodes().map(|(other, _)| *other);
        let mut replaced: BTreeSet<u64> = replaced
            .filter(|other| *other != id && replica::node_id(*other) == node)
            .filter(|other| !has_vote.contains(other))
            .collect();
        let count = members.nodes().count();
        let is_full = |replaced: &BTreeSet<u64>| {
            members.get_node(&id).is_none() && count - replaced.len() >= MEMBERS_MAX
        };
        if is_full(&replaced) {
            // one gives way, and asks again if it is back
            let heard = self.heard_replicas();
            let mut silent = members.learner_ids().filter(|other| !heard.contains(other));
            replaced.extend(silent.find(|other| *other != id));
        }
        if is_full(&replaced) {
            return Err(unavailable("there are too many controllers"));
        }
        let mut known = self.known_founders(members);
        known.insert(id, replica);
        let changes = vec![Changes::RemoveNodes(replaced), Changes::SetNodes(known)];
        self.change_nodes(Changes::Batch(changes), until).await
    }

    /// Writes the directories and addresses of the founders to the membership, so that controllers that are added later
    /// know them.
    async fn complete(&self, until: Instant) -> Result<(), Unchanged> {
        let known = self.known_founders(self.stored().membership());
        match known.is_empty() {
            true => Ok(()),
            false => self.change_nodes(Changes::SetNodes(known), until).await,
        }
    }

    /// What this voter knows of replicas that the membership does not have yet.
    fn known_founders(&self, members: &Membership) -> BTreeMap<u64, Replica> {
        let known = members.nodes().filter_map(|(id, known)| {
            let replica = Replica {
                directory: self.directory_of(*id, members),
                endpoints: self.endpoints_of(*id, members),
            };
            (*known != replica).then_some((*id, replica))
        });
        known.collect()
    }

    /// Takes a replica without a vote out of the membership, if that can be decided soon.
    async fn forget(&self, id: u64) {
        let changes = Changes::RemoveNodes([id].into());
        let until = Instant::now() + FORGOTTEN_WITHIN;
        if let Err(error) = self.change_nodes(changes, until).await {
            tracing::info!(
                ?error,
                "a controller that does not answer stays an observer"
            );
        }
    }

    async fn change_nodes(&self, changes: Changes, until: Instant) -> Result<(), Unchanged> {
        let written = self.raft.change_membership(changes, true);
        match timeout_at(until, written).await {
            Ok(written) => written.map(drop).map_err(|error| self.not_written(error)),
            Err(_elapsed) => Err(late()),
        }
    }

    /// Decides on a set of voters that differs by one.
    async fn set_voters(
        &self,
        voters: BTreeSet<u64>,
        members: &Membership,
        until: Instant,
        awaits_commit: bool,
    ) -> Result<(), Unchanged> {
        let nodes: BTreeMap<u64, Replica> = members
            .nodes()
            .map(|(id, replica)| (*id, replica.clone()))
            .collect();
        let next = Membership::new(vec![voters.clone()], nodes);
        let next = next.map_err(|error| unavailable(error.to_string()))?;
        let written = self.raft.append_membership(next, EntryPayload::Blank, []);
        let in_log = async {
            let wait = self.raft.wait(None);
            let has = |metrics: &Metrics| {
                let now = metrics.membership_config.membership();
                now.voter_ids().eq(voters.iter().copied())
            };
            // if the metadata ends, so does the write
            drop(wait.metrics(has, "the voters are in the log").await);
            if awaits_commit {
                std::future::pending::<()>().await;
            }
        };
        // the entry stays in the log although the write is dropped
        tokio::select! {
            biased;
            written = timeout_at(until, written) => match written {
                Ok(written) => written.map(drop).map_err(|error| self.not_written(error)),
                Err(_elapsed) => Err(late()),
            },
            () = in_log => Ok(()),
        }
    }

    fn not_written(&self, error: WriteError) -> Unchanged {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
                Unchanged::NotLeader(forward.leader_id.filter(|leader| *leader != self.id))
            }
            RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            )) => unavailable("another change of the voters is not committed yet"),
            error => unavailable(error.to_string()),
        }
    }

    /// Waits until a replica has all of the log that there was when it was asked for.
    async fn until_caught_up(&self, id: u64, until: Instant) -> Result<(), String> {
        let end = self.raft.metrics().borrow_watched().last_log_index;
        let matched = |metrics: &Metrics| {
            let matching = metrics
                .replication
                .as_ref()
                .and_then(|all| all.get(&id).copied());
            matching.flatten().map(|matching| matching.index)
        };
        let wait = self.raft.wait(None);
        let is_over = |metrics: &Metrics| metrics.replication.is_none() || matched(metrics) >= end;
        match timeout_at(until, wait.metrics(is_over, "it has the log")).await {
            Ok(Ok(metrics)) if metrics.replication.is_some() => Ok(()),
            Ok(_) => Err("this controller leads no more".to_owned()),
            Err(_elapsed) => Err(match matched(&self.raft.metrics().borrow_watched()) {
                Some(index) => format!(
                    "it has the metadata up to index {index} only, of {}",
                    end.unwrap_or_default()
                ),
                None => "no controller with this directory answers at its address".to_owned(),
            }),
        }
    }
}

fn without(members: &Membership, gone: u64) -> Membership {
    let nodes = members.nodes().filter(|(id, _)| **id != gone);
    let nodes = nodes.map(|(id, replica)| (*id, replica.clone()));
    let voters = members.get_joint_config().iter();
    let voters = voters.map(|voters| voters.iter().copied().filter(|id| *id != gone).collect());
    let left = Membership::new(voters.collect(), nodes.collect::<BTreeMap<_, _>>());
    left.unwrap_or_else(|_| members.clone())
}

fn late() -> Unchanged {
    unavailable("no quorum of the voters has taken the change in time; it may be made still")
}
