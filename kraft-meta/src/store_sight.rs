//! Whether brokers reach the object store, as they tell the active controller in their heartbeats, and which are fenced
//! because they alone don't (E8).

use std::time::Duration;

use highwater_types::NodeEpoch;
use prost::Message;
use tokio::time::Instant;

/// How a broker on the object WAL has reached the store, as it says in its heartbeats. The times are counted back from
/// when the heartbeat was sent.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StoreSight {
    /// For how many milliseconds no request has had an answer although some were sent; none if all were answered.
    #[prost(uint64, optional, tag = "1")]
    pub silent_ms: Option<u64>,
    /// How many milliseconds ago the newest request was sent that has had its answer; none if there was none.
    #[prost(uint64, optional, tag = "2")]
    pub answered_ms: Option<u64>,
}

impl StoreSight {
    /// The sight of a store that has been silent for some time and whose newest answer is so old.
    #[must_use]
    pub fn new(silent: Option<Duration>, answered: Option<Duration>) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            silent_ms: silent.map(ms),
            answered_ms: answered.map(ms),
        }
    }

    /// For how long the store has been silent.
    fn silent(self) -> Duration {
        Duration::from_millis(self.silent_ms.unwrap_or(0))
    }

    /// How old the newest answer is at a time, if this was told at another one.
    fn answered(self, told: Instant, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(told);
        self.answered_ms
            .map(|ms| Duration::from_millis(ms).saturating_add(since))
    }
}

/// How old the newest answer of the store may be while the store counts as there; half of the time after which a broker is
/// fenced that has had no answer.
fn patience(session: Duration) -> Duration {
    (session * 3 / 2).max(PATIENCE_MIN)
}

/// As long as three looks at the store take, which come once a second.
const PATIENCE_MIN: Duration = Duration::from_secs(3);

/// What a broker told of the store, and when.
pub(crate) type Sight = (NodeEpoch, StoreSight, Instant);

/// Whether a broker has had no answer for so long that it may soon be fenced, so that all are to look whether the store is
/// there.
pub(crate) fn is_in_doubt(
    mut told: impl Iterator<Item = Sight>,
    session: Duration,
    now: Instant,
) -> bool {
    told.any(|(_, sight, at)| is_heard(at, session, now) && sight.silent() >= patience(session))
}

/// Whether the store is there, as the active controller hears from brokers.
#[derive(Debug, Default)]
pub(crate) struct StoreWatch {
    /// Since when there was always a broker with a new answer of the store, as far as was looked.
    answers_since: Option<Instant>,
    looked: Option<Instant>,
}

impl StoreWatch {
    /// The epochs for which the store has been silent for twice the patience, if it has answered others all the time in
    /// the latter half of that. If it was silent for these too, it was away for all, and a fence would only cost time; if
    /// it has just come back, the next look of each finds it.
    pub(crate) fn cut_off(
        &mut self,
        told: impl Iterator<Item = Sight> + Clone,
        session: Duration,
        now: Instant,
    ) -> Vec<NodeEpoch> {
        let patience = patience(session);
        let looked = self.looked.replace(now);
        // this process was paused
        if looked.is_some_and(|at| now.saturating_duration_since(at) > patience) {
            self.answers_since = None;
        }
        let answered = |(_, sight, at): Sight| sight.answered(at, now);
        let newest = told.clone().filter_map(answered).min();
        let is_there = newest.is_some_and(|age| age <= patience);
        self.answers_since = is_there.then(|| self.answers_since.unwrap_or(now));
        let answers = self
            .answers_since
            .map(|since| now.saturating_duration_since(since));
        if answers.is_none_or(|answers| answers < patience) {
            return Vec::new();
        }
        let asks = |(epoch, sight, at): Sight| {
            (is_heard(at, session, now) && sight.silent() >= 2 * patience).then_some(epoch)
        };
        told.filter_map(asks).collect()
    }
}

