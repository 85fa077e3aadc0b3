//! Tells whether produce waits for uploads, and when to log that: at its beginning and at its end. This code is pure.

use std::time::Duration;

use tokio::time::Instant;

/// The requests that wait for room in the WAL.
#[derive(Debug, Default)]
pub(crate) struct HeldBack {
    /// The number of requests that wait for room.
    waiting: u64,
    /// The time since when requests wait without any of them getting room.
    since: Option<Instant>,
    /// Whether that was logged.
    is_said: bool,
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

    /// The number of requests that wait for room.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// The time since when requests wait without any of them getting room.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
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
}
