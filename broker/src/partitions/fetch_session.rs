//! Incremental fetch sessions (KIP-227): the partitions a consumer asks for, remembered between its fetches.
//!
//! Source: `FetchSession`, `FetchManager`. Deviation: a session is evicted when it was unused for two minutes and room
//! is needed, never for being smaller than another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use highwater_protocol::StrBytes;
use highwater_runtime::SeededRng;
use highwater_types::{StreamOffset, TopicId};
use tokio::time::Instant;

const EVICTABLE_AFTER: Duration = Duration::from_secs(120);
/// The epoch that asks for a new session.
pub(super) const INITIAL_EPOCH: i32 = 0;
/// The epoch that ends a session, or uses none.
pub(super) const FINAL_EPOCH: i32 = -1;

/// A partition as fetches name it: the name below version 13, the id from there on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FetchKey {
    /// The topic's name, or nothing.
    pub name: StrBytes,
    /// The topic's id, or zero.
    pub id: TopicId,
    /// The partition.
    pub partition: i32,
}

/// What is asked of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// From where.
    pub offset: StreamOffset,
    /// The leader epoch that the client knows, or -1.
    pub current_leader_epoch: i32,
    /// The most bytes.
    pub max_bytes: i32,
}

/// What was last told of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// High watermark.
    pub high_watermark: StreamOffset,
    /// Last stable offset.
    pub last_stable_offset: StreamOffset,
    /// Log start offset.
    pub log_start_offset: StreamOffset,
}

const NOTHING_TOLD: Told = Told {
    high_watermark: -1,
    last_stable_offset: -1,
    log_start_offset: -1,
};

/// Why a session is refused; both stand at the top level of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionError {
    /// Kafka's `FETCH_SESSION_ID_NOT_FOUND`.
    UnknownId,
    /// Kafka's `INVALID_FETCH_SESSION_EPOCH`.
    WrongEpoch,
}

/// What one fetch asks for, all in all.
#[derive(Debug)]
pub struct FetchPlan {
    /// The session's id for the answer; 0 for none.
    pub session_id: i32,
    /// Every partition, in the order to serve.
    pub partitions: Vec<(FetchKey, Wanted)>,
    /// Set when only what changed is answered.
    incremental: Option<Arc<Mutex<Session>>>,
    /// Set when everything is answered and remembered.
    remembered: Option<Arc<Mutex<Session>>>,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    used: Instant,
    partitions: BTreeMap<FetchKey, Place>,
    next_turn: u64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    wanted: Wanted,
    told: Told,
    /// Partitions are served by turn: those just served go to the end.
    turn: u64,
}

/// All sessions of a node.
#[derive(Debug)]
pub struct FetchSessions {
    sessions: Mutex<BTreeMap<i32, Arc<Mutex<Session>>>>,
    slots: usize,
    rng: SeededRng,
}

impl FetchSessions {
    /// No sessions yet; at most `slots`.
    #[must_use]
    pub fn new(slots: usize, rng: SeededRng) -> Self {
        Self {
            sessions: Mutex::default(),
            slots,
            rng,
        }
    }

    /// Sessions open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, Arc<Mutex<Session>>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works out what a request asks for.
    ///
    /// # Errors
    /// [`SessionError`] as Kafka's.
    pub fn plan(
        &self,
        session_id: i32,
        epoch: i32,
        wanted: Vec<(FetchKey, Wanted)>,
        forgotten: &[FetchKey],
    ) -> Result<FetchPlan, SessionError> {
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            if session_id != 0 {
                self.lock().remove(&session_id);
            }
            if epoch == FINAL_EPOCH {
                return Ok(FetchPlan {
                    session_id: 0,
                    partitions: wanted,
                    incremental: None,
                    remembered: None,
                });
            }
            return Ok(self.start(wanted));
        }
        let session = self
            .lock()
            .get(&session_id)
            .cloned()
            .ok_or(SessionError::UnknownId)?;
        let partitions = {
            let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
            session.advance(epoch, wanted, forgotten)?
        };
        if partitions.is_empty() {
            self.lock().remove(&session_id);
            let plan = FetchPlan {
                session_id: 0,
                partitions,
                incremental: None,
                remembered: None,
            };
            return Ok(plan);
        }
        Ok(FetchPlan {
            session_id,
            partitions,
            incremental: Some(session),
            remembered: None,
        })
    }

    fn start(&self, wanted: Vec<(FetchKey, Wanted)>) -> FetchPlan {
        let now = Instant::now();
        let mut session = Session {
            epoch: 1,
            used: now,
            partitions: BTreeMap::new(),
            next_turn: 0,
        };
        for (key, wanted) in &wanted {
            session.want(key.clone(), *wanted);
        }
        let mut sessions = self.lock();
        if sessions.len() >= self.slots {
            let oldest = sessions
                .iter()
                .map(|(id, session)| {
                    (
                        session.lock().unwrap_or_else(PoisonError::into_inner).used,
                        *id,
                    )
                })
                .min();
            match oldest {
                Some((used, id)) if now.duration_since(used) >= EVICTABLE_AFTER => {
                    sessions.remove(&id);
                }
                _ => {
                    return FetchPlan {
                        session_id: 0,
                        partitions: wanted,
                        incremental: None,
                        remembered: None,
                    };
                }
            }
        }
        let id = loop {
            let id = i32::try_from(self.rng.below(i32::MAX as u64)).unwrap_or(0) + 1;
            if !sessions.contains_key(&id) {
                break id;
            }
        };
        let session = Arc::new(Mutex::new(session));
        sessions.insert(id, Arc::clone(&session));
        FetchPlan {
            session_id: id,
            partitions: wanted,
            incremental: None,
            remembered: Some(session),
        }
    }
}

