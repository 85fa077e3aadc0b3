//! Taking a leader's snapshot, for a voter that lacks entries which the others have purged.

use std::io;

use highwater_types::ClusterId;
use openraft::async_runtime::WatchReceiver;

use super::message::{Install, Reply, malformed};
use super::snapshot_store::Part;
use super::types::{LogId, Snapshot, Vote};
use super::voter::Voter;

impl Voter {
    /// Takes a part of a leader's snapshot. The parts are in a file of their own, which replaces the own snapshot only
    /// once all of it is there and checked. A process that dies meanwhile has its own snapshot and log still.
    pub(super) async fn install(&self, install: Install) -> io::Result<Reply> {
        let vote = install.vote.ok_or_else(|| malformed("it names no vote"))?;
        let vote = Vote::from(vote);
        let last = install.last.ok_or_else(|| malformed("it names no entry"))?;
        let last = LogId::from(last);
        // the library panics at a snapshot that no leader of this term can have, or that contradicts what is committed
        let committed = self.raft.metrics().borrow_watched().local_committed;
        let contradicts = committed.is_some_and(|known| last > known && last.index <= known.index);
        if !vote.committed || last.leader_id > vote.leader_id || contradicts {
            return Err(malformed("its snapshot is not the leader's"));
        }
        let seen = self.vote().await?;
        if seen > vote {
            return Ok(Reply::Installed((&seen).into()));
        }
        let part = Part {
            from: (vote, last),
            at: install.from,
            bytes_total: install.bytes_total,
            bytes: install.bytes,
        };
        let Some(snapshot) = self.snapshots.receive(part).await? else {
            return Ok(Reply::Installed((&vote).into()));
        };
        self.check_received(last, &snapshot)?;
        self.log.note_install(last).await?;
        tracing::info!(
            log_index = last.index,
            "a snapshot of the active controller replaces this node's metadata"
        );
        let installed = self.raft.install_full_snapshot(vote, snapshot).await;
        let seen = installed.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Reply::Installed((&seen.vote).into()))
    }

    /// The vote that this voter has seen.
    async fn vote(&self) -> io::Result<Vote> {
        let seen = self.raft.with_raft_state(|state| *state.vote_ref()).await;
        seen.map_err(|error| io::Error::other(error.to_string()))
    }

    /// Checks that a snapshot is the one that was announced, and of this cluster.
    fn check_received(&self, last: LogId, snapshot: &Snapshot) -> io::Result<()> {
        if snapshot.meta.last_log_id != Some(last) {
            return Err(malformed("its snapshot is another one than it says"));
        }
        let own: ClusterId = self.image.borrow().cluster();
        let cluster = snapshot.snapshot.image().map(|image| image.cluster());
        match own.is_zero() || cluster == Some(own) {
            true => Ok(()),
            false => Err(malformed("its snapshot is of another cluster")),
        }
    }
}
