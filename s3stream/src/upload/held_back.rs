//! Whether produce waits for uploads, and what is said of it: once when it begins, once when it is over. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Who waits for room in the WAL, and whether uploads fail.
#[derive(Debug, Default)]
pub(crate) struct HeldBack {
    /// Requests that wait for room.
    waiting: u64,
    /// Since when, without one that got it.
    since: Option<Instant>,
    /// Whether it was said.
    is_said: bool,
    /// Of the time in which no upload succeeds.
    failing: Option<Failing>,
}

/// A run of puts and commits that failed, without one that succeeded between them.
#[derive(Debug)]
struct Failing {
    /// When the first failed.
    since: Instant,
    /// When the last failed for which the store had no room.
    full: Option<Instant>,
    /// Why the last failed.
    why: String,
}

/// For how long every put and commit has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Since the first of them; nothing for the first itself.
    pub(crate) all: Duration,
    /// Since the last of them for which the store had no room, or since the first where none was of that kind.
    pub(crate) since_full: Duration,
}

impl HeldBack {
    /// A request begins to wait, or is refused for want of room.
    pub(crate) fn wait(&mut self, now: Instant) {
        self.waiting += 1;
        self.since.get_or_insert(now);
    }

    /// It does not wait any more, whatever the reason.
    pub(crate) fn leave(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// A request got its room: where nobody waits, it is over. For how long it was, if that was said.
    pub(crate) fn goes_on(&mut self, now: Instant) -> Option<Duration> {
        if self.waiting > 0 {
            return None;
        }
        let since = self.since.take()?;
        let was_said = std::mem::take(&mut self.is_said);
        was_said.then(|| now.duration_since(since))
    }

    /// For how long it has been so, if that is to be said now.
    pub(crate) fn say(&mut self, now: Instant) -> Option<Duration> {
        let since = self.since.filter(|_| !self.is_said)?;
        self.is_said = true;
        Some(now.duration_since(since))
    }

    /// A put or a commit failed, for want of room in the store or for another reason.
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

    /// An object is uploaded and committed; for how long none was.
    pub(crate) fn upload_succeeded(&mut self, now: Instant) -> Option<Duration> {
        let failing = self.failing.take()?;
        Some(now.duration_since(failing.since))
    }

    /// Requests that wait for room.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Since when requests wait without one that got room.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Since when no upload succeeds, and why the last one did not.
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
        // one that gave up did not get room, and one that comes again waits still
        held.leave();
        held.wait(at(6));
        assert_eq!((held.waiting(), held.since()), (1, Some(at(1))));
        assert_eq!(held.say(at(7)), None, "it is the same");
        held.leave();
        assert_eq!(held.goes_on(at(8)), Some(Duration::from_secs(7)));
        assert_eq!(held.goes_on(at(9)), None, "once");
        // a wait too short to be told of ends without a word
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