/// Whether something was told within the last session: later it says nothing about now.
fn is_heard(at: Instant, session: Duration, now: Instant) -> bool {
    now.saturating_duration_since(at) < session
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(2);
    /// The patience, in seconds.
    const PATIENCE: u64 = 3;

    /// What a broker tells at a second: for how many seconds the store is silent, and how old the newest answer is.
    type Tells = fn(u64) -> (Option<u64>, Option<u64>);

    const REACHES: Tells = |_| (None, Some(0));
    const IDLE: Tells = |at| (None, Some(3600 + at));
    const CUT_OFF: Tells = |at| (Some(at), Some(at + 1));

    /// The seconds, of these, at which brokers are fenced, and their places.
    fn fenced(
        watch: &mut StoreWatch,
        seconds: std::ops::Range<u64>,
        brokers: &[Tells],
    ) -> Vec<(u64, u64)> {
        let begin = Instant::now();
        let mut fenced = Vec::new();
        for second in seconds {
            let now = begin + Duration::from_secs(second);
            let told = (0..).zip(brokers).map(|(place, tells)| {
                let (silent, answered) = tells(second);
                let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
                let sight = StoreSight::new(seconds(silent), seconds(answered));
                (NodeEpoch(place), sight, now)
            });
            let cut_off = watch.cut_off(told, SESSION, now);
            fenced.extend(cut_off.into_iter().map(|epoch| (second, epoch.0)));
        }
        fenced
    }

    fn first(brokers: &[Tells]) -> Option<(u64, u64)> {
        fenced(&mut StoreWatch::default(), 0..20, brokers)
            .first()
            .copied()
    }

    // E8
    #[test]
    fn a_broker_that_alone_does_not_reach_the_store_is_fenced() {
        assert_eq!(first(&[REACHES, IDLE, REACHES]), None);
        assert_eq!(first(&[REACHES, CUT_OFF]), Some((2 * PATIENCE, 1)));
        // a store that never answered, because it went as the broker came
        assert_eq!(
            first(&[|at| (Some(at), None), REACHES]),
            Some((2 * PATIENCE, 0))
        );
        // brokers that have nothing to put look once they are asked to
        let looks: Tells = |at| match at {
            0..=3 => IDLE(at),
            4.. => REACHES(at),
        };
        assert_eq!(first(&[CUT_OFF, looks]), Some((4 + PATIENCE, 0)));
        let both = fenced(
            &mut StoreWatch::default(),
            6..7,
            &[CUT_OFF, REACHES, CUT_OFF],
        );
        assert_eq!(both, [], "the controller has just begun");
        let mut watch = StoreWatch::default();
        let both = fenced(&mut watch, 3..7, &[CUT_OFF, REACHES, CUT_OFF]);
        assert_eq!(both, [(6, 0), (6, 2)]);
    }

    // E8
    #[test]
    fn none_is_fenced_while_the_store_is_away_for_all_or_has_just_come_back() {
        assert_eq!(first(&[CUT_OFF]), None);
        assert_eq!(first(&[CUT_OFF, IDLE]), None);
        assert_eq!(first(&[CUT_OFF, CUT_OFF]), None);
        // one of them finds it first
        let back: Tells = |at| match at {
            0..=9 => CUT_OFF(at),
            10.. => REACHES(at),
        };
        let later: Tells = |at| match at {
            0..=11 => CUT_OFF(at),
            12.. => REACHES(at),
        };
        assert_eq!(first(&[back, later]), None);
        assert_eq!(first(&[back, CUT_OFF]), Some((10 + PATIENCE, 1)));
    }

    #[test]
    fn what_was_told_long_ago_fences_nobody() {
        let now = Instant::now() + Duration::from_secs(100);
        let ago = |seconds| now - Duration::from_secs(seconds);
        let sight = |silent: u64| StoreSight::new(Some(Duration::from_secs(silent)), None);
        for (told, silent, is_doubt) in [(0, 3, true), (0, 2, false), (1, 9, true), (2, 9, false)] {
            let told = [(NodeEpoch(1), sight(silent), ago(told))];
            assert_eq!(is_in_doubt(told.into_iter(), SESSION, now), is_doubt);
        }
        let mut watch = StoreWatch {
            answers_since: Some(ago(50)),
            looked: Some(ago(1)),
        };
        let reaches = StoreSight::new(None, Some(Duration::ZERO));
        let told = |ago: Instant| [(NodeEpoch(1), sight(9), ago), (NodeEpoch(2), reaches, now)];
        assert_eq!(watch.cut_off(told(ago(2)).into_iter(), SESSION, now), []);
        let cut_off = watch.cut_off(told(ago(1)).into_iter(), SESSION, now);
        assert_eq!(cut_off, [NodeEpoch(1)]);
        // the controller was paused
        watch.looked = Some(ago(4));
        assert_eq!(watch.cut_off(told(now).into_iter(), SESSION, now), []);
    }
}
