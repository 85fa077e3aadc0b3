//! Receipts of appends, and the one watermark that all of them look at.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::WalError;

/// How far a log acknowledges. A backend has one watermark, and raises it only by contiguous prefixes (W2). Group
/// commits are numbered from 1, in the order of appends. Dropping the watermark ends it.
#[derive(Debug, Default)]
pub(crate) struct Watermark(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared(Mutex<Confirmed>);

#[derive(Debug, Default)]
struct Confirmed {
    /// Every group commit up to this one is durable.
    up_to: u64,
    /// Whether nothing more becomes durable.
    has_ended: bool,
    /// The waiters, each under its group commit and a number of its own.
    waiters: BTreeMap<(u64, u64), Waker>,
    /// How many waiters there have been.
    numbers: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Confirmed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watermark {
    /// Acknowledges every group commit up to this one. After the end nothing more is acknowledged.
    pub(crate) fn raise(&self, group: u64) {
        let mut confirmed = self.0.lock();
        if confirmed.has_ended {
            return;
        }
        confirmed.up_to = confirmed.up_to.max(group);
        let reached = confirmed.take_reached();
        drop(confirmed);
        reached.into_iter().for_each(Waker::wake);
    }

    /// Ends the watermark: batches that are not acknowledged now never will be.
    pub(crate) fn end(&self) {
        let mut confirmed = self.0.lock();
        confirmed.has_ended = true;
        let waiters = std::mem::take(&mut confirmed.waiters);
        drop(confirmed);
        waiters.into_values().for_each(Waker::wake);
    }

    /// A receipt for a batch of a group commit.
    pub(crate) fn receipt(&self, group: u64) -> AppendReceipt {
        AppendReceipt {
            group,
            shared: Arc::clone(&self.0),
        }
    }
}

impl Drop for Watermark {
    fn drop(&mut self) {
        self.end();
    }
}

impl Confirmed {
    /// Takes the wakers of the waiters whose group commits are durable. They are woken after the lock is released,
    /// because a waker may run any code.
    fn take_reached(&mut self) -> Vec<Waker> {
        let mut reached = Vec::new();
        while let Some(first) = self.waiters.first_entry()
            && first.key().0 <= self.up_to
        {
            reached.push(first.remove());
        }
        reached
    }

    /// The result for a receipt of a group commit; `None` while it is open.
    fn answer(&self, group: u64) -> Option<Result<(), WalError>> {
        if self.up_to >= group {
            Some(Ok(()))
        } else {
            self.has_ended.then_some(Err(WalError::Ended))
        }
    }
}

/// A promise about one appended batch. Dropping it cancels nothing.
#[must_use]
#[derive(Debug, Clone)]
pub struct AppendReceipt {
    /// The group commit that the batch is in.
    group: u64,
    shared: Arc<Shared>,
}

impl AppendReceipt {
    /// Waits until the batch is durable. Cancellation safe: a wait that is dropped leaves nothing behind.
    ///
    /// # Errors
    /// [`WalError::Ended`] when the log ended before: the batch may or may not be durable.
    pub async fn wait(&self) -> Result<(), WalError> {
        let waiting = Waiting {
            receipt: self,
            number: None,
        };
        waiting.await
    }

    /// Whether the batch is durable already.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.shared.lock().up_to >= self.group
    }

    /// Of several receipts of one log, the one that resolves last.
    pub fn last_of<'a>(receipts: impl Iterator<Item = &'a Self>) -> Option<&'a Self> {
        receipts.max_by_key(|receipt| receipt.group)
    }
}

/// A wait for one receipt.
#[derive(Debug)]
struct Waiting<'a> {
    receipt: &'a AppendReceipt,
    /// The number of its entry among the waiters, if it has one.
    number: Option<u64>,
}

