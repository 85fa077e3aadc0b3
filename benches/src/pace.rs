//! When the next request is to be sent: at once (closed loop), or at times set beforehand (open loop).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How much is sent in all; shared by the connections of a run.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: AtomicU64,
    until: Option<Instant>,
}

impl Budget {
    /// So many bytes at least, or so long; whichever ends first.
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
    /// Send it; its latency counts from this moment, which may have passed already.
    Send(Instant),
    /// Send it then.
    Wait(Instant),
    /// There is none.
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
    /// Requests `interval` apart, or one after the other.
    pub(crate) fn new(budget: &'a Budget, start: Instant, interval: Option<Duration>) -> Self {
        Self {
            budget,
            start,
            interval,
            sent: 0,
        }
    }

    /// About a request of so many bytes.
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