impl FetchPlan {
    /// Whether a partition stands in the answer, and remembers what it says. `served` tells whether it has records,
    /// `failed` whether it has an error.
    #[must_use]
    pub fn tell(&self, key: &FetchKey, told: Told, served: bool, failed: bool) -> bool {
        let Some(session) = self.incremental.as_ref().or(self.remembered.as_ref()) else {
            return true;
        };
        let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = session.next_turn;
        let Some(place) = session.partitions.get_mut(key) else {
            return true;
        };
        let changed = failed || place.told != told;
        // an error is told again and again until it is gone
        place.told = if failed { NOTHING_TOLD } else { told };
        if served {
            place.turn = turn;
            session.next_turn += 1;
        }
        self.incremental.is_none() || served || changed
    }
}

impl Session {
    fn want(&mut self, key: FetchKey, wanted: Wanted) {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.partitions
            .entry(key)
            .and_modify(|place| place.wanted = wanted)
            .or_insert(Place {
                wanted,
                told: NOTHING_TOLD,
                turn,
            });
    }

    fn advance(
        &mut self,
        epoch: i32,
        wanted: Vec<(FetchKey, Wanted)>,
        forgotten: &[FetchKey],
    ) -> Result<Vec<(FetchKey, Wanted)>, SessionError> {
        if epoch != self.epoch {
            return Err(SessionError::WrongEpoch);
        }
        self.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        self.used = Instant::now();
        for (key, wanted) in wanted {
            self.want(key, wanted);
        }
        for key in forgotten {
            self.partitions.remove(key);
        }
        let mut all: Vec<(u64, FetchKey, Wanted)> = self
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

    fn at(offset: StreamOffset) -> Wanted {
        Wanted {
            offset,
            current_leader_epoch: -1,
            max_bytes: 100,
        }
    }

    fn told(high_watermark: StreamOffset) -> Told {
        Told {
            high_watermark,
            last_stable_offset: high_watermark,
            log_start_offset: 0,
        }
    }

    // KAFKA-BEHAVIOUR 19
    #[tokio::test]
    async fn an_incremental_answer_lists_what_changed_and_serves_in_turn() {
        let sessions = FetchSessions::new(10, SeededRng::from_seed(1));
        let first = sessions
            .plan(
                0,
                INITIAL_EPOCH,
                vec![(key(0), at(0)), (key(1), at(0))],
                &[],
            )
            .expect("opens");
        assert!(first.session_id > 0);
        assert!(first.tell(&key(0), told(5), true, false));
        assert!(
            first.tell(&key(1), told(0), false, false),
            "a full answer lists everything"
        );

        let id = first.session_id;
        let second = sessions
            .plan(id, 1, vec![(key(0), at(5))], &[])
            .expect("goes on");
        let order: Vec<i32> = second
            .partitions
            .iter()
            .map(|(key, _)| key.partition)
            .collect();
        assert_eq!(order, [1, 0], "what was served goes to the end");
        assert_eq!(second.partitions[1].1.offset, 5);
        assert!(!second.tell(&key(0), told(5), false, false));
        assert!(
            second.tell(&key(1), told(3), false, false),
            "the high watermark changed"
        );
        assert!(
            second.tell(&key(1), told(3), false, true),
            "an error is always listed"
        );

        assert_eq!(
            sessions.plan(id, 1, vec![], &[]).err(),
            Some(SessionError::WrongEpoch)
        );
        assert_eq!(
            sessions.plan(id + 1, 1, vec![], &[]).err(),
            Some(SessionError::UnknownId)
        );
        let third = sessions.plan(id, 2, vec![], &[key(0)]).expect("goes on");
        assert_eq!(third.partitions.len(), 1);
        sessions.plan(id, FINAL_EPOCH, vec![], &[]).expect("closes");
        assert_eq!(sessions.open(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_unused_session_makes_room() {
        let sessions = FetchSessions::new(1, SeededRng::from_seed(1));
        let open = || {
            sessions
                .plan(0, INITIAL_EPOCH, vec![(key(0), at(0))], &[])
                .expect("plans")
        };
        let first = open().session_id;
        assert_eq!(open().session_id, 0, "no room");
        tokio::time::advance(EVICTABLE_AFTER).await;
        let second = open().session_id;
        assert!(second != 0 && second != first);
    }
}
