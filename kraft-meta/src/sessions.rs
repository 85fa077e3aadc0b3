//! The sessions of brokers, as the active controller keeps them in memory (E2, E6).
//!
//! A session only decides *when* an epoch is fenced. It is never logged, and a wrong decision costs time, never data: what
//! keeps records safe is the seal of the fenced epoch. Therefore every doubt is decided for the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater_types::{NodeEpoch, Term};
use tokio::time::Instant;

/// When the active controller last heard from each open epoch.
#[derive(Debug)]
pub(crate) struct Sessions {
    length: Duration,
    term: Option<Term>,
    heard: BTreeMap<NodeEpoch, Instant>,
    /// When [`Sessions::silent`] was last asked.
    looked: Option<Instant>,
}

impl Sessions {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            length,
            term: None,
            heard: BTreeMap::new(),
            looked: None,
        }
    }

    /// Notes a heartbeat of an open epoch.
    pub(crate) fn heard(&mut self, epoch: NodeEpoch, now: Instant) {
        self.heard.insert(epoch, now);
    }

    /// Whether the session of an open epoch lives. An epoch that was never heard of begins a session now.
    pub(crate) fn lives(&mut self, epoch: NodeEpoch, now: Instant) -> bool {
        let since = self.heard.entry(epoch).or_insert(now);
        now.saturating_duration_since(*since) < self.length
    }

    /// The epochs, of those that are open, whose session is over. All sessions begin anew in another term, and when the
    /// question comes so late that this process must have been paused, because heartbeats were not counted meanwhile. If
    /// all epochs look dead, none is returned: more likely the controller itself was cut off.
    pub(crate) fn silent(
        &mut self,
        term: Term,
        open: &BTreeSet<NodeEpoch>,
        now: Instant,
    ) -> Vec<NodeEpoch> {
        let looked = self.looked.replace(now);
        let was_paused =
            looked.is_some_and(|looked| now.saturating_duration_since(looked) > self.length / 2);
        if self.term.replace(term) != Some(term) || was_paused {
            self.heard.clear();
        }
        self.heard.retain(|epoch, _| open.contains(epoch));
        let silent = open.iter().copied();
        let silent: Vec<_> = silent.filter(|epoch| !self.lives(*epoch, now)).collect();
        match silent.len() == open.len() {
            true => Vec::new(),
            false => silent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(3);
    const TERM: Term = Term(1);

    fn open(epochs: &[u64]) -> BTreeSet<NodeEpoch> {
        epochs.iter().copied().map(NodeEpoch).collect()
    }

    /// Asks every second until a time, as heartbeats of some epochs come in; returns the last answer.
    fn look(
        sessions: &mut Sessions,
        term: Term,
        from: Instant,
        seconds: std::ops::RangeInclusive<u64>,
        heard: &[u64],
    ) -> Vec<u64> {
        let mut silent = Vec::new();
        for second in seconds {
            let now = from + Duration::from_secs(second);
            for epoch in heard {
                sessions.heard(NodeEpoch(*epoch), now);
            }
            silent = sessions.silent(term, &open(&[1, 2, 3]), now);
        }
        silent.into_iter().map(|epoch| epoch.0).collect()
    }

    #[test]
    fn an_epoch_that_is_not_heard_for_a_session_is_silent() {
        let (mut sessions, begin) = (Sessions::new(LENGTH), Instant::now());
        assert_eq!(look(&mut sessions, TERM, begin, 0..=2, &[1, 3]), []);
        assert_eq!(look(&mut sessions, TERM, begin, 3..=3, &[1, 3]), [2]);
        assert_eq!(look(&mut sessions, TERM, begin, 4..=4, &[1, 2, 3]), []);
    }

    #[test]
    fn a_new_active_controller_grants_every_epoch_a_full_session() {
        let (mut sessions, begin) = (Sessions::new(LENGTH), Instant::now());
        assert_eq!(look(&mut sessions, TERM, begin, 0..=3, &[1]), [2, 3]);
        let next = Term(2);
        assert_eq!(look(&mut sessions, next, begin, 4..=6, &[1]), []);
        assert_eq!(look(&mut sessions, next, begin, 7..=7, &[1]), [2, 3]);
    }

    #[test]
    fn if_all_look_dead_none_is_silent() {
        let (mut sessions, begin) = (Sessions::new(LENGTH), Instant::now());
        assert_eq!(look(&mut sessions, TERM, begin, 0..=20, &[]), []);
    }

    // A controller that was stopped counts no heartbeats, and the first that come in must not condemn the others.
    #[test]
    fn a_controller_that_was_paused_grants_full_sessions() {
        let (mut sessions, begin) = (Sessions::new(LENGTH), Instant::now());
        assert_eq!(look(&mut sessions, TERM, begin, 0..=2, &[1, 2, 3]), []);
        assert_eq!(look(&mut sessions, TERM, begin, 30..=32, &[1]), []);
        assert_eq!(look(&mut sessions, TERM, begin, 33..=33, &[1]), [2, 3]);
    }

    // E2
    #[test]
    fn an_epoch_that_was_never_heard_of_lives_for_a_session() {
        let (mut sessions, begin) = (Sessions::new(LENGTH), Instant::now());
        let lives = |sessions: &mut Sessions, seconds| {
            sessions.lives(NodeEpoch(7), begin + Duration::from_secs(seconds))
        };
        assert!(lives(&mut sessions, 0) && lives(&mut sessions, 2));
        assert!(!lives(&mut sessions, 3));
    }
}
