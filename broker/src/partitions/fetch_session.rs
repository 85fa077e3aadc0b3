//! Incremental fetch sessions (KIP-227): they remember the partitions of a consumer between its fetches.
//!
//! Source: `FetchSession`, `FetchManager`. Deviation: not only the number of sessions is bounded, but also the number
//! of partitions in all of them (I11). If that bound is reached, a fetch gets no session, as if no slot were free.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use highwater_protocol::StrBytes;
use highwater_runtime::SeededRng;
use highwater_types::{StreamOffset, TopicId};
use tokio::time::Instant;

/// A session that was unused for longer makes room for any other; a session that is older makes room for a larger one.
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);
/// The approximate bytes of a partition in a session.
const PARTITION_BYTES: u64 = 256;
/// The epoch that requests a new session.
pub(super) const INITIAL_EPOCH: i32 = 0;
/// The epoch that closes a session, or uses none.
pub(super) const FINAL_EPOCH: i32 = -1;

/// A partition as fetches name it: by the topic's name below version 13, by its id from 13 on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FetchKey {
    /// The topic's name; empty if the id names it.
    pub name: StrBytes,
    /// The topic's id; zero if the name names it.
    pub id: TopicId,
    /// The partition.
    pub partition: i32,
}

/// The request for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionRequest {
    /// The offset to fetch from.
    pub offset: StreamOffset,
    /// The leader epoch that the client knows, or -1.
    pub current_leader_epoch: i32,
    /// The maximum bytes.
    pub max_bytes: i32,
}

/// The offsets in the last answer for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watermarks {
    /// High watermark.
    pub high_watermark: StreamOffset,
    /// Last stable offset.
    pub last_stable_offset: StreamOffset,
    /// Log start offset.
    pub log_start_offset: StreamOffset,
}

const NO_WATERMARKS: Watermarks = Watermarks {
    high_watermark: -1,
    last_stable_offset: -1,
    log_start_offset: -1,
};

/// The session that a fetch uses, creates or closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionRequest {
    /// The session's id, or 0.
    pub id: i32,
    /// The session's epoch in the request.
    pub epoch: i32,
    /// Whether topics are named by their ids.
    pub uses_topic_ids: bool,
}

/// Why a session is refused; each of these errors is at the top level of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionError {
    /// Kafka's `FETCH_SESSION_ID_NOT_FOUND`.
    UnknownId,
    /// Kafka's `INVALID_FETCH_SESSION_EPOCH`.
    WrongEpoch,
    /// Kafka's `FETCH_SESSION_TOPIC_ID_ERROR`: the request names topics by the other means than the session.
    OtherNaming,
}

/// The whole request of one fetch, together with its session.
#[derive(Debug)]
pub(crate) struct FetchPlan {
    /// The session's id for the response; 0 for none.
    pub session_id: i32,
    /// Every partition, in the order in which they are served.
    pub partitions: Vec<(FetchKey, PartitionRequest)>,
    /// The session, if only changed partitions are answered.
    incremental: Option<Arc<Mutex<Session>>>,
    /// The session, if all partitions are answered and remembered.
    remembered: Option<Arc<Mutex<Session>>>,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    uses_topic_ids: bool,
    partitions: BTreeMap<FetchKey, Place>,
    next_turn: u64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    wanted: PartitionRequest,
    answered: Watermarks,
    /// Partitions take turns: those that were just served go to the end.
    turn: u64,
}

/// All sessions of a node.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    cache: Mutex<Cache>,
    slots: usize,
    partitions_max: usize,
    rng: SeededRng,
}

/// The sessions, and the facts about each that need no lock of its own. No session's lock is taken while this one is
/// held.
#[derive(Debug, Default)]
struct Cache {
    sessions: BTreeMap<i32, Slot>,
    /// The number of partitions in all sessions.
    partitions: usize,
    /// The sessions by their last use.
    used: BTreeSet<(Instant, i32)>,
    /// The sessions that were old enough to make room when they were last used, by their number of partitions.
    old: BTreeSet<(usize, i32)>,
}

