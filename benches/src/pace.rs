//! When to send the next request: at once (closed loop), or at times that are set beforehand (open loop).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The amount that is sent in all, which the connections of a run share.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: AtomicU64,
    until: Option<Instant>,
}

impl Budget {
    /// A budget that ends after `bytes` or at `until`, whichever comes first.
    pub(crate) fn new(bytes: Option<u64>, until: Option<Instant>) -> Self {
        Self {
            bytes: AtomicU64::new(bytes.unwrap_or(u64::MAX)),
            until,
        }
    }

    fn take(&self, bytes: u64, at: Instant) -> bool {
        if self.until.is_some_and(|until| at >= until) {
            return false;
        }
        let left = |left: u64| (left > 0).then(|| left.saturating_sub(bytes));
        self.bytes
            .try_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_ok()
    }
}

/// What to do about the next request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send it now; its latency counts from this moment, which may have passed already.
    Send(Instant),
    /// Send it at this moment.
    Wait(Instant),
    /// Send nothing, because the run is over.
    Over,
}

/// The times of one connection's requests.
#[derive(Debug)]
pub(crate) struct Pace<'a> {
    budget: &'a Budget,
    start: Instant,
    interval: Option<Duration>,
    sent: u32,
}

impl<'a> Pace<'a> {
    /// Creates a pace of requests that are `interval` apart, or that follow each other directly.
    pub(crate) fn new(budget: &'a Budget, start: Instant, interval: Option<Duration>) -> Self {
        Self {
            budget,
            start,
            interval,
            sent: 0,
        }
    }

    /// Decides about a request of this many bytes.
    pub(crate) fn next(&mut self, bytes: u64, now: Instant) -> Next {
        let at = match self.interval {
            Some(interval) => self.start + interval * self.sent,
            None => now,
        };
        if at > now {
            return Next::Wait(at);
        }
        if !self.budget.take(bytes, at) {
            return Next::Over;
        }
        self.sent += 1;
        Next::Send(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_request_counts_from_when_it_was_due() {
        let start = crate::machine::now();
        let second = Duration::from_secs(1);
        let budget = Budget::new(Some(11), None);
        let mut pace = Pace::new(&budget, start, Some(second));
        assert_eq!(pace.next(10, start), Next::Send(start));
        assert_eq!(pace.next(10, start), Next::Wait(start + second));
        assert_eq!(
            pace.next(10, start + 5 * second),
            Next::Send(start + second)
        );
        assert_eq!(pace.next(10, start + 5 * second), Next::Over);
    }
}
