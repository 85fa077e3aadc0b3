//! Turns for requests that read objects (F4).
//!
//! A bounded number of requests is under way at once. A request that takes much longer than answers usually do counts
//! as *silent*. It continues, no longer occupies a turn, and lets two more requests start, so that all hanging objects
//! are found soon. An object with three silent requests gets no further request meanwhile: other requests for it wait
//! for the silent ones, and fail with the first of them that fails. (A single request may be silent because of its
//! connection, while others for its object are answered.) The time after which a request is silent follows from how
//! long answers take, so that a store that is slow but answers does not get more and more requests at once.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use highwater_object_storage::{StorageError, layout};
use highwater_runtime::reasons;
use highwater_types::ObjectId;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

/// The number of requests under way that aren't silent, and how many more start for each that is.
const AT_ONCE: usize = 40;
const MORE_FOR_EACH: usize = 2;
/// The bounds on requests under way, silent or not. Each needs a connection, and memory for an answer that may come
/// together with all others. There is one request for so many bytes of the block cache, within these bounds.
const MOST: (usize, usize) = (64, 384);
const BYTES_FOR_EACH: u64 = 256 << 10;
/// The bounds on the time after which a request is silent, which is twice as long as answers take.
const PATIENCE_MIN: Duration = Duration::from_secs(1);
const PATIENCE_MAX: Duration = Duration::from_secs(8);
/// The slowest transfer: this rate gives a request additional time for its bytes.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// The number of silent requests at which an object gets no further request.
const SILENT_OF_ONE: usize = 3;

/// The line in which a request waits for its turn. Lines take turns alternately while requests wait in them, and a
/// quarter of the requests under way is for `Serving` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Reads that clients wait for, and the openings of internal topics.
    Serving,
    /// Openings of streams.
    Opening,
}

/// The turns of a node's reads. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// The most requests under way, silent or not.
    most: usize,
    /// Waiting requests; their number is bounded by the number of loads.
    waiting: [VecDeque<Waiter>; 2],
    /// The line whose turn it is.
    next: usize,
    moving: usize,
    silent: usize,
    /// The objects with silent requests.
    unanswered: BTreeMap<ObjectId, Unanswered>,
    patience: Duration,
}

/// The reason why a request failed.
type Failure = Option<Arc<str>>;

/// An object with silent requests.
#[derive(Debug)]
struct Unanswered {
    silent: usize,
    /// Tells the requests that wait for the silent ones why one of these failed. If the sender is dropped without a
    /// reason, the waiting requests may take a turn themselves.
    waited_for: watch::Sender<Failure>,
}

#[derive(Debug)]
struct Waiter {
    object: ObjectId,
    decide: oneshot::Sender<Decision>,
}

/// The answer to a request that waits for its turn.
#[derive(Debug)]
enum Decision {
    Turn(Turn),
    /// The object has silent requests, which the request waits for.
    Silent(watch::Receiver<Failure>),
}

/// A request that wants a turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct TurnRequest {
    pub(super) line: Line,
    /// Whether the request continues a load. It goes before requests of its line that begin one, so that few loads are
    /// half done.
    pub(super) goes_on: bool,
    pub(super) object: ObjectId,
    /// About how many bytes it reads.
    pub(super) bytes: u64,
}

/// The right to make one request, given back when dropped.
#[derive(Debug)]
struct Turn {
    turns: Option<Turns>,
    object: ObjectId,
    is_silent: bool,
}

impl State {
    fn has_room(&self, line: usize) -> bool {
        let most = match line == Line::Opening as usize {
            true => self.most / 4 * 3,
            false => self.most,
        };
        self.moving < AT_ONCE + MORE_FOR_EACH * self.silent && self.moving + self.silent < most
    }

    /// Called when a silent request of an object has ended. If few are left, the requests that wait for them take turns
    /// themselves.
    fn answered(&mut self, object: ObjectId) {
        let Some(unanswered) = self.unanswered.get_mut(&object) else {
            return;
        };
        unanswered.silent -= 1;
        if unanswered.silent < SILENT_OF_ONE {
            unanswered.waited_for = watch::Sender::new(None);
        }
        if unanswered.silent == 0 {
            self.unanswered.remove(&object);
        }
    }

    fn take_next(&mut self) -> Option<Waiter> {
        for line in [self.next, 1 - self.next] {
            if self.has_room(line)
                && let Some(next) = self.waiting[line].pop_front()
            {
                self.next = 1 - line;
                return Some(next);
            }
        }
        None
    }
}

impl Turns {
    /// The turns for a node whose block cache has so many bytes.
    pub(super) fn new(cache_bytes: u64) -> Self {
        let most = usize::try_from(cache_bytes / BYTES_FOR_EACH).unwrap_or(usize::MAX);
        Self(Arc::new(Mutex::new(State {
            most: most.clamp(MOST.0, MOST.1),
            waiting: Default::default(),
            next: 0,
            moving: 0,
            silent: 0,
            unanswered: BTreeMap::new(),
            patience: PATIENCE_MIN,
        })))
    }

