//! The sessions of brokers, as the active controller keeps them in memory (E2, E6).
//!
//! A session only decides *when* an epoch is fenced, and which brokers are given leaderships. It is never logged, and a
//! wrong decision costs time, never data: what keeps records safe is the seal of the fenced epoch. Therefore every doubt
//! is decided for the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_types::{NodeEpoch, Term};
use tokio::time::Instant;

use crate::load::Load;
use crate::store_sight::{self, Sight, StoreSight, StoreWatch};

/// How a broker stands, as it says in its heartbeats (E4). An epoch goes through them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Standing {
    /// It recovers its former epochs, and can't open partitions yet.
    Starting = 0,
    /// Its former epochs are recovered, and it may get leaderships.
    Serving = 1,
    /// It stops, and gets no leadership any more.
    Leaving = 2,
}

/// What a broker says in one heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// How it stands.
    pub standing: Standing,
    /// Its load, if that was measured since it was told last.
    pub load: Option<Arc<Load>>,
    /// How it reaches the store; none from a broker on the disk WAL, whose records don't need the store (E8).
    pub store: Option<StoreSight>,
}

/// The answer to a heartbeat of an open epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Whether the broker is to ask the store something, so that its next heartbeats say whether the store is there (E8).
    pub must_look: bool,
}

impl From<Standing> for Told {
    fn from(standing: Standing) -> Self {
        Self {
            standing,
            load: None,
            store: None,
        }
    }
}

/// What was last heard of one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Last {
    standing: Standing,
    load: Option<(Arc<Load>, Instant)>,
    store: Option<(StoreSight, Instant)>,
}

/// The open epochs that the active controller has heard in its term, each with its last standing and its last load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// None in tests, for any term.
    term: Option<Term>,
    of: BTreeMap<NodeEpoch, Last>,
}

impl Heard {
    /// Notes a heartbeat. If it is the first one of a term or tells another standing, the epochs that are not open any more
    /// are forgotten, and this returns true. Loads and sights of the store come again and again, and those that use them
    /// look when they like.
    pub(crate) fn note(
        &mut self,
        (term, now): (Term, Instant),
        epoch: NodeEpoch,
        told: Told,
        is_open: impl Fn(NodeEpoch) -> bool,
    ) -> bool {
        if self.term.replace(term) != Some(term) {
            self.of.clear();
        }
        let load = told.load.map(|load| (load, now));
        let store = told.store.map(|store| (store, now));
        if let Some(known) = self.of.get_mut(&epoch) {
            known.load = load.or(known.load.take());
            known.store = store;
            // an earlier heartbeat may come in late
            if told.standing <= known.standing {
                return false;
            }
            known.standing = told.standing;
        } else {
            let standing = told.standing;
            let last = Last {
                standing,
                load,
                store,
            };
            self.of.insert(epoch, last);
        }
        self.of.retain(|epoch, _| is_open(*epoch));
        true
    }

    /// What was heard in a term; nothing if that is another one.
    #[must_use]
    pub fn in_term(&self, term: Option<Term>) -> Self {
        match self.term.is_none() || self.term == term {
            true => self.clone(),
            false => Self::default(),
        }
    }

    /// What epochs have told at a time, whatever the term is.
    pub fn told_at(at: Instant, told: impl IntoIterator<Item = (NodeEpoch, Told)>) -> Self {
        let last = |(epoch, told): (NodeEpoch, Told)| {
            let last = Last {
                standing: told.standing,
                load: told.load.map(|load| (load, at)),
                store: told.store.map(|store| (store, at)),
            };
            (epoch, last)
        };
        Self {
            term: None,
            of: told.into_iter().map(last).collect(),
        }
    }

    /// Whether an epoch was heard.
    #[must_use]
    pub fn has(&self, epoch: NodeEpoch) -> bool {
        self.of.contains_key(&epoch)
    }

    /// Whether an epoch serves, so that it may get leaderships (E4).
    #[must_use]
    pub fn serves(&self, epoch: NodeEpoch) -> bool {
        self.standing(epoch) == Some(Standing::Serving)
    }

