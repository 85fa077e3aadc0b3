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
    /// Since when no upload succeeds, and why the last one did not.
    failing: Option<(Instant, String)>,
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

    /// A put or a commit failed; for how long all have, which is nothing for the first.
    pub(crate) fn upload_failed(&mut self, why: String, now: Instant) -> Duration {
        let since = self.failing.take().map_or(now, |(since, _)| since);
        self.failing = Some((since, why));
        now.duration_since(since)
    }

    /// An object is uploaded and committed; for how long none was.
    pub(crate) fn upload_succeeded(&mut self, now: Instant) -> Option<Duration> {
        let (since, _) = self.failing.take()?;
        Some(now.duration_since(since))
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
        let (since, why) = self.failing.as_ref()?;
        Some((*since, why))
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
        assert_eq!(held.upload_failed("away".to_owned(), at(1)), Duration::ZERO);
        let failing = held.upload_failed("full".to_owned(), at(30));
        assert_eq!(failing, Duration::from_secs(29));
        assert_eq!(held.failing(), Some((at(1), "full")));
        assert_eq!(held.upload_succeeded(at(61)), Some(Duration::from_secs(60)));
        assert_eq!(held.upload_succeeded(at(62)), None);
    }
}
