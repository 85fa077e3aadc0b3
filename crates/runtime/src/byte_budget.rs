//! Weighted permits: the only way to hold request or cache memory (I11).

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
    /// Bytes that every holder may take from.
    limit: u64,
    /// Bytes beyond them, for [`ByteBudget::acquire_reserved`] alone.
    reserve: u64,
    used: AtomicU64,
    line: Line,
    reserved_line: Line,
}

/// The waiters, one behind the other.
#[derive(Debug, Default)]
struct Line {
    turn: tokio::sync::Mutex<()>,
    freed: Notify,
}

/// Bytes held of a [`ByteBudget`]; dropping it gives them back.
#[derive(Debug)]
#[must_use]
pub struct BytePermit {
    budget: Option<ByteBudget>,
    bytes: u64,
}

/// What was asked for exceeds the whole budget: it can never fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// Bytes asked for.
    pub bytes: u64,
    /// Bytes there are.
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
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self::with_reserve(limit, 0)
    }

    /// A budget of `bytes`, of which `reserve` are for [`ByteBudget::acquire_reserved`] alone.
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

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Acquire)
    }

    /// Bytes there are, without a reserve.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// What one holder may take of it while it lasts: a quarter of what is free, so that no few holders have it all.
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
    /// [`TooLarge`] at once when the whole budget is smaller.
    pub async fn acquire(&self, bytes: u64) -> Result<BytePermit, TooLarge> {
        self.wait(bytes, self.0.limit, &self.0.line).await
    }

    /// As [`ByteBudget::acquire`], out of the reserve too and in a line of its own. Cancellation safe.
    ///
    /// # Errors
    /// [`TooLarge`] at once when the whole budget is smaller.
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

    /// Takes `bytes` even past the limit: for what must be remembered whatever it costs (recovery, what a
    /// coordinator has decided already).
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
    /// A permit over nothing.
    pub const fn empty() -> Self {
        Self {
            budget: None,
            bytes: 0,
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a waiter is in line for the budget that this is part of.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        self.budget
            .as_ref()
            .is_some_and(|budget| self.bytes > 0 && budget.0.line.turn.try_lock().is_err())
    }

    /// Takes a part out of this permit.
    ///
    /// # Panics
    /// When it holds less than `bytes`.
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

    /// What a future has now, polled once.
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