    /// The last load that an epoch has told, and when.
    #[must_use]
    pub fn load(&self, epoch: NodeEpoch) -> Option<(&Load, Instant)> {
        let (load, at) = self.of.get(&epoch)?.load.as_ref()?;
        Some((load, *at))
    }

    /// Whether the active controller has to know which brokers reach the store (E8).
    pub(crate) fn must_look(&self, session: Duration, now: Instant) -> bool {
        store_sight::is_in_doubt(self.sights(), session, now)
    }

    /// How the epochs that serve reach the store, as they told it last, and when.
    fn sights(&self) -> impl Iterator<Item = Sight> + Clone {
        let serving = self.of.iter();
        let serving = serving.filter(|(_, last)| last.standing == Standing::Serving);
        serving.filter_map(|(epoch, last)| last.store.map(|(store, at)| (*epoch, store, at)))
    }

    fn standing(&self, epoch: NodeEpoch) -> Option<Standing> {
        self.of.get(&epoch).map(|last| last.standing)
    }

    /// Whether an epoch stops.
    #[must_use]
    pub fn leaves(&self, epoch: NodeEpoch) -> bool {
        self.standing(epoch) == Some(Standing::Leaving)
    }
}

impl<T: Into<Told>> FromIterator<(NodeEpoch, T)> for Heard {
    fn from_iter<I: IntoIterator<Item = (NodeEpoch, T)>>(heard: I) -> Self {
        let told = heard.into_iter().map(|(epoch, told)| (epoch, told.into()));
        Self::told_at(Instant::now(), told)
    }
}

/// The number of sessions after which all others are dead, although no broker but the one in the controller's own process
/// says so.
const SESSIONS_ALONE: u32 = 10;

/// When the active controller last heard from each open epoch.
#[derive(Debug)]
pub(crate) struct Sessions {
    length: Duration,
    term: Option<Term>,
    heard: BTreeMap<NodeEpoch, Instant>,
    /// When [`Sessions::silent`] was last asked.
    looked: Option<Instant>,
    store: StoreWatch,
}

