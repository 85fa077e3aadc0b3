//! Admission of a voter whose data directory is new, and of a controller without a vote.
//!
//! A voter that lost its directory has forgotten its votes, and entries that it acknowledged. If it took part again, it
//! could vote twice in one term, or help to elect a leader that lacks a committed entry. As in Kafka (KIP-853), a voter
//! is therefore a node together with the id of its data directory. Every voter remembers the directory of another one,
//! durably, before it counts a vote or an append of it, and takes no call from it with another directory. A voter whose
//! directory is new asks all other voters before it takes part. If none of them knows it by another directory, no vote
//! and no append of it was ever counted, and it may start afresh. Otherwise, or if the voters are others by now, it is
//! another replica, which follows the log without a vote until it is added.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use highwater_types::NodeId;
use tokio::time::sleep;

use super::{Config, Quorum, RaftMetadata, failed};
use crate::error::OpenError;
use crate::raft::change::message::Join;
use crate::raft::message::Introduced;
use crate::raft::network;
use crate::raft::observer::voters::Failure;
use crate::raft::record::DirectoryRecord;
use crate::raft::replica;

/// How long one question waits for its answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// The pause before a controller that did not answer is asked again.
const ASKED_AGAIN: Duration = Duration::from_millis(200);

/// What a start may be.
#[derive(Debug)]
pub(super) enum Admitted {
    /// The replica that was started, with the voters that form the quorum unless it is formed; none if it joins one.
    AsFounder(BTreeSet<u64>),
    /// Another replica, which joins the quorum without a vote.
    Joins,
}

/// Why the questions end before every voter has answered.
enum Unasked {
    /// This node is none of the voters that the others have, or has lost its directory; the reason.
    Joins(String),
    Refused(OpenError),
}

impl RaftMetadata {
    /// Returns once this node may take part: at once if its directory is not new.
    pub(super) async fn be_admitted(
        &self,
        quorum: &Quorum,
        config: &Config,
    ) -> Result<Admitted, OpenError> {
        let (log, own) = (&self.voter.log, self.voter.id);
        if log.own_directory(own).is_some() {
            let is_formed = self.voter.raft.is_initialized().await.map_err(failed)?;
            let founders = match replica::is_founder(own) {
                // a crash may have come between this admission and the first entry of the log
                true if !is_formed && quorum.voters.is_empty() => {
                    match self.is_the_only_one(quorum).await {
                        true => [own].into(),
                        false => BTreeSet::new(),
                    }
                }
                true => (*self.voter.founders).clone(),
                false => BTreeSet::new(),
            };
            return Ok(Admitted::AsFounder(founders));
        }
        let voters = match quorum.voters.is_empty() {
            false => (*self.voter.founders).clone(),
            // the one controller that is configured may be this one
            true => match self.is_the_only_one(quorum).await {
                true => [own].into(),
                false => return Ok(Admitted::Joins),
            },
        };
        let others = voters.iter().filter(|other| **other != own);
        // one answer may end the questions although another voter is silent, because it does not change by itself
        let asked = others.map(|other| async move {
            let (answer, _) = self.ask(quorum, replica::node_id(*other)).await;
            self.check_introduced(config, *other, &answer)
        });
        match try_join_all(asked).await {
            Ok(_) => {}
            Err(Unasked::Joins(reason)) => {
                tracing::warn!(
                    reason,
                    "this controller starts without a vote; add it to the voters with kafka-metadata-quorum add-controller"
                );
                return Ok(Admitted::Joins);
            }
            Err(Unasked::Refused(error)) => return Err(error),
        }
        let directory = DirectoryRecord::new(own, config.new_directory_id);
        log.be(directory).await.map_err(failed)?;
        Ok(Admitted::AsFounder(voters))
    }

    /// Whether the one address that is configured leads to this process.
    async fn is_the_only_one(&self, quorum: &Quorum) -> bool {
        let Some(only) = quorum.bootstrap.first() else {
            return false;
        };
        let (_, process) = self.ask(quorum, *only).await;
        process == self.voter.process
    }

