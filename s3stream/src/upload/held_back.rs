//! Tells whether produce waits for uploads, and when to log that: at its beginning and at its end. This code is pure.

use std::time::Duration;

use tokio::time::Instant;

/// The requests that wait for room in the WAL, and the failures of uploads.
#[derive(Debug, Default)]
pub(crate) struct HeldBack {
    /// The number of requests that wait for room.
    waiting: u64,
    /// The time since when requests wait without any of them getting room.
    since: Option<Instant>,
    /// Whether that was logged.
    is_said: bool,
    /// The failures since the last upload that succeeded.
    failing: Option<Failing>,
}

/// A run of failed puts and commits, with no success in between.
#[derive(Debug)]
struct Failing {
    /// The time of the first failure.
    since: Instant,
    /// The time of the last failure for which the store was full.
    full: Option<Instant>,
    /// The reason of the last failure.
    why: String,
}

/// How long every put and commit has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The time since the first failure; zero at the first failure itself.
    pub(crate) all: Duration,
    /// The time since the last failure for which the store was full, or since the first failure if there was none of
    /// that kind.
    pub(crate) since_full: Duration,
}

impl HeldBack {
    /// Notes that a request begins to wait, or is refused because there is no room.
    pub(crate) fn wait(&mut self, now: Instant) {
        self.waiting += 1;
        self.since.get_or_insert(now);
    }

    /// Notes that a request no longer waits, whatever the reason.
    pub(crate) fn leave(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Notes that a request got room, which ends the wait if no other request waits. Returns the time it took, if the
    /// wait was logged.
    pub(crate) fn goes_on(&mut self, now: Instant) -> Option<Duration> {
        if self.waiting > 0 {
            return None;
        }
        let since = self.since.take()?;
        let was_said = std::mem::take(&mut self.is_said);
        was_said.then(|| now.duration_since(since))
    }

    /// How long requests have waited, if that is to be logged now.
    pub(crate) fn say(&mut self, now: Instant) -> Option<Duration> {
        let since = self.since.filter(|_| !self.is_said)?;
        self.is_said = true;
        Some(now.duration_since(since))
    }

    /// Notes that a put or a commit failed, because the store is full or for another reason.
    pub(crate) fn upload_failed(&mut self, why: String, is_full: bool, now: Instant) -> Failed {
        let before = self.failing.take();
        let since = before.as_ref().map_or(now, |before| before.since);
        let full = match is_full {
            true => Some(now),
            false => before.and_then(|before| before.full),
        };
        self.failing = Some(Failing { since, full, why });
        Failed {
            all: now.duration_since(since),
            since_full: now.duration_since(full.unwrap_or(since)),
        }
    }

    /// Notes that an object is uploaded and committed; returns how long none was.
    pub(crate) fn upload_succeeded(&mut self, now: Instant) -> Option<Duration> {
        let failing = self.failing.take()?;
        Some(now.duration_since(failing.since))
    }

    /// The number of requests that wait for room.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// The time since when requests wait without any of them getting room.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// The time since when no upload has succeeded, and the reason of the last failure.
    pub(crate) fn failing(&self) -> Option<(Instant, &str)> {
        let failing = self.failing.as_ref()?;
        Some((failing.since, &failing.why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_and_once_when_it_is_over() {
        let mut held = HeldBack::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(held.goes_on(at(0)), None);
        held.wait(at(1));
        held.wait(at(2));
        assert_eq!(held.say(at(3)), Some(Duration::from_secs(2)));
        assert_eq!(held.say(at(4)), None, "once");
        held.leave();
        assert_eq!(held.goes_on(at(5)), None, "another waits");
        // a request that was dropped got no room, and one that comes again still waits
        held.leave();
        held.wait(at(6));
        assert_eq!((held.waiting(), held.since()), (1, Some(at(1))));
        assert_eq!(held.say(at(7)), None, "it is the same");
        held.leave();
        assert_eq!(held.goes_on(at(8)), Some(Duration::from_secs(7)));
        assert_eq!(held.goes_on(at(9)), None, "once");
        // a wait that is too short to be logged ends without a log line
        held.wait(at(10));
        held.leave();
        assert_eq!(held.goes_on(at(11)), None);
        assert_eq!(held.say(at(12)), None);
    }

    #[test]
    fn an_outage_has_one_beginning_and_one_end() {
        let mut held = HeldBack::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(held.upload_succeeded(at(0)), None);
        let mut fail = |why: &str, is_full, seconds| {
            let failed = held.upload_failed(why.to_owned(), is_full, at(seconds));
            (failed.all.as_secs(), failed.since_full.as_secs())
        };
        assert_eq!(fail("away", false, 1), (0, 0));
        assert_eq!(fail("away", false, 11), (10, 10));
        assert_eq!(fail("full", true, 30), (29, 0));
        assert_eq!(fail("away", false, 40), (39, 10), "it was full lately");
        assert_eq!(held.failing(), Some((at(1), "away")));
        assert_eq!(held.upload_succeeded(at(61)), Some(Duration::from_secs(60)));
        assert_eq!(held.upload_succeeded(at(62)), None);
        let failed = held.upload_failed("away".to_owned(), false, at(70));
        assert_eq!(failed.since_full, Duration::ZERO, "another outage");
    }
}
