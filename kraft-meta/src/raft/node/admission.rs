//! Admission of a voter whose data directory is new.
//!
//! A voter that lost its directory has forgotten its votes, and entries that it acknowledged. If it took part again, it
//! could vote twice in one term, or help to elect a leader that lacks a committed entry. As in Kafka (KIP-853), a voter
//! is therefore a node together with the id of its data directory. Every voter remembers the directory of another one,
//! durably, before it counts a vote or an append of it, and takes no call from it with another directory. A voter whose
//! directory is new asks all other voters before it takes part. If none of them knows it by another directory, no vote
//! and no append of it was ever counted, and it may start afresh.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use futures::future::join_all;
use highwater_types::NodeId;
use tokio::time::Instant;

use super::quorum::LEADER_DEADLINE;
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
        let asked = others.map(|other| async move { (*other, self.ask(*other).await) });
        let answers = join_all(asked).await;
        // a refusal by one voter is reported before the silence of another, because it does not pass by itself
        for (other, answer) in &answers {
            if let Ok(answer) = answer {
                self.check_introduced(config, *other, answer)?;
            }
        }
        for (other, answer) in answers {
            answer.map_err(|source| OpenError::Unanswered {
                path: config.dir.display().to_string(),
                peer: node_id(other),
                source,
            })?;
        }
        let directory = DirectoryRecord::new(own, config.new_directory_id);
        log.remember(directory).await.map_err(failed)
    }

    /// Asks a voter until it answers, because voters start at different times.
    async fn ask(&self, other: u64) -> io::Result<Introduced> {
        let peer = self.network.peer(other);
        let deadline = Instant::now() + LEADER_DEADLINE;
        loop {
            match peer.introduce(ANSWER_DEADLINE).await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(ASKED_AGAIN).await,
                answered => return answered,
            }
        }
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

fn node_id(voter: u64) -> NodeId {
    NodeId(i32::try_from(voter).unwrap_or(i32::MAX))
}
