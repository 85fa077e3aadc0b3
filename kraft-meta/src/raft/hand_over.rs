//! How an active controller that ends, or can't decide anything for long, lets another voter lead.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use super::replica;
use super::types::Types;
use super::voter::Voter;

/// How long a voter waits until another one campaigns in its place.
const HANDED_OVER: Duration = Duration::from_secs(1);
/// How long an active controller waits for room on its disk before it hands over.
const UNABLE: Duration = Duration::from_secs(3);

impl Voter {
    /// Hands the leadership over, so that the other voters need not find out that this one is gone. It goes to the voter
    /// with the longest log; if that does not lead soon, the others elect one as after a crash.
    pub(super) async fn hand_over(&self, reason: &str) {
        if self.is_alone() || self.leads().is_none() {
            return;
        }
        let (to, term) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let others = metrics.replication.iter().flatten();
            let voters = metrics.membership_config.membership();
            let voters: BTreeSet<u64> = voters.voter_ids().collect();
            let others = others.filter(|(id, _)| **id != self.id && voters.contains(*id));
            let longest = others.max_by_key(|(_, matching)| **matching);
            (longest.map(|(id, _)| *id), metrics.current_term)
        };
        let Some(to) = to else { return };
        tracing::info!(
            node_id = %replica::node_id(to),
            reason,
            "this active controller hands over to another one"
        );
        let wait = self.raft.wait(Some(HANDED_OVER));
        let is_over = |metrics: &openraft::RaftMetrics<Types>| metrics.current_term > term;
        let asked = self.raft.trigger().transfer_leader(to).await;
        if asked.is_ok() {
            // if it takes longer, this voter goes on all the same
            drop(wait.metrics(is_over, "another voter leads").await);
        }
    }

    /// Hands the leadership over if this voter has led for a while without the room to decide anything: the disk of
    /// another one may have room. Commands call this, as nothing is missed while there are none. If no disk has room, the
    /// leadership goes round no faster than [`UNABLE`].
    pub(super) async fn yield_if_unable(&self) {
        let why = self.check_own().err().filter(|_| self.leads().is_some());
        let is_due = {
            let since = self.unable_since.lock();
            let mut since = since.unwrap_or_else(PoisonError::into_inner);
            let from = why.as_ref().map(|_| since.unwrap_or_else(Instant::now));
            let is_due = from.is_some_and(|from| from.elapsed() >= UNABLE);
            // it counts anew if it is handed over, or if nothing is lacking
            *since = from.filter(|_| !is_due);
            is_due
        };
        if let Some(why) = why.filter(|_| is_due) {
            self.hand_over(&why).await;
        }
    }
}