    /// Makes a request when its turn has come. `silent` is called if the request, or another one for its object that it
    /// waits for, turns out to be silent. Cancellation safe.
    pub(super) async fn take<T>(
        &self,
        turn_request: TurnRequest,
        request: impl Future<Output = Result<T, StorageError>>,
        silent: impl FnOnce(),
    ) -> Result<T, StorageError> {
        let mut silent = Some(silent);
        let mut turn = loop {
            match self.enter(turn_request).await {
                Decision::Turn(turn) => break turn,
                Decision::Silent(other) => {
                    if let Some(silent) = silent.take() {
                        silent();
                    }
                    failure_of(other, turn_request.object).await?;
                }
            }
        };
        let began = Instant::now();
        let for_bytes = turn_request.bytes.saturating_mul(1000) / BYTES_PER_SECOND_MIN;
        let for_bytes = Duration::from_millis(for_bytes);
        let mut request = pin!(request);
        let answer = loop {
            // the silence limit may have changed since the request began
            let until = began + for_bytes + self.lock().patience;
            if let Ok(answer) = timeout_at(until, request.as_mut()).await {
                break answer;
            }
            if until >= began + for_bytes + self.lock().patience {
                turn.set_silent();
                if let Some(silent) = silent.take() {
                    silent();
                }
                break request.await;
            }
        };
        match &answer {
            Err(error @ (StorageError::Failed { .. } | StorageError::Unknown { .. })) => {
                turn.failed(&reasons(error));
            }
            _ => self.learn(began.elapsed().saturating_sub(for_bytes)),
        }
        answer
    }

    async fn enter(&self, turn_request: TurnRequest) -> Decision {
        let (decide, decision) = oneshot::channel();
        {
            let mut state = self.lock();
            let waiting = &mut state.waiting[turn_request.line as usize];
            let object = turn_request.object;
            match turn_request.goes_on {
                true => waiting.push_front(Waiter { object, decide }),
                false => waiting.push_back(Waiter { object, decide }),
            }
            self.give(&mut state);
        }
        decision.await.expect("a waiter is kept until its turn")
    }

    /// Gives free turns to waiting requests.
    fn give(&self, state: &mut State) {
        while let Some(Waiter { object, decide }) = state.take_next() {
            let others = state.unanswered.get(&object);
            if let Some(others) = others.filter(|others| others.silent >= SILENT_OF_ONE) {
                // the waiter may have been dropped
                drop(decide.send(Decision::Silent(others.waited_for.subscribe())));
                continue;
            }
            state.moving += 1;
            let turn = Turn {
                turns: Some(self.clone()),
                object,
                is_silent: false,
            };
            // a waiter that was dropped holds no turn
            if let Err(Decision::Turn(mut unwanted)) = decide.send(Decision::Turn(turn)) {
                unwanted.turns = None;
                state.moving -= 1;
            }
        }
    }

    /// Adapts the silence limit to the time that an answer took.
    fn learn(&self, took: Duration) {
        let mut state = self.lock();
        let patience = (took * 2).max(state.patience / 8 * 7);
        state.patience = patience.clamp(PATIENCE_MIN, PATIENCE_MAX);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a silent request of an object ends.
///
/// # Errors
/// The error of the request, if it failed.
async fn failure_of(
    mut other: watch::Receiver<Failure>,
    object: ObjectId,
) -> Result<(), StorageError> {
    let failed = other.wait_for(Option::is_some).await;
    // the sender is dropped without a reason if the object answers
    let Some(reason) = failed.ok().and_then(|failed| failed.clone()) else {
        return Ok(());
    };
    Err(StorageError::Failed {
        key: layout::object(object).to_string(),
        source: reason.to_string().into(),
    })
}

impl Turn {
    fn set_silent(&mut self) {
        let Some(turns) = &self.turns else { return };
        self.is_silent = true;
        let mut state = turns.lock();
        state.moving -= 1;
        state.silent += 1;
        let unanswered = state.unanswered.entry(self.object);
        let unanswered = unanswered.or_insert_with(|| Unanswered {
            silent: 0,
            waited_for: watch::Sender::new(None),
        });
        unanswered.silent += 1;
        turns.give(&mut state);
    }

    /// Fails the requests that wait for this one, if it was silent.
    fn failed(&self, reason: &str) {
        let Some(turns) = self.turns.as_ref().filter(|_| self.is_silent) else {
            return;
        };
        if let Some(unanswered) = turns.lock().unanswered.get_mut(&self.object) {
            let waited_for =
                std::mem::replace(&mut unanswered.waited_for, watch::Sender::new(None));
            waited_for.send_replace(Some(reason.into()));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.turns.take() else {
            return;
        };
        let mut state = turns.lock();
        match self.is_silent {
            true => {
                state.silent -= 1;
                state.answered(self.object);
            }
            false => state.moving -= 1,
        }
        turns.give(&mut state);
    }
}