impl Future for Waiting<'_> {
    type Output = Result<(), WalError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let receipt = self.receipt;
        let mut confirmed = receipt.shared.lock();
        if let Some(answer) = confirmed.answer(receipt.group) {
            return Poll::Ready(answer);
        }
        let number = *self.number.get_or_insert_with(|| {
            confirmed.numbers += 1;
            confirmed.numbers
        });
        let key = (receipt.group, number);
        let replaced = confirmed.waiters.insert(key, cx.waker().clone());
        // dropping a waker may run any code, too
        drop(confirmed);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let key = (self.receipt.group, number);
            let waker = self.receipt.shared.lock().waiters.remove(&key);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use futures::FutureExt;

    use super::*;

    /// Counts how often it was woken.
    #[derive(Debug, Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Counter {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }

        fn poll<F: Future>(self: &Arc<Self>, future: Pin<&mut F>) -> Poll<F::Output> {
            let waker = Waker::from(Arc::clone(self));
            future.poll(&mut Context::from_waker(&waker))
        }
    }

    fn waiters(watermark: &Watermark) -> usize {
        watermark.0.lock().waiters.len()
    }

    #[test]
    fn a_raise_wakes_those_that_it_reaches_and_no_others() {
        let watermark = Watermark::default();
        let receipts = [3, 1, 2, 2, 4].map(|group| watermark.receipt(group));
        let mut waits = receipts.each_ref().map(|receipt| Box::pin(receipt.wait()));
        let wakers: [Arc<Counter>; 5] = Default::default();
        for (wait, waker) in waits.iter_mut().zip(&wakers) {
            assert!(waker.poll(wait.as_mut()).is_pending());
        }
        let woken = || wakers.each_ref().map(|waker| waker.count());
        watermark.raise(0);
        assert_eq!(woken(), [0; 5]);
        watermark.raise(2);
        assert_eq!(woken(), [0, 1, 1, 1, 0]);
        watermark.raise(1);
        assert_eq!(woken(), [0, 1, 1, 1, 0]);
        assert!(receipts[2].is_durable(), "it never falls");
        assert_eq!(waiters(&watermark), 2);
        watermark.raise(4);
        assert_eq!(woken(), [1; 5]);
        for (wait, receipt) in waits.iter_mut().zip(&receipts) {
            assert!(receipt.is_durable());
            let told = wait.as_mut().now_or_never().expect("is woken");
            assert!(told.is_ok());
        }
    }

    // P11
    #[test]
    fn a_wait_that_is_dropped_leaves_nothing_behind() {
        let watermark = Watermark::default();
        let receipt = watermark.receipt(1);
        let (gone, stays) = (Arc::<Counter>::default(), Arc::<Counter>::default());
        let mut other = pin!(receipt.wait());
        {
            let mut wait = pin!(receipt.wait());
            assert!(gone.poll(wait.as_mut()).is_pending());
            assert!(stays.poll(other.as_mut()).is_pending());
            assert_eq!(waiters(&watermark), 2);
        }
        assert_eq!(waiters(&watermark), 1);
        assert_eq!(Arc::strong_count(&gone), 1, "no waker of it is kept");
        watermark.raise(1);
        assert_eq!((gone.count(), stays.count()), (0, 1));
    }

    #[test]
    fn a_wait_is_woken_by_the_waker_that_polled_it_last() {
        let watermark = Watermark::default();
        let receipt = watermark.receipt(1);
        let mut wait = pin!(receipt.wait());
        let (first, last) = (Arc::<Counter>::default(), Arc::<Counter>::default());
        assert!(first.poll(wait.as_mut()).is_pending());
        assert!(last.poll(wait.as_mut()).is_pending());
        assert_eq!(waiters(&watermark), 1);
        watermark.raise(1);
        assert_eq!((first.count(), last.count()), (0, 1));
    }

    // P10
    #[test]
    fn the_end_wakes_all_and_is_for_good() {
        for is_dropped in [false, true] {
            let mut watermark = Some(Watermark::default());
            let receipt = |group| watermark.as_ref().map(|it| it.receipt(group));
            let receipts = [1, 2, 9].map(|group| receipt(group).expect("is there"));
            let mut waits = receipts.each_ref().map(|receipt| Box::pin(receipt.wait()));
            let woken = Arc::<Counter>::default();
            for wait in &mut waits {
                assert!(woken.poll(wait.as_mut()).is_pending());
            }
            if let Some(watermark) = &watermark {
                watermark.raise(1);
            }
            match is_dropped {
                true => watermark = None,
                false => watermark.iter().for_each(Watermark::end),
            }
            assert_eq!(woken.count(), 3);
            if let Some(watermark) = &watermark {
                watermark.raise(9);
                assert_eq!(waiters(watermark), 0);
            }
            let told = waits.map(|wait| wait.now_or_never().expect("is woken").is_ok());
            assert_eq!(told, [true, false, false]);
            assert!(!receipts[1].is_durable());
        }
    }
}