#[derive(Debug)]
struct Slot {
    session: Arc<Mutex<Session>>,
    created: Instant,
    used: Instant,
    partitions: usize,
}

impl Cache {
    fn insert(&mut self, id: i32, session: Session) -> Arc<Mutex<Session>> {
        let (now, partitions) = (Instant::now(), session.partitions.len());
        let session = Arc::new(Mutex::new(session));
        let slot = Slot {
            session: Arc::clone(&session),
            created: now,
            used: now,
            partitions,
        };
        self.sessions.insert(id, slot);
        self.used.insert((now, id));
        self.partitions += partitions;
        session
    }

    fn remove(&mut self, id: i32) {
        if let Some(slot) = self.sessions.remove(&id) {
            self.used.remove(&(slot.used, id));
            self.old.remove(&(slot.partitions, id));
            self.partitions -= slot.partitions;
        }
    }

    /// Notes that a session was used, and how many partitions it has now.
    fn touch(&mut self, id: i32, partitions: usize) {
        let now = Instant::now();
        let Some(slot) = self.sessions.get_mut(&id) else {
            return;
        };
        self.used.remove(&(slot.used, id));
        self.used.insert((now, id));
        self.old.remove(&(slot.partitions, id));
        if now.duration_since(slot.created) > EVICTABLE_AFTER {
            self.old.insert((partitions, id));
        }
        self.partitions = self.partitions - slot.partitions + partitions;
        (slot.used, slot.partitions) = (now, partitions);
    }

    /// Makes room for a session with this many partitions by closing another: an unused one, otherwise a smaller one.
    fn evict_for(&mut self, partitions: usize) -> bool {
        let now = Instant::now();
        let unused = self.used.first();
        let unused = unused.filter(|(used, _)| now.duration_since(*used) > EVICTABLE_AFTER);
        let smaller = self.old.first().filter(|(held, _)| *held < partitions);
        let evicted = unused.map(|(_, id)| *id).or(smaller.map(|(_, id)| *id));
        if let Some(id) = evicted {
            self.remove(id);
        }
        evicted.is_some()
    }
}

