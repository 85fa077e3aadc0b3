//! Long computations, run on other threads than those that serve requests.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_io::Threads;
use tokio::sync::{Notify, oneshot};

use crate::{ByteBudget, BytePermit};

type Job = Box<dyn FnOnce() + Send>;

/// Threads for computations, within a memory budget. Cheap to clone; the threads end with the last clone.
///
/// In a simulation the threads are tasks of the simulated host, and work runs in the order of its arrival.
#[derive(Debug, Clone)]
pub struct WorkPool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    budget: ByteBudget,
}

/// Waiting work. The queue is bounded, because each entry holds at least [`LEAST_BYTES`] of the budget.
#[derive(Default)]
struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    changed: Notify,
    ended: AtomicBool,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({})", self.jobs().len())
    }
}

/// The least bytes of the budget that any work takes.
const LEAST_BYTES: u64 = 64 << 10;

impl Queue {
    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(self: Arc<Self>) {
        loop {
            // registered before the queue is read, so that no later arrival is missed
            let changed = self.changed.notified();
            let job = self.jobs().pop_front();
            match job {
                Some(job) => job(),
                None if self.ended.load(Ordering::Acquire) => return,
                None => changed.await,
            }
        }
    }
}

impl WorkPool {
    /// Starts a worker for each core of the machine.
    #[must_use]
    pub fn start(threads: &dyn Threads, budget: ByteBudget) -> Self {
        let queue = Arc::<Queue>::default();
        for _ in 0..threads.cores() {
            threads.spawn("compute", Box::pin(Arc::clone(&queue).work()));
        }
        Self(Arc::new(Inner { queue, budget }))
    }

    /// The size of the memory budget.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.0.budget.limit()
    }

    /// Runs work that needs so many bytes, once they are free; work that needs more than the whole budget waits for all
    /// of it and runs alone. A panic of the work continues in the caller. If the caller is dropped, running work keeps
    /// its memory until it ends.
    pub async fn run<T: Send + 'static>(
        &self,
        bytes: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let budget = &self.0.budget;
        let bytes = bytes.max(LEAST_BYTES).min(budget.limit());
        let permit = budget.acquire(bytes).await;
        let permit = permit.unwrap_or_else(|_never_over_the_limit| BytePermit::empty());
        let (to, done) = oneshot::channel();
        self.0.queue.jobs().push_back(Box::new(move || {
            let worked = catch_unwind(AssertUnwindSafe(work));
            drop(permit);
            // the caller may have been dropped
            drop(to.send(worked));
        }));
        self.0.queue.changed.notify_one();
        match done
            .await
            .expect("workers outlive the pool, and run all queued work")
        {
            Ok(worked) => worked,
            Err(panic) => resume_unwind(panic),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.ended.store(true, Ordering::Release);
        self.queue.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;

    use futures::FutureExt;
    use highwater_io::RealThreads;

    use super::*;

    fn this_thread() -> ThreadId {
        std::thread::current().id()
    }

    // I11
    #[tokio::test]
    async fn work_runs_on_other_threads_within_its_memory() {
        let budget = ByteBudget::new(1 << 20);
        let pool = WorkPool::start(&RealThreads, budget.clone());
        assert_ne!(pool.run(1, this_thread).await, this_thread());
        let held = budget.try_acquire(1).expect("is free again");
        let mut waiting = Box::pin(pool.run(u64::MAX, || 7));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(pool.0.queue.jobs().is_empty(), "it has no memory yet");
        drop(held);
        assert_eq!(waiting.await, 7);
        for i in 0..100 {
            assert_eq!(pool.run(1 << 20, move || i).await, i);
        }
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_panic_is_the_callers_and_the_worker_goes_on() {
        let pool = WorkPool::start(&RealThreads, ByteBudget::new(1 << 20));
        let panics = pool.run(1, || assert_eq!(1, 2, "on purpose"));
        assert!(AssertUnwindSafe(panics).catch_unwind().await.is_err());
        for i in 0..100 {
            assert_eq!(pool.run(1, move || i).await, i);
        }
    }
}
