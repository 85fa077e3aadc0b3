//! Admission of a voter whose data directory is new.
//!
//! A voter that lost its directory has forgotten its votes, and entries that it acknowledged. If it took part again, it
//! could vote twice in one term, or help to elect a leader that lacks a committed entry. As in Kafka (KIP-853), a voter
//! is therefore a node together with the id of its data directory. Every voter remembers the directory of another one,
//! durably, before it counts a vote or an append of it, and takes no call from it with another directory. A voter whose
//! directory is new asks all other voters before it takes part. If none of them knows it by another directory, no vote
//! and no append of it was ever counted, and it may start afresh.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use highwater_types::NodeId;
use tokio::time::sleep;

use super::{Config, RaftMetadata, failed};
use crate::error::OpenError;
use crate::raft::message::Introduced;
use crate::raft::record::DirectoryRecord;

/// How long one question waits for its answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// The pause before a voter that did not answer is asked again.
const ASKED_AGAIN: Duration = Duration::from_millis(200);

impl RaftMetadata {
    /// Returns once this voter may take part: at once if its directory is not new.
    pub(super) async fn be_admitted(&self, config: &Config) -> Result<(), OpenError> {
        let (log, own) = (&self.voter.log, self.voter.id);
        if log.own_directory(own).is_some() {
            return Ok(());
        }
        let others = self.voter.voters.iter().filter(|other| **other != own);
        // a refusal by one voter ends the start although another one is silent, because it does not pass by itself
        let asked = others.map(|other| async move {
            let answer = self.ask(*other).await;
            self.check_introduced(config, *other, &answer)
        });
        try_join_all(asked).await?;
        let directory = DirectoryRecord::new(own, config.new_directory_id);
        log.remember(directory).await.map_err(failed)
    }

    /// Asks a voter until it answers, however long that takes, because voters start at different times.
    async fn ask(&self, other: u64) -> Introduced {
        let peer = self.network.peer(other);
        let mut told = None;
        loop {
            let error = match peer.introduce(ANSWER_DEADLINE).await {
                Ok(answer) => return answer,
                Err(error) => error.to_string(),
            };
            if told.as_ref() != Some(&error) {
                tracing::info!(
                    node_id = other,
                    error,
                    "waiting for a voter: the data directory is new, and a voter takes part with a new one only once \
                     every other voter has said that it does not know it by another one"
                );
                told = Some(error);
            }
            sleep(ASKED_AGAIN).await;
        }
    }

    /// The voters that do not answer now, each with the reason.
    pub(super) async fn silent_voters(&self) -> Vec<String> {
        let others = self.voter.voters.iter();
        let others = others.filter(|other| **other != self.voter.id);
        let asked = others.map(|other| async move {
            let answered = self.network.peer(*other).introduce(ANSWER_DEADLINE).await;
            answered
                .err()
                .map(|error| format!("node.id={other}: {error}"))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    fn check_introduced(
        &self,
        config: &Config,
        other: u64,
        answer: &Introduced,
    ) -> Result<(), OpenError> {
        if let Some(known) = &answer.known {
            return Err(OpenError::DirectoryLost {
                path: config.dir.display().to_string(),
                node: config.node,
                peer: node_id(other),
                known: known.id(),
            });
        }
        let voters = answer.voters.iter().copied().collect();
        let holder = || format!("the configuration of node.id={other}");
        self.check_voters(&voters, holder)
    }

    /// Checks that a set of voters is the one with which this voter is configured.
    pub(super) fn check_voters(
        &self,
        voters: &BTreeSet<u64>,
        holder: impl FnOnce() -> String,
    ) -> Result<(), OpenError> {
        if *voters == *self.voter.voters {
            return Ok(());
        }
        Err(OpenError::OtherVoters {
            holder: holder(),
            voters: listed(voters),
            configured: listed(&self.voter.voters),
        })
    }
}

/// The ids of voters, as a configuration lists them.
pub(super) fn listed(voters: &BTreeSet<u64>) -> String {
    let voters: Vec<String> = voters.iter().map(u64::to_string).collect();
    voters.join(",")
}

pub(super) fn node_id(voter: u64) -> NodeId {
    NodeId(i32::try_from(voter).unwrap_or(i32::MAX))
}
