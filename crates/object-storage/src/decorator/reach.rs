//! Whether a store answers at all.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::StorageError;

/// How a store was last reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// For how long requests were sent and none was answered; `None` if each one was answered. A request that failed counts
    /// as one without an answer, until a later one has its answer.
    pub silent: Option<Duration>,
    /// How long ago the newest request that has had its answer was sent; `None` if there was none.
    pub answered: Option<Duration>,
}

/// Notes which requests are answered. A refusal of a condition and the absence of an object are answers, errors of the
/// store or of the way to it are not.
#[derive(Debug, Default)]
pub(super) struct Reach(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    silent_since: Option<Instant>,
    answered: Option<Instant>,
}

/// A request under way. One that is dropped had no answer.
pub(super) struct Asked<'a> {
    reach: &'a Reach,
    at: Instant,
}

impl Reach {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request.
    pub(super) fn ask(&self) -> Asked<'_> {
        let at = Instant::now();
        let mut state = self.state();
        state.under_way += 1;
        state.silent_since.get_or_insert(at);
        Asked { reach: self, at }
    }

    /// How the store was reached so far.
    pub(super) fn reached(&self) -> Reached {
        let state = self.state();
        Reached {
            silent: state.silent_since.map(|since| since.elapsed()),
            answered: state.answered.map(|at| at.elapsed()),
        }
    }
}

impl Asked<'_> {
    /// Notes the end of the request, if that is an answer.
    pub(super) fn ended<T>(&self, ended: &Result<T, StorageError>) {
        use StorageError::{Failed, Full, NotFound, Precondition, Unknown};
        match ended {
            Ok(_) | Err(NotFound { .. } | Precondition { .. }) => {
                let mut state = self.reach.state();
                // this request is still under way
                state.silent_since = (state.under_way > 1).then(Instant::now);
                state.answered = state.answered.max(Some(self.at));
            }
            Err(Full { .. } | Unknown { .. } | Failed { .. }) => {}
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.reach.state().under_way -= 1;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failed() -> Result<(), StorageError> {
        Err(StorageError::Failed {
            key: "x".to_owned(),
            source: "no connection".into(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_is_silent_from_the_first_request_without_an_answer_until_one_has_it() {
        let reach = Reach::default();
        let told = |silent: Option<u32>, answered: Option<u32>| Reached {
            silent: silent.map(|seconds| seconds * SECOND),
            answered: answered.map(|seconds| seconds * SECOND),
        };
        sleep(SECOND).await;
        assert_eq!(reach.reached(), told(None, None), "nothing was asked");
        let hangs = reach.ask();
        sleep(2 * SECOND).await;
        assert_eq!(reach.reached(), told(Some(2), None));
        reach.ask().ended(&failed());
        drop(reach.ask());
        sleep(SECOND).await;
        assert_eq!(reach.reached(), told(Some(3), None));
        // the first one still hangs, but the store is there
        reach.ask().ended(&Ok(()));
        sleep(SECOND).await;
        assert_eq!(reach.reached(), told(Some(1), Some(1)));
        hangs.ended(&failed());
        drop(hangs);
        sleep(SECOND).await;
        assert_eq!(reach.reached(), told(Some(2), Some(2)));
        let absent: Result<(), _> = Err(StorageError::NotFound {
            key: "x".to_owned(),
        });
        reach.ask().ended(&absent);
        assert_eq!(reach.reached(), told(None, Some(0)));
        // an answer that comes late was sent before that one
        let late = reach.ask();
        sleep(SECOND).await;
        reach.ask().ended(&absent);
        sleep(SECOND).await;
        late.ended(&absent);
        drop(late);
        assert_eq!(reach.reached(), told(None, Some(1)));
    }
}
