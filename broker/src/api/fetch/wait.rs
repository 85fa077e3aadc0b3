//! When a fetch is answered: it looks at the partitions, decides whether it has enough, and waits for a change to look
//! again.

use std::time::Duration;

use futures::future::select_all;
use highwater_partition_log::PartitionLog;
use highwater_runtime::BytePermit;
use highwater_s3stream::StreamBounds;
use tokio::sync::watch;
use tokio::time::Instant;

use super::memory::{Reading, gives_way_of};
use super::outcome::Outcome;
use super::request::{Limits, Target};
use super::tail::{Look, fill_bounds, look};
use crate::partitions::Opening;

/// The outcome of a fetch.
#[derive(Debug)]
pub(super) struct Found {
    /// The partitions that were read.
    pub(super) targets: Vec<Target>,
    /// One outcome for each target.
    pub(super) results: Vec<Outcome>,
    /// The memory of the answer.
    pub(super) permit: BytePermit,
    /// The time for which the fetch waited at the tail.
    pub(super) waited: Duration,
    /// The time for which the client's next request is not read; set if there is no memory for the wait.
    pub(super) rest: Option<Duration>,
}

/// The decision after a look at the partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The batches that were found are the answer. Cold reads start, but the fetch does not wait for them; a later
    /// fetch is served from them.
    Enough,
    /// Only cold reads can bring enough.
    AwaitCold,
    /// New records may come.
    AwaitChange,
}

/// The time past `max_wait` for which a fetch waits for a cold read that is under way.
pub(super) const COLD_GRACE: Duration = Duration::from_millis(500);

/// Decides whether a look found enough (KAFKA-BEHAVIOUR 18). A fetch with an error, or with `min_bytes`, is answered at
/// once. A fetch that does not want to wait, or may not wait any longer, has enough in any case.
pub(super) fn decide(look: &Look, limits: &Limits, may_go_on: bool) -> Verdict {
    if look.any_told || look.available >= limits.min_bytes.max(1) {
        Verdict::Enough
    } else if look.any_cold {
        Verdict::AwaitCold
    } else if limits.min_bytes == 0 || look.results.is_empty() || !may_go_on {
        Verdict::Enough
    } else {
        Verdict::AwaitChange
    }
}

impl Reading<'_> {
    /// Reads until there is enough, or until no time or memory is left to wait for more.
    pub(super) async fn read(mut self) -> Found {
        let mut waited = Duration::ZERO;
        let mut gives_way = false;
        loop {
            // Watches begin before the look, so that no change after it is missed.
            let watches = Watches::of(&mut self.targets);
            let look = look(&self.targets, self.limits, self.limits.max_bytes).await;
            let in_time = Instant::now() < self.limits.deadline;
            let may_go_on = in_time && !self.connection.has_ended() && !gives_way;
            let verdict = decide(&look, self.limits, may_go_on);
            let awaits_change = verdict == Verdict::AwaitChange;
            if !awaits_change || !self.may_wait() {
                return self.end(look, verdict, waited).await;
            }
            drop(look);
            let since = Instant::now();
            // All arms are cancellation safe, because the loop looks again in any case.
            tokio::select! {
                () = watches.changed(self.limits.deadline) => {}
                () = self.connection.ends() => {}
                () = gives_way_of(self.wait.as_ref()) => gives_way = true,
            }
            waited += since.elapsed();
        }
    }

    /// Finishes with the batches that were found, and with the cold reads that the fetch waits for.
    async fn end(mut self, look: Look, verdict: Verdict, waited: Duration) -> Found {
        let cold_until = look.any_cold.then(|| match verdict {
            Verdict::AwaitCold => self.limits.deadline + COLD_GRACE,
            Verdict::Enough | Verdict::AwaitChange => Instant::now(),
        });
        let found = self.finish(look, cold_until).await;
        let may_not_wait = found.is_none() || verdict == Verdict::AwaitChange;
        let (mut results, permit) = found.unwrap_or_else(|| nothing(&self.targets));
        fill_bounds(&self.targets, &mut results, self.limits);
        Found {
            rest: may_not_wait.then(|| self.rest()),
            targets: self.targets,
            results,
            permit,
            waited,
        }
    }
}

/// The outcomes of a fetch that read nothing.
fn nothing(targets: &[Target]) -> (Vec<Outcome>, BytePermit) {
    let results = targets.iter().map(|_| Outcome::Cold).collect();
    (results, BytePermit::empty())
}

/// Watches of the partitions, which begin before a look at them.
#[derive(Debug)]
struct Watches {
    logs: Vec<watch::Receiver<StreamBounds>>,
    /// Set if a partition is being opened.
    openings: Option<watch::Receiver<u64>>,
}

impl Watches {
    /// Watches every log from now on, and the openings of partitions that are not open yet, which it looks at again.
    fn of(targets: &mut [Target]) -> Self {
        // One watch serves for the openings of all partitions.
        let mut openings = targets.iter().filter_map(|target| target.opening.as_ref());
        let openings = openings.next().map(Opening::watch);
        targets.iter_mut().for_each(Target::look_again);
        let partitions = targets
            .iter()
            .filter_map(|target| target.partition.as_ref().ok());
        let mut watches: Vec<_> = partitions
            .map(|partition| PartitionLog::watch(&partition.log))
            .collect();
        for watch in &mut watches {
            watch.mark_unchanged();
        }
        Self {
            logs: watches,
            openings,
        }
    }

    /// Returns when one of the logs changed, or a partition was opened, or at the deadline. The caller looks again in each
    /// of these cases.
    async fn changed(mut self, deadline: Instant) {
        let opened = async {
            match &mut self.openings {
                Some(openings) => drop(openings.changed().await),
                None => std::future::pending().await,
            }
        };
        let any = async {
            if self.logs.is_empty() {
                return std::future::pending().await;
            }
            let changes = self.logs.iter_mut().map(|watch| Box::pin(watch.changed()));
            drop(select_all(changes).await);
        };
        // Cancellation safe: these are watches and a timer.
        tokio::select! {
            () = any => {}
            () = opened => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}