impl Sessions {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            length,
            term: None,
            heard: BTreeMap::new(),
            looked: None,
            store: StoreWatch::default(),
        }
    }

    /// The length of a session.
    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// Notes a heartbeat of an open epoch.
    pub(crate) fn heard(&mut self, term: Term, epoch: NodeEpoch, now: Instant) {
        self.enter(term, now);
        self.heard.insert(epoch, now);
    }

    /// Whether the session of an open epoch lives. An epoch that was not heard yet begins a session now.
    pub(crate) fn lives(&mut self, term: Term, epoch: NodeEpoch, now: Instant) -> bool {
        self.enter(term, now);
        let since = self.heard.entry(epoch).or_insert(now);
        now.saturating_duration_since(*since) < self.length
    }

    /// The epochs, of those that are open, whose session is over. If all epochs look dead, none is returned: more likely
    /// the controller itself was cut off. The epoch of the controller's own process always reaches it, so that it says
    /// nothing about the others: it doesn't count if there are two others or more, until these have been silent for ten
    /// sessions. Then it takes their partitions over.
    pub(crate) fn silent(
        &mut self,
        term: Term,
        open: &BTreeSet<NodeEpoch>,
        own: Option<NodeEpoch>,
        now: Instant,
    ) -> Vec<NodeEpoch> {
        self.enter(term, now);
        self.looked = Some(now);
        self.heard.retain(|epoch, _| open.contains(epoch));
        let silent = open.iter().copied();
        let silent: Vec<_> = silent
            .filter(|epoch| !self.lives(term, *epoch, now))
            .collect();
        let is_other = |epoch: &&NodeEpoch| Some(**epoch) != own;
        let since = |epoch: &NodeEpoch| self.heard.get(epoch).copied().unwrap_or(now);
        let silence = |epoch| now.saturating_duration_since(since(epoch));
        let shortest = open.iter().filter(is_other).map(silence).min();
        let is_alone = shortest.is_some_and(|it| it >= self.length.saturating_mul(SESSIONS_ALONE));
        let others = open.iter().filter(is_other).count();
        let counts = |epoch: &&NodeEpoch| others < 2 || is_alone || is_other(epoch);
        match open.iter().filter(counts).all(|one| silent.contains(one)) {
            true => Vec::new(),
            false => silent,
        }
    }

    /// The epochs, of those that serve, which don't reach the store although others do (E8).
    pub(crate) fn cut_from_store(
        &mut self,
        term: Term,
        heard: &Heard,
        now: Instant,
    ) -> Vec<NodeEpoch> {
        self.enter(term, now);
        match heard.term == Some(term) {
            true => self.store.cut_off(heard.sights(), self.length, now),
            false => Vec::new(),
        }
    }

    /// All sessions begin anew in another term, and when the sessions were last looked at so long ago that this process
    /// must have been paused, because heartbeats were not counted meanwhile.
    fn enter(&mut self, term: Term, now: Instant) {
        let looked = self.looked;
        let was_paused =
            looked.is_some_and(|looked| now.saturating_duration_since(looked) > self.length / 2);
        if self.term.replace(term) != Some(term) || was_paused {
            self.store = StoreWatch::default();
            self.heard.clear();
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

    /// Asks every second until a time, as heartbeats of some epochs come in; returns the last answer. The controller's
    /// own process has no epoch, or one of these.
    fn look_as(
        own: Option<u64>,
        (sessions, term): (&mut Sessions, Term),
        from: Instant,
        seconds: std::ops::RangeInclusive<u64>,
        (epochs, heard): (&[u64], &[u64]),
    ) -> Vec<u64> {
        let mut silent = Vec::new();
        for second in seconds {
            let now = from + Duration::from_secs(second);
            for epoch in heard {
                sessions.heard(term, NodeEpoch(*epoch), now);
            }
            silent = sessions.silent(term, &open(epochs), own.map(NodeEpoch), now);
        }
        silent.into_iter().map(|epoch| epoch.0).collect()
    }

    fn look(
        sessions: &mut Sessions,
        term: Term,
        from: Instant,
        seconds: std::ops::RangeInclusive<u64>,
        heard: &[u64],
    ) -> Vec<u64> {
        look_as(None, (sessions, term), from, seconds, (&[1, 2, 3], heard))
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

    // E6: a controller that is cut off from all others hears the broker in its own process all the same
    #[test]
    fn the_broker_of_the_controllers_own_process_does_not_count_beside_two_others() {
        let silent_beside = |epochs: &[u64], heard: &[u64]| {
            let (mut sessions, begin) = (Sessions::new(LENGTH), Instant::now());
            let own = Some(1);
            look_as(own, (&mut sessions, TERM), begin, 0..=20, (epochs, heard))
        };
        assert_eq!(silent_beside(&[1, 2, 3], &[1]), []);
        assert_eq!(silent_beside(&[1, 2, 3], &[1, 2]), [3]);
        assert_eq!(silent_beside(&[1, 2, 3], &[2]), [1, 3]);
        // one other alone can't be told from a controller that is cut off, and its partitions must not wait for ever
        assert_eq!(silent_beside(&[1, 2], &[1]), [2]);
        assert_eq!(silent_beside(&[1], &[]), []);
    }

    // E6: its process is the only one that is left
    #[test]
    fn the_broker_of_the_controllers_own_process_counts_once_all_others_are_silent_for_long() {
        let (mut sessions, begin) = (Sessions::new(LENGTH), Instant::now());
        let mut look = |seconds, heard: &[u64]| {
            let asked = (&mut sessions, TERM);
            look_as(Some(1), asked, begin, seconds, (&[1, 2, 3], heard))
        };
        assert_eq!(look(0..=20, &[1, 2]), [3]);
        assert_eq!(
            look(21..=49, &[1]),
            [],
            "2 was heard in the last ten sessions"
        );
        assert_eq!(look(50..=50, &[1]), [2, 3]);
        // a controller that was paused counts anew
        assert_eq!(look(80..=109, &[1]), []);
        assert_eq!(look(110..=110, &[1]), [2, 3]);
        assert_eq!(look(111..=111, &[]), [2, 3]);
        assert_eq!(look(112..=120, &[]), [], "all look dead");
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
        let lives = |sessions: &mut Sessions, term, seconds| {
            let now = begin + Duration::from_secs(seconds);
            sessions.lives(Term(term), NodeEpoch(7), now)
        };
        assert!(lives(&mut sessions, 1, 0) && lives(&mut sessions, 1, 2));
        assert!(!lives(&mut sessions, 1, 3));
        // another node has led since, and may have heard the epoch a moment ago
        assert!(lives(&mut sessions, 3, 4) && lives(&mut sessions, 3, 6));
        assert!(!lives(&mut sessions, 3, 7));
    }

    // E2: the heartbeats that a paused controller did not count do not let a second process in
    #[test]
    fn an_epoch_lives_for_a_session_after_the_controller_was_paused() {
        let (mut sessions, begin) = (Sessions::new(LENGTH), Instant::now());
        assert_eq!(look(&mut sessions, TERM, begin, 0..=2, &[1, 2, 3]), []);
        let now = begin + Duration::from_secs(30);
        assert!(sessions.lives(TERM, NodeEpoch(2), now));
    }

    // E4
    #[test]
    fn an_epoch_serves_from_its_word_until_it_leaves_or_ends() {
        use Standing::{Leaving, Serving, Starting};
        let mut heard = Heard::default();
        let (first, second) = (NodeEpoch(4), NodeEpoch(9));
        let all = |_: NodeEpoch| true;
        let at = (TERM, Instant::now());
        let note = |heard: &mut Heard, epoch, standing: Standing| {
            heard.note(at, epoch, standing.into(), all)
        };
        assert!(note(&mut heard, first, Starting));
        assert!(heard.has(first) && !heard.serves(first));
        assert!(!note(&mut heard, first, Starting), "nothing is new");
        assert!(note(&mut heard, first, Serving));
        assert!(!note(&mut heard, first, Starting), "it was sent earlier");
        assert!(heard.serves(first));
        assert!(note(&mut heard, first, Leaving));
        assert!(heard.leaves(first) && !heard.serves(first));
        assert!(!note(&mut heard, first, Serving), "it was sent earlier");
        assert!(heard.leaves(first));
        assert!(heard.note(at, second, Serving.into(), |epoch| epoch == second));
        assert!(
            !heard.has(first) && !heard.serves(first),
            "it is not open any more"
        );
    }

    #[test]
    fn a_load_stays_until_the_next_one_and_wakes_nobody() {
        let mut heard = Heard::default();
        let epoch = NodeEpoch(4);
        let all = |_: NodeEpoch| true;
        let load = |total| {
            let load = Load {
                total,
                ..Load::default()
            };
            Some(Arc::new(load))
        };
        let with = |load| Told {
            load,
            ..Standing::Serving.into()
        };
        let begin = Instant::now();
        let mut note = |term, seconds, told| {
            let now = begin + Duration::from_secs(seconds);
            let is_new = heard.note((Term(term), now), epoch, told, all);
            let load = heard.load(epoch).map(|(load, at)| (load.total, at - begin));
            (is_new, load.map(|(total, at)| (total, at.as_secs())))
        };
        assert_eq!(note(1, 0, with(None)), (true, None));
        assert_eq!(note(1, 1, with(load(7))), (false, Some((7, 1))));
        assert_eq!(note(1, 2, with(None)), (false, Some((7, 1))));
        assert_eq!(note(1, 3, Standing::Leaving.into()), (true, Some((7, 1))));
        assert_eq!(note(1, 4, with(load(9))), (false, Some((9, 4))));
        // what was heard in an earlier term is long ago
        assert_eq!(note(3, 5, with(None)), (true, None));
        assert!(!heard.in_term(Some(Term(3))).leaves(epoch));
        assert!(heard.in_term(Some(Term(3))).has(epoch));
        assert!(!heard.in_term(Some(Term(4))).has(epoch));
    }
}
