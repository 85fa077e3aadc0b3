//! The side of a voter that the other voters call.

use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use openraft::Raft;

use super::log_store::LogStore;
use super::message::{
    Answer, Append, Call, Introduce, Introduced, Nothing, Reply, Request, decode, encode, malformed,
};
use super::node::LOG_BYTES_FACTOR;
use super::record::DirectoryRecord;
use super::state_store::StateStore;
use super::types::Types;

/// Answers the calls of other voters; cheap to clone. The calls come by [`Transport`](crate::Transport).
#[derive(Clone)]
pub struct Voter {
    pub(super) raft: Raft<Types, StateStore>,
    pub(super) log: LogStore,
    pub(super) snapshot_bytes: u64,
    pub(super) id: u64,
    /// The voters with which this one is configured, itself among them.
    pub(super) voters: Arc<BTreeSet<u64>>,
}

impl Debug for Voter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Voter")
    }
}

fn failed(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl Voter {
    /// Answers a request that another voter sent. An answered append is durable here.
    ///
    /// # Errors
    /// The request is malformed or too large, this voter has ended, or it can't take more entries for now. The data
    /// directory of either voter is not the one by which the other knows it, or this voter does not take part yet.
    pub async fn answer(&self, request: &[u8]) -> io::Result<Bytes> {
        let Request { call, from } = decode::<Request>(request)?;
        let call = call.ok_or_else(|| malformed("it is empty"))?;
        let from = match call {
            Call::Introduce(_) => None,
            _ => Some(self.meet(from).await?),
        };
        let reply = Some(self.reply(call).await?);
        encode(&Answer { reply, from })
    }

    /// Remembers the sender's directory, and returns this voter's own.
    async fn meet(&self, from: Option<DirectoryRecord>) -> io::Result<DirectoryRecord> {
        let own = self.log.own_directory(self.id).ok_or_else(|| {
            let why = "its data directory is new, and it has not yet asked every voter whether it had another one";
            io::Error::new(io::ErrorKind::NotConnected, why)
        })?;
        let from = from.filter(|from| from.node != self.id && self.voters.contains(&from.node));
        let from = from.ok_or_else(|| malformed("its sender is no other voter"))?;
        self.log.remember(from).await?;
        Ok(DirectoryRecord::new(self.id, own))
    }

    fn introduced(&self, Introduce { node }: Introduce) -> Introduced {
        let known = self.log.known_directory(node);
        Introduced {
            known: known.map(|id| DirectoryRecord::new(node, id)),
            voters: self.voters.iter().copied().collect(),
        }
    }

    async fn reply(&self, call: Call) -> io::Result<Reply> {
        Ok(match call {
            Call::Append(append) => self.append(append).await?,
            Call::Vote(campaign) => {
                let voted = self.raft.vote(campaign.request()?).await;
                voted.map_err(failed)?.into()
            }
            Call::PreVote(campaign) => {
                let voted = self.raft.pre_vote(campaign.request()?).await;
                voted.map_err(failed)?.into()
            }
            Call::TransferLeader(transfer) => {
                let asked = self.raft.handle_transfer_leader(transfer.request()?).await;
                asked.map_err(failed)?.map_err(failed)?;
                Reply::Done(Nothing {})
            }
            Call::Introduce(introduce) => Reply::Introduced(self.introduced(introduce)),
        })
    }

    /// Appends a leader's entries. A follower takes entries by the same rules as a leader takes commands: none on a
    /// full disk, and no more than four times the bytes after which a snapshot is due (D3). It always answers a
    /// heartbeat.
    async fn append(&self, append: Append) -> io::Result<Reply> {
        let bytes = append.entries_bytes();
        if bytes > 0 && self.log.is_full_for(bytes) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the disk is full",
            ));
        }
        if bytes > 0 && self.is_too_long() {
            self.ask_for_snapshot().await;
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "its log waits for a snapshot",
            ));
        }
        let appended = self.raft.append_entries(append.request()?).await;
        let appended = appended.map_err(failed)?;
        if self.log.has_outgrown(self.snapshot_bytes) {
            self.ask_for_snapshot().await;
        }
        Ok(appended.into())
    }

    pub(super) fn is_too_long(&self) -> bool {
        self.log.bytes() >= self.snapshot_bytes.saturating_mul(LOG_BYTES_FACTOR)
    }

    pub(super) async fn ask_for_snapshot(&self) {
        if let Err(error) = self.raft.trigger().snapshot().await {
            tracing::warn!(%error, "cannot ask for a snapshot of the metadata");
        }
    }
}
