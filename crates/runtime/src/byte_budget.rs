//! Weighted permits, the only way to hold memory for requests or caches (I11).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// A number of bytes that may be held at once. Cheap to clone.
///
/// Waiters are served in turn, so that later small ones don't starve a large one. Therefore a waiter must be polled
/// until it has its bytes or is dropped: a waiter that is first in line and not polled blocks all waiters behind it. A
/// budget may keep a reserve with a line of its own, so that urgent work does not wait behind work that may be delayed.
#[derive(Debug, Clone)]
pub struct ByteBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The bytes that every caller may take.
    limit: u64,
    /// Further bytes, which only [`ByteBudget::acquire_reserved`] may take.
    reserve: u64,
    used: AtomicU64,
    line: Line,
    reserved_line: Line,
}

/// A line of waiters.
#[derive(Debug, Default)]
struct Line {
    turn: tokio::sync::Mutex<()>,
    freed: Notify,
}

/// Bytes taken from a [`ByteBudget`]; dropping it gives them back.
#[derive(Debug)]
#[must_use]
pub struct BytePermit {
    budget: Option<ByteBudget>,
    bytes: u64,
}

/// The error of a request for more than the whole budget, which can never be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// The bytes that were requested.
    pub bytes: u64,
    /// The size of the budget.
    pub limit: u64,
}

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "more than the whole budget bytes={} limit={}",
            self.bytes, self.limit
        )
    }
}

impl std::error::Error for TooLarge {}

impl ByteBudget {
    /// Makes a budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self::with_reserve(limit, 0)
    }

    /// Makes a budget of `bytes`, of which `reserve` are for [`ByteBudget::acquire_reserved`] alone.
    #[must_use]
    pub fn with_reserve(bytes: u64, reserve: u64) -> Self {
        let reserve = reserve.min(bytes);
        Self(Arc::new(Inner {
            limit: bytes - reserve,
            reserve,
            used: AtomicU64::new(0),
            line: Line::default(),
            reserved_line: Line::default(),
        }))
    }

    /// The bytes that are held now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Acquire)
    }

    /// The size of the budget without its reserve.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// The bytes that one holder may take while it runs: a quarter of the free bytes, so that a few holders never take
    /// all.
    #[must_use]
    pub fn share(&self) -> u64 {
        self.limit().saturating_sub(self.used()) / 4
    }

    /// Takes `bytes` if they are free now and no other waiter is in line.
    #[must_use]
    pub fn try_acquire(&self, bytes: u64) -> Option<BytePermit> {
        let _turn = self.0.line.turn.try_lock().ok()?;
        self.take(bytes, self.0.limit)
    }

    /// Takes `bytes`, waiting for its turn and for room. Cancellation safe: nothing is held until it returns.
    ///
    /// # Errors
    /// [`TooLarge`] at once if the whole budget is smaller.
    pub async fn acquire(&self, bytes: u64) -> Result<BytePermit, TooLarge> {
        self.wait(bytes, self.0.limit, &self.0.line).await
    }

    /// Acquires like [`ByteBudget::acquire`], but from the reserve too and in a line of its own. Cancellation safe.
    ///
    /// # Errors
    /// [`TooLarge`] at once if the whole budget is smaller.
    pub async fn acquire_reserved(&self, bytes: u64) -> Result<BytePermit, TooLarge> {
        let limit = self.0.limit + self.0.reserve;
        self.wait(bytes, limit, &self.0.reserved_line).await
    }

    async fn wait(&self, bytes: u64, limit: u64, line: &Line) -> Result<BytePermit, TooLarge> {
        if bytes > limit {
            return Err(TooLarge { bytes, limit });
        }
        let _turn = line.turn.lock().await;
        loop {
            let freed = line.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(permit) = self.take(bytes, limit) {
                return Ok(permit);
            }
            freed.await;
        }
    }

    /// Takes `bytes` even beyond the limit, for state that has to be kept whatever it costs: state that is being
    /// recovered, and decisions that a coordinator has made.
    pub fn force(&self, bytes: u64) -> BytePermit {
        self.0.used.fetch_add(bytes, Ordering::AcqRel);
        BytePermit {
            budget: Some(self.clone()),
            bytes,
        }
    }

    fn take(&self, bytes: u64, limit: u64) -> Option<BytePermit> {
        self.0
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= limit)
            })
            .ok()
            .map(|_| BytePermit {
                budget: Some(self.clone()),
                bytes,
            })
    }
}

impl BytePermit {
    /// A permit for no bytes.
    pub const fn empty() -> Self {
        Self {
            budget: None,
            bytes: 0,
        }
    }

    /// The bytes that are held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a waiter is in line for the budget of this permit.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        self.budget
            .as_ref()
            .is_some_and(|budget| self.bytes > 0 && budget.0.line.turn.try_lock().is_err())
    }

    /// Splits off a part of this permit.
    ///
    /// # Panics
    /// When the permit holds less than `bytes`.
    pub fn split(&mut self, bytes: u64) -> Self {
        self.bytes = self
            .bytes
            .checked_sub(bytes)
            .expect("a part is at most the whole");
        Self {
            budget: self.budget.clone(),
            bytes,
        }
    }

    /// Adds another permit of the same budget to this one.
    pub fn merge(&mut self, mut other: Self) {
        if self.budget.is_none() {
            self.budget.clone_from(&other.budget);
        }
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for BytePermit {
    fn drop(&mut self) {
        if self.bytes > 0
            && let Some(budget) = &self.budget
        {
            budget.0.used.fetch_sub(self.bytes, Ordering::AcqRel);
            budget.0.line.freed.notify_one();
            budget.0.reserved_line.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_room_and_serves_in_turn() {
        let budget = ByteBudget::new(10);
        let mut held = budget.acquire(8).await.expect("fits");
        assert!(budget.try_acquire(3).is_none());
        assert_eq!(ByteBudget::new(100).share(), 25);
        assert!(!held.is_contended());
        let release = async {
            tokio::task::yield_now().await;
            assert!(held.is_contended());
            assert!(budget.try_acquire(1).is_none(), "a waiter is in line");
            drop(held.split(5));
        };
        let (got, ()) = tokio::join!(budget.acquire(7), release);
        assert_eq!(got.expect("fits now").bytes(), 7);
        assert_eq!(budget.acquire(11).await.expect_err("never fits").limit, 10);
        drop(held);
        assert_eq!(budget.used(), 0);
    }

    // M2
    #[tokio::test]
    async fn the_reserve_is_not_behind_those_who_wait() {
        let budget = ByteBudget::with_reserve(10, 2);
        assert_eq!(budget.limit(), 8);
        assert!(budget.acquire(9).await.is_err(), "the reserve is no part");
        let held = budget.acquire(8).await.expect("fits");
        let mut waiting = std::pin::pin!(budget.acquire(1));
        assert!(polled_once(waiting.as_mut()).await.is_none());
        let reserved = budget.acquire_reserved(2).await.expect("the reserve");
        let mut more = std::pin::pin!(budget.acquire_reserved(3));
        assert!(polled_once(more.as_mut()).await.is_none());
        drop(reserved);
        assert!(polled_once(more.as_mut()).await.is_none(), "2 of 3");
        drop(held);
        assert_eq!(more.await.expect("fits now").bytes(), 3);
        assert_eq!(waiting.await.expect("fits now").bytes(), 1);
    }

    /// Polls a future once, and returns its output if it is ready.
    async fn polled_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match future.as_mut().poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
