//! A standstill of a process in virtual time, as a stop signal causes it.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Lets the futures of one process stand still while others of the same runtime go on. A future that stands still is not
/// polled; it is polled once when the standstill ends, whatever has woken it: then its timers fire late and all at once.
/// Clones are the same standstill.
#[derive(Debug, Clone, Default)]
pub struct Standstill(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    lasts: bool,
    /// How many futures have been made.
    futures: u64,
    /// Those that would have been polled, by the order in which they were made.
    waiting: BTreeMap<u64, Waker>,
}

impl Standstill {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets all futures stand still from now on.
    pub fn begin(&self) {
        self.lock().lasts = true;
    }

    /// Lets all futures go on.
    pub fn end(&self) {
        let waiting = {
            let mut state = self.lock();
            state.lasts = false;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }

    /// Whether the futures stand still.
    #[must_use]
    pub fn lasts(&self) -> bool {
        self.lock().lasts
    }

    /// Runs a future of the process. Cancellation safe: the future is dropped with the call.
    pub async fn hold<T>(&self, body: impl Future<Output = T>) -> T {
        let number = {
            let mut state = self.lock();
            state.futures += 1;
            state.futures
        };
        let mut body = pin!(body);
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.lasts {
                state.waiting.insert(number, cx.waker().clone());
                return Poll::Pending;
            }
            drop(state);
            body.as_mut().poll(cx)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::{ControlRuntime, TaskKind, Tasks};

    #[tokio::test(start_paused = true)]
    async fn tasks_stand_still_while_time_goes_on_and_their_timers_fire_late() {
        let standstill = Standstill::default();
        let control = ControlRuntime::shared_with(&standstill);
        let tasks = Tasks::new(control.start().expect("is there"));
        let begun = Instant::now();
        let (ticks, mut seen) = tokio::sync::watch::channel(Vec::new());
        for tasks in [tasks.clone(), tasks.on_control()] {
            let ticks = ticks.clone();
            tasks.spawn(TaskKind::ColdRead, async move {
                for _ in 0..3 {
                    sleep(Duration::from_secs(1)).await;
                    ticks.send_modify(|ticks| ticks.push(begun.elapsed().as_secs()));
                }
            });
        }
        let some = |count| move |ticks: &Vec<u64>| ticks.len() == count;
        seen.wait_for(some(2)).await.expect("they tick");
        standstill.begin();
        assert!(standstill.lasts());
        sleep(Duration::from_secs(10)).await;
        assert_eq!(seen.borrow().len(), 2, "they stand still");
        standstill.end();
        let all = seen.wait_for(some(6)).await.expect("they go on").clone();
        assert_eq!(all, [1, 1, 11, 11, 12, 12]);
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_foreign_task_runs_on_the_machine_stands_still() {
        let standstill = Standstill::default();
        let control = ControlRuntime::shared_with(&standstill).start();
        let control = control.expect("is there");
        let begun = Instant::now();
        standstill.begin();
        let ran = control.run(async move { begun.elapsed().as_secs() }.boxed());
        let ends = async {
            sleep(Duration::from_secs(10)).await;
            standstill.end();
        };
        let (ran, ()) = tokio::join!(ran, ends);
        assert_eq!(ran.expect("runs"), 10);
    }
}