    /// Asks a node until it answers, however long that takes, because nodes start at different times. Returns its start
    /// too.
    async fn ask(&self, quorum: &Quorum, other: NodeId) -> (Introduced, u64) {
        let (transport, own) = (&*quorum.transport, self.voter.node);
        let mut told = None;
        loop {
            let error = match network::introduce(transport, own, other, ANSWER_DEADLINE).await {
                Ok(answer) => return answer,
                Err(error) => error.to_string(),
            };
            if told.as_ref() != Some(&error) {
                tracing::info!(
                    node_id = %other,
                    error,
                    "waiting for a controller: the data directory is new, and a voter takes part with a new one only once \
                     every other voter has said that it does not know it by another one"
                );
                told = Some(error);
            }
            sleep(ASKED_AGAIN).await;
        }
    }

    /// The voters that do not answer now, each with the reason.
    pub(super) async fn silent_voters(&self) -> Vec<String> {
        let others = self.voter.voters().into_iter();
        let others = others.filter(|other| *other != self.voter.id);
        let asked = others.map(|other| async move {
            let answered = self.voter.network.introduced(other, ANSWER_DEADLINE).await;
            let node = replica::node_id(other);
            answered
                .err()
                .map(|error| format!("node.id={node}: {error}"))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    fn check_introduced(
        &self,
        config: &Config,
        other: u64,
        answer: &Introduced,
    ) -> Result<(), Unasked> {
        if let Some(known) = &answer.known {
            return Err(Unasked::Joins(format!(
                "the metadata in {} is new, and node.id={} knows node.id={} by directory.id={}: a voter that lost its \
                 data directory could vote twice, and is another voter than before",
                config.dir.display(),
                replica::node_id(other),
                config.node,
                known.id()
            )));
        }
        let voters: BTreeSet<u64> = answer.voters.iter().copied().collect();
        if voters == *self.voter.founders {
            return Ok(());
        }
        let (voters, configured) = (listed(&voters), listed(&self.voter.founders));
        let holder = format!("node.id={}", replica::node_id(other));
        Err(match answer.is_formed {
            true => Unasked::Joins(format!(
                "the metadata of {holder} has the voters {voters}, and this node is configured with the voters \
                 {configured}"
            )),
            false => Unasked::Refused(OpenError::OtherVoters {
                holder: format!("the configuration of {holder}"),
                voters,
                configured,
            }),
        })
    }

    /// Asks the active controller to send its log to this one, if this one has no vote by its own log, or has another
    /// address than the others know. It asks until it is answered.
    pub(super) async fn join(&self) -> Result<(), OpenError> {
        let mut told = None;
        while let Some(join) = self.to_join() {
            let reason = match self.controllers.join(join).await {
                Ok(()) => return Ok(()),
                Err(Failure::Final(reason)) => return Err(OpenError::Raft(reason)),
                Err(Failure::Unreachable(reason)) => reason,
            };
            if told.as_ref() != Some(&reason) {
                tracing::info!(
                    reason,
                    "waiting for an active controller that sends the metadata: this one has no vote, and forms no quorum \
                     by itself; those that form one are named in controller.quorum.voters"
                );
                told = Some(reason);
            }
            sleep(ASKED_AGAIN).await;
        }
        Ok(())
    }

    fn to_join(&self) -> Option<Join> {
        let endpoints = self.voter.endpoints.get(&self.voter.node)?;
        let stored = self.voter.stored();
        let members = stored.membership();
        let is_known = match members.get_node(&self.voter.id) {
            // a founder is where the others are configured to find it
            Some(known) => known.endpoints.is_empty() || known.endpoints == *endpoints,
            None => members.nodes().next().is_none() && replica::is_founder(self.voter.id),
        };
        let cluster = self.controllers.cluster_bytes(&self.voter.image.borrow());
        (!is_known).then(|| Join {
            cluster,
            endpoints: endpoints.clone(),
        })
    }
}

/// The nodes of voters, as a configuration lists them.
pub(super) fn listed(voters: &BTreeSet<u64>) -> String {
    let voters = voters.iter().map(|id| replica::node_id(*id).to_string());
    voters.collect::<Vec<_>>().join(",")
}
