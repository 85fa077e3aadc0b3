//! The side of a voter that observers call.

use std::io;
use std::sync::PoisonError;
use std::time::Duration;

use highwater_io::File;
use highwater_types::{ClusterId, LogIndex, NodeEpoch, NodeId};
use tokio::time::{Instant, timeout};

use super::message::{
    Behind, Decided, Entries, Follow, Heartbeat, NotLeader, OtherCluster, Piece, Propose,
    ReadSnapshot, Unavailable,
};
use super::{ENTRIES_BYTES, FOLLOW_MAX, PIECE_BYTES};
use crate::command::{Action, Rejection};
use crate::raft::log_store::{LastEntry, RecordsAfter};
use crate::raft::message::{Nothing, Reply, malformed};
use crate::raft::record::DirectoryRecord;
use crate::raft::replica;
use crate::raft::voter::{Undecided, Voter};

impl Voter {
    /// Returns committed entries, and waits for some if there are none yet. Every voter serves them, also one that
    /// does not lead: what is committed never changes.
    pub(in crate::raft) async fn follow(&self, follow: Follow) -> io::Result<Reply> {
        if let Some(other) = self.other_cluster(&follow.cluster) {
            return Ok(other);
        }
        let wait = Duration::from_millis(follow.wait_ms.into()).min(FOLLOW_MAX);
        let last = follow.last.map(|last| LastEntry {
            id: last.into(),
            checksum: follow.checksum,
        });
        let next = last.map_or(0, |last| last.id.index.saturating_add(1));
        let mut applied_end = self.applied_end.clone();
        let has_more = applied_end.wait_for(|end| *end > next);
        tokio::select! {
            // when the wait has passed, the reply says that there is nothing
            _elapsed = timeout(wait, has_more) => {}
            why = self.ended() => return Err(io::Error::other(why)),
        }
        let committed_end = *self.applied_end.borrow();
        if next > committed_end {
            return Ok(Reply::Behind(Behind { committed_end }));
        }
        let records = self.log.records_after(last, committed_end, ENTRIES_BYTES);
        Ok(match records {
            RecordsAfter::Records(records) => Reply::Entries(Entries {
                records,
                committed_end,
            }),
            RecordsAfter::Purged => Reply::SnapshotNeeded(Nothing {}),
            RecordsAfter::Diverged => Reply::Diverged(Nothing {}),
        })
    }

    /// Returns a part of the newest snapshot. A snapshot that was replaced meanwhile can't be read on.
    pub(in crate::raft) async fn read_snapshot(&self, read: ReadSnapshot) -> io::Result<Reply> {
        if let Some(other) = self.other_cluster(&read.cluster) {
            return Ok(other);
        }
        let newest = self.snapshots.newest().await.map_err(io::Error::other)?;
        let newest = newest.and_then(|(meta, file)| Some((meta.last_log_id?.index, file)));
        let Some((last, snapshot)) = newest else {
            return Err(malformed("there is no snapshot"));
        };
        if read.last.is_some_and(|asked| asked != last) {
            return Ok(Reply::SnapshotNeeded(Nothing {}));
        }
        let file: &dyn File = &*snapshot.file;
        let bytes_total = file.len().await?;
        let left = bytes_total.saturating_sub(read.from);
        let bytes = usize::try_from(left).unwrap_or(PIECE_BYTES);
        let asked = usize::try_from(read.bytes).unwrap_or(PIECE_BYTES);
        let bytes = bytes.min(asked).min(PIECE_BYTES);
        let bytes = match bytes {
            0 => bytes::Bytes::new(),
            _ => file.read_at(read.from, bytes).await?,
        };
        Ok(Reply::Piece(Piece {
            last,
            bytes_total,
            bytes,
        }))
    }

    /// Proposes the command of another node, if this voter is the active controller; a sender without a directory is an
    /// observer.
    pub(in crate::raft) async fn propose_for(
        &self,
        propose: Propose,
        from: Option<DirectoryRecord>,
    ) -> io::Result<Reply> {
        if let Some(other) = self.other_cluster(&propose.cluster) {
            return Ok(other);
        }
        let command = propose.command;
        let command = command.ok_or_else(|| malformed("it has no command"))?;
        if let Some(Action::RegisterNode(register)) = &command.action
            && self.is_controller(NodeId(register.node))
            && from.is_none_or(|from| replica::node_id(from.node) != NodeId(register.node))
        {
            let refused = Err(Rejection::IdOfController(NodeId(register.node)));
            return Ok(Reply::Decided(Decided::new(LogIndex::default(), &refused)));
        }
        Ok(match self.propose(command).await {
            Ok((at, decided)) => Reply::Decided(Decided::new(at, &decided)),
            Err(Undecided::NotLeader(leader)) => Reply::NotLeader(NotLeader::new(leader)),
            Err(undecided @ (Undecided::TooLarge(_) | Undecided::Unavailable(_))) => {
                let reason = undecided.to_string();
                Reply::Unavailable(Unavailable { reason })
            }
        })
    }

    /// Takes the heartbeat of a broker, if this voter is the active controller.
    pub(in crate::raft) fn heartbeat_of(&self, heartbeat: &Heartbeat) -> Reply {
        if let Some(other) = self.other_cluster(&heartbeat.cluster) {
            return other;
        }
        let (node, epoch) = (NodeId(heartbeat.node), NodeEpoch(heartbeat.epoch));
        match self.heartbeat(node, epoch, heartbeat.told()) {
            Ok(Some(taken)) => {
                if let Some(end) = heartbeat.log_end {
                    let observers = self.observers.lock();
                    let mut observers = observers.unwrap_or_else(PoisonError::into_inner);
                    observers.insert(node, (end, Instant::now()));
                }
                match taken.must_look {
                    true => Reply::Look(Nothing {}),
                    false => Reply::Done(Nothing {}),
                }
            }
            Ok(None) => Reply::Fenced(Nothing {}),
            Err(Undecided::NotLeader(leader)) => Reply::NotLeader(NotLeader::new(leader)),
            Err(undecided) => Reply::Unavailable(Unavailable {
                reason: undecided.to_string(),
            }),
        }
    }

    /// The refusal of a call from a node of another cluster.
    pub(in crate::raft) fn other_cluster(&self, cluster: &[u8]) -> Option<Reply> {
        let own: ClusterId = self.image.borrow().cluster();
        let is_other = !cluster.is_empty() && !own.is_zero() && cluster != own.0;
        is_other.then(|| {
            Reply::OtherCluster(OtherCluster {
                cluster: own.0.to_vec(),
            })
        })
    }
}