impl FetchSessions {
    /// Starts without sessions; there may be `slots` of them, in about this many bytes.
    #[must_use]
    pub(crate) fn new(slots: usize, bytes: u64, rng: SeededRng) -> Self {
        Self {
            cache: Mutex::default(),
            slots,
            partitions_max: usize::try_from(bytes / PARTITION_BYTES).unwrap_or(usize::MAX),
            rng,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works out the full request of a fetch from its session.
    ///
    /// # Errors
    /// [`SessionError`], as in Kafka.
    pub(crate) fn plan(
        &self,
        asked: SessionRequest,
        wanted: Vec<(FetchKey, PartitionRequest)>,
        forgotten: &[FetchKey],
    ) -> Result<FetchPlan, SessionError> {
        if asked.epoch == INITIAL_EPOCH || asked.epoch == FINAL_EPOCH {
            if asked.id != 0 {
                self.lock().remove(asked.id);
            }
            let wanted = distinct(wanted);
            return Ok(match asked.epoch {
                FINAL_EPOCH => FetchPlan::without_session(wanted),
                _ => self.start(asked.uses_topic_ids, wanted),
            });
        }
        let session = {
            let cache = self.lock();
            let slot = cache.sessions.get(&asked.id);
            Arc::clone(&slot.ok_or(SessionError::UnknownId)?.session)
        };
        let partitions = {
            let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
            session.advance(asked, wanted, forgotten)?
        };
        let mut cache = self.lock();
        if partitions.is_empty() {
            cache.remove(asked.id);
            return Ok(FetchPlan::without_session(partitions));
        }
        cache.touch(asked.id, partitions.len());
        if cache.partitions > self.partitions_max {
            cache.remove(asked.id);
            return Err(SessionError::UnknownId);
        }
        Ok(FetchPlan {
            session_id: asked.id,
            partitions,
            incremental: Some(session),
            remembered: None,
        })
    }

    fn start(&self, uses_topic_ids: bool, wanted: Vec<(FetchKey, PartitionRequest)>) -> FetchPlan {
        if self.slots == 0 || wanted.len() > self.partitions_max {
            return FetchPlan::without_session(wanted);
        }
        let mut session = Session {
            epoch: 1,
            uses_topic_ids,
            partitions: BTreeMap::new(),
            next_turn: 0,
        };
        for (key, wanted) in &wanted {
            session.want(key, *wanted);
        }
        let mut cache = self.lock();
        while cache.sessions.len() >= self.slots
            || cache.partitions + wanted.len() > self.partitions_max
        {
            if !cache.evict_for(wanted.len()) {
                return FetchPlan::without_session(wanted);
            }
        }
        let id = loop {
            let id = i32::try_from(self.rng.below(i32::MAX as u64)).unwrap_or(0) + 1;
            if !cache.sessions.contains_key(&id) {
                break id;
            }
        };
        let session = cache.insert(id, session);
        FetchPlan {
            session_id: id,
            partitions: wanted,
            incremental: None,
            remembered: Some(session),
        }
    }
}

/// Each partition once, at its first place in the list, and with its last values.
fn distinct(wanted: Vec<(FetchKey, PartitionRequest)>) -> Vec<(FetchKey, PartitionRequest)> {
    let mut places = BTreeMap::new();
    let mut all: Vec<(FetchKey, PartitionRequest)> = Vec::with_capacity(wanted.len());
    for (key, wanted) in wanted {
        let at = *places.entry(key.clone()).or_insert(all.len());
        match all.get_mut(at) {
            Some(before) => before.1 = wanted,
            None => all.push((key, wanted)),
        }
    }
    all
}

impl FetchPlan {
    fn without_session(partitions: Vec<(FetchKey, PartitionRequest)>) -> Self {
        Self {
            session_id: 0,
            partitions,
            incremental: None,
            remembered: None,
        }
    }

    /// Remembers the answer for a partition, and returns whether it is in the response. `served` says whether it has
    /// records, `failed` whether it has an error.
    #[must_use]
    pub(crate) fn record_answer(
        &self,
        key: &FetchKey,
        answered: Watermarks,
        served: bool,
        failed: bool,
    ) -> bool {
        let Some(session) = self.incremental.as_ref().or(self.remembered.as_ref()) else {
            return true;
        };
        let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = session.next_turn;
        let Some(place) = session.partitions.get_mut(key) else {
            return true;
        };
        let changed = failed || place.answered != answered;
        // An error is repeated in each response until it is gone.
        place.answered = if failed { NO_WATERMARKS } else { answered };
        if served {
            place.turn = turn;
            session.next_turn += 1;
        }
        self.incremental.is_none() || served || changed
    }
}

impl Session {
    fn want(&mut self, key: &FetchKey, wanted: PartitionRequest) {
        if let Some(place) = self.partitions.get_mut(key) {
            place.wanted = wanted;
            return;
        }
        let place = Place {
            wanted,
            answered: NO_WATERMARKS,
            turn: self.next_turn,
        };
        self.next_turn += 1;
        let name = self.own_name(key);
        self.partitions.insert(
            FetchKey {
                name,
                ..key.clone()
            },
            place,
        );
    }

    /// The topic's name, shared by its partitions. It is a copy, because a slice would keep the whole request in
    /// memory.
    fn own_name(&self, key: &FetchKey) -> StrBytes {
        let before = self.partitions.range(..key).next_back();
        let after = self.partitions.range(key..).next();
        let mut beside = before.into_iter().chain(after).map(|(key, _)| &key.name);
        let own = beside.find(|name| **name == key.name);
        own.cloned().unwrap_or_else(|| StrBytes::from(&*key.name))
    }

    fn advance(
        &mut self,
        asked: SessionRequest,
        wanted: Vec<(FetchKey, PartitionRequest)>,
        forgotten: &[FetchKey],
    ) -> Result<Vec<(FetchKey, PartitionRequest)>, SessionError> {
        if asked.epoch != self.epoch {
            return Err(SessionError::WrongEpoch);
        }
        if asked.uses_topic_ids != self.uses_topic_ids {
            return Err(SessionError::OtherNaming);
        }
        self.epoch = asked.epoch.checked_add(1).unwrap_or(1);
        for (key, wanted) in wanted {
            self.want(&key, wanted);
        }
        for key in forgotten {
            self.partitions.remove(key);
        }
        let mut all: Vec<(u64, FetchKey, PartitionRequest)> = self
            .partitions
            .iter()
            .map(|(key, place)| (place.turn, key.clone(), place.wanted))
            .collect();
        all.sort_by_key(|(turn, ..)| *turn);
        Ok(all
            .into_iter()
            .map(|(_, key, wanted)| (key, wanted))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> FetchKey {
        FetchKey {
            name: StrBytes::from("t"),
            id: TopicId::ZERO,
            partition,
        }
    }

    fn at(offset: StreamOffset) -> PartitionRequest {
        PartitionRequest {
            offset,
            current_leader_epoch: -1,
            max_bytes: 100,
        }
    }

    fn answered(high_watermark: StreamOffset) -> Watermarks {
        Watermarks {
            high_watermark,
            last_stable_offset: high_watermark,
            log_start_offset: 0,
        }
    }

    fn sessions(slots: usize, partitions: u64) -> FetchSessions {
        let bytes = partitions * PARTITION_BYTES;
        FetchSessions::new(slots, bytes, SeededRng::from_seed(1))
    }

    fn session(id: i32, epoch: i32) -> SessionRequest {
        SessionRequest {
            id,
            epoch,
            uses_topic_ids: false,
        }
    }

    // KAFKA-BEHAVIOUR 19
    #[tokio::test]
    async fn an_incremental_answer_lists_what_changed_and_serves_in_turn() {
        let sessions = sessions(10, 100);
        let first = sessions
            .plan(
                session(0, INITIAL_EPOCH),
                vec![(key(0), at(0)), (key(1), at(0))],
                &[],
            )
            .expect("opens");
        assert!(first.session_id > 0);
        assert!(first.record_answer(&key(0), answered(5), true, false));
        assert!(
            first.record_answer(&key(1), answered(0), false, false),
            "a full answer lists everything"
        );

        let id = first.session_id;
        let second = sessions
            .plan(session(id, 1), vec![(key(0), at(5))], &[])
            .expect("goes on");
        let order: Vec<i32> = second
            .partitions
            .iter()
            .map(|(key, _)| key.partition)
            .collect();
        assert_eq!(order, [1, 0], "what was served goes to the end");
        assert_eq!(second.partitions[1].1.offset, 5);
        assert!(!second.record_answer(&key(0), answered(5), false, false));
        assert!(
            second.record_answer(&key(1), answered(3), false, false),
            "the high watermark changed"
        );
        assert!(
            second.record_answer(&key(1), answered(3), false, true),
            "an error is always listed"
        );

        assert_eq!(
            sessions.plan(session(id, 1), vec![], &[]).err(),
            Some(SessionError::WrongEpoch)
        );
        assert_eq!(
            sessions.plan(session(id + 1, 1), vec![], &[]).err(),
            Some(SessionError::UnknownId)
        );
        let third = sessions
            .plan(session(id, 2), vec![], &[key(0)])
            .expect("goes on");
        assert_eq!(third.partitions.len(), 1);
        sessions
            .plan(session(id, FINAL_EPOCH), vec![], &[])
            .expect("closes");
        assert_eq!(sessions.lock().sessions.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_session_makes_room_and_an_old_one_for_a_larger_one() {
        let sessions = sessions(1, 100);
        let open = |partitions: i32| {
            let wanted = (0..partitions).map(|index| (key(index), at(0))).collect();
            let plan = sessions.plan(session(0, INITIAL_EPOCH), wanted, &[]);
            plan.expect("plans").session_id
        };
        let first = open(1);
        assert_eq!(open(1), 0, "no room");
        tokio::time::advance(EVICTABLE_AFTER + Duration::from_millis(1)).await;
        let second = open(2);
        assert!(second != 0 && second != first);
        for epoch in 1..4 {
            assert_eq!(open(3), 0, "what is in the slot is not old and in use");
            tokio::time::advance(EVICTABLE_AFTER / 2).await;
            let goes_on = sessions.plan(session(second, epoch), Vec::new(), &[]);
            assert_eq!(goes_on.expect("goes on").session_id, second);
        }
        assert_eq!(open(2), 0, "it is as large");
        let third = open(3);
        assert!(third != 0 && third != second);
        assert_eq!(sessions.lock().sessions.len(), 1);
    }

    // I11
    #[tokio::test]
    async fn partitions_that_have_no_room_have_no_session() {
        let sessions = sessions(10, 5);
        let wanted = |range: std::ops::Range<i32>| -> Vec<_> {
            range.map(|index| (key(index), at(0))).collect()
        };
        let open = |range| sessions.plan(session(0, INITIAL_EPOCH), wanted(range), &[]);
        let too_many = open(0..6).expect("plans");
        assert_eq!((too_many.session_id, too_many.partitions.len()), (0, 6));
        let first = open(0..3).expect("opens").session_id;
        assert_eq!(open(0..3).expect("plans").session_id, 0);
        assert_ne!(open(0..2).expect("opens").session_id, 0);
        let grows = sessions.plan(session(first, 1), wanted(3..4), &[]);
        assert_eq!(grows.err(), Some(SessionError::UnknownId), "begin anew");
        assert_eq!(sessions.lock().sessions.len(), 1);
        assert_ne!(open(0..3).expect("opens").session_id, 0);
    }

    #[tokio::test]
    async fn a_partition_asked_twice_is_one_and_names_stay_of_one_kind() {
        let sessions = sessions(10, 100);
        let twice = vec![(key(0), at(1)), (key(1), at(2)), (key(0), at(3))];
        for epoch in [FINAL_EPOCH, INITIAL_EPOCH] {
            let plan = sessions.plan(session(0, epoch), twice.clone(), &[]);
            let plan = plan.expect("plans");
            assert_eq!(plan.partitions, [(key(0), at(3)), (key(1), at(2))]);
            if epoch == INITIAL_EPOCH {
                let by_id = SessionRequest {
                    uses_topic_ids: true,
                    ..session(plan.session_id, 1)
                };
                let refused = sessions.plan(by_id, Vec::new(), &[]);
                assert_eq!(refused.err(), Some(SessionError::OtherNaming));
            }
        }
    }

    #[tokio::test]
    async fn a_session_keeps_nothing_of_a_request() {
        let sessions = sessions(10, 100);
        let frame = bytes::Bytes::from(b"t and a large frame".to_vec());
        let name = StrBytes::try_from(frame.slice(..1)).expect("is text");
        let of = |partition| FetchKey {
            name: name.clone(),
            ..key(partition)
        };
        let plan = sessions.plan(session(0, INITIAL_EPOCH), vec![(of(0), at(0))], &[]);
        let id = plan.expect("opens").session_id;
        let added = sessions.plan(session(id, 1), vec![(of(1), at(0)), (of(2), at(0))], &[]);
        let added = added.expect("goes on").partitions;
        drop(name);
        assert!(frame.is_unique(), "nobody else holds it");
        let shared = added.windows(2);
        let text = |key: &FetchKey| key.name.as_ptr();
        assert!(
            shared
                .into_iter()
                .all(|two| text(&two[0].0) == text(&two[1].0))
        );
    }
}
