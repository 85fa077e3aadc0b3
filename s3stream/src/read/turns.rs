//! Turns for requests that read objects (F4).
//!
//! A bounded number of requests is under way at once. One that takes much longer than answers do counts as *silent*: it goes
//! on, in nobody's way, and lets two more go, so that what hangs is soon all found out, however much it is. How long it takes
//! to be silent follows from how long answers take: a store that is slow but moves is not asked for ever more.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use highwater_object_storage::StorageError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// Requests under way that aren't silent, and how many more for each that is.
const AT_ONCE: usize = 40;
const MORE_FOR_EACH: usize = 2;
/// Requests under way, silent or not.
const AT_ONCE_MAX: usize = 2048;
/// A request is silent when it takes twice as long as answers do, within these bounds.
const PATIENCE_MIN: Duration = Duration::from_secs(1);
const PATIENCE_MAX: Duration = Duration::from_secs(8);
/// The slowest transfer that is waited for, on top.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// Where a request waits for its turn. Both have every other one, as long as requests wait there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// With what clients wait for.
    Serving,
    /// With what is opened.
    Opening,
}

/// The turns of a node's reads. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// As many as there are loads.
    waiting: [VecDeque<oneshot::Sender<Turn>>; 2],
    /// The line whose turn it is.
    next: usize,
    moving: usize,
    silent: usize,
    patience: Duration,
}

impl Default for State {
    fn default() -> Self {
        Self {
            waiting: Default::default(),
            next: 0,
            moving: 0,
            silent: 0,
            patience: PATIENCE_MIN,
        }
    }
}

/// A right to make one request; given back when dropped.
#[derive(Debug)]
struct Turn {
    turns: Option<Turns>,
    is_silent: bool,
}

impl State {
    fn has_room(&self) -> bool {
        self.moving < AT_ONCE + MORE_FOR_EACH * self.silent
            && self.moving + self.silent < AT_ONCE_MAX
    }

    fn take_next(&mut self) -> Option<oneshot::Sender<Turn>> {
        for line in [self.next, 1 - self.next] {
            if let Some(next) = self.waiting[line].pop_front() {
                self.next = 1 - line;
                return Some(next);
            }
        }
        None
    }
}

impl Turns {
    /// Makes a request for about so many bytes when its turn has come: one that `goes_on` with a load before those in its
    /// line that begin one, so that few are half done. `silent` is called when it is found to be silent. Cancellation safe.
    pub(super) async fn take<T>(
        &self,
        (line, goes_on): (Line, bool),
        bytes: u64,
        request: impl Future<Output = Result<T, StorageError>>,
        silent: impl FnOnce(),
    ) -> Result<T, StorageError> {
        let mut turn = self.enter(line, goes_on).await;
        let began = Instant::now();
        let for_bytes = Duration::from_millis(bytes.saturating_mul(1000) / BYTES_PER_SECOND_MIN);
        let mut request = pin!(request);
        let answer = loop {
            // what was learnt meanwhile counts
            let until = began + for_bytes + self.lock().patience;
            if let Ok(answer) = timeout_at(until, request.as_mut()).await {
                break answer;
            }
            if until >= began + for_bytes + self.lock().patience {
                turn.set_silent();
                silent();
                break request.await;
            }
        };
        let is_answered = !matches!(
            answer,
            Err(StorageError::Failed { .. } | StorageError::Unknown { .. })
        );
        if is_answered {
            self.learn(began.elapsed().saturating_sub(for_bytes));
        }
        answer
    }

    async fn enter(&self, line: Line, goes_on: bool) -> Turn {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.lock();
            let waiting = &mut state.waiting[line as usize];
            match goes_on {
                true => waiting.push_front(sender),
                false => waiting.push_back(sender),
            }
            self.give(&mut state);
        }
        receiver.await.expect("who waits is kept until its turn")
    }

    /// Hands turns to who waits for them.
    fn give(&self, state: &mut State) {
        while state.has_room() {
            let Some(next) = state.take_next() else {
                return;
            };
            state.moving += 1;
            let turn = Turn {
                turns: Some(self.clone()),
                is_silent: false,
            };
            // who gave up waiting holds nothing
            if let Err(mut unwanted) = next.send(turn) {
                unwanted.turns = None;
                state.moving -= 1;
            }
        }
    }

    /// An answer took so long.
    fn learn(&self, took: Duration) {
        let mut state = self.lock();
        let patience = (took * 2).max(state.patience / 8 * 7);
        state.patience = patience.clamp(PATIENCE_MIN, PATIENCE_MAX);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    fn set_silent(&mut self) {
        let Some(turns) = &self.turns else { return };
        self.is_silent = true;
        let mut state = turns.lock();
        state.moving -= 1;
        state.silent += 1;
        turns.give(&mut state);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.turns.take() else {
            return;
        };
        let mut state = turns.lock();
        match self.is_silent {
            true => state.silent -= 1,
            false => state.moving -= 1,
        }
        turns.give(&mut state);
    }
}
