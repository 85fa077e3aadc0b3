//! The budgets of requests by kind (M2).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use highwater_runtime::{ByteBudget, BytePermit};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::{MemoryPlan, for_small};

/// The approximate bytes of an answer for each element of its request, while it is made: a structure, and its bytes on
/// the wire.
pub(crate) const ELEMENT_BYTES: u64 = 256;

/// The budget from which the frames of an API take their memory (M2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FrameBudget {
    /// The budget of records from producers.
    Produce,
    /// The budget of all other requests.
    #[default]
    Other,
}

/// The budgets of frames and answers. They are separate, so that a stalled store stops produce and nothing else.
#[derive(Debug, Clone)]
pub(crate) struct RequestBudgets {
    produce: BySize,
    other: BySize,
    /// Answers to all APIs but Fetch and Produce (M3).
    pub answers: BySize,
    /// The most elements in the lists of one request; an answer of that many is four times the budget of answers (M3).
    pub elements_max: usize,
    /// Records from the log cache in fetch answers that are being written.
    pub fetch: ByteBudget,
    /// Records from objects in fetch answers. The budget is separate, so that a replay does not delay the tail.
    pub fetch_cold: ByteBudget,
    /// Records in fetch answers of connections that have not shown yet that they take an answer promptly, or no longer
    /// do. They delay only each other.
    pub fetch_slow: BySize,
    /// State that requests keep while they wait for others.
    pub waits: Waits,
    /// Buffers for decompressing and recompressing batches.
    pub decompression: ByteBudget,
}

impl RequestBudgets {
    /// The budgets of a memory plan.
    #[must_use]
    pub(crate) fn new(plan: &MemoryPlan) -> Self {
        Self {
            produce: BySize::new(plan.produce),
            other: BySize::new(plan.other),
            answers: BySize::new(plan.answers),
            elements_max: usize::try_from(plan.answers * 4 / ELEMENT_BYTES).unwrap_or(usize::MAX),
            fetch: ByteBudget::new(plan.fetch),
            fetch_cold: ByteBudget::new(plan.fetch_cold),
            fetch_slow: BySize::new(plan.fetch_slow),
            waits: Waits::new(plan.waits),
            decompression: ByteBudget::new(plan.decompression),
        }
    }

    /// The budgets of a controller's listeners, which serve nodes alone. They take the largest call whatever the memory
    /// limit is, and clients can't use them up.
    #[must_use]
    pub(crate) fn of_controller(frame_bytes_max: usize) -> Self {
        let frame = frame_bytes_max as u64;
        let other = frame + for_small(frame * 4);
        Self {
            other: BySize::new(other),
            ..Self::new(&MemoryPlan::default())
        }
    }

    /// The bytes held and the limit of each budget, by name.
    #[must_use]
    pub(crate) fn held(&self) -> [(&'static str, u64, u64); 12] {
        [
            ("produce", &self.produce.large),
            ("produce_small", &self.produce.small),
            ("other", &self.other.large),
            ("other_small", &self.other.small),
            ("answers", &self.answers.large),
            ("answers_small", &self.answers.small),
            ("fetch", &self.fetch),
            ("fetch_cold", &self.fetch_cold),
            ("fetch_slow", &self.fetch_slow.large),
            ("fetch_slow_small", &self.fetch_slow.small),
            ("waits", &self.waits.budget),
            ("decompression", &self.decompression),
        ]
        .map(|(name, budget)| (name, budget.used(), budget.limit()))
    }

    /// The budget of a frame of this many bytes.
    #[must_use]
    pub(crate) fn of(&self, budget: FrameBudget, bytes: usize) -> &ByteBudget {
        let by_size = match budget {
            FrameBudget::Produce => &self.produce,
            FrameBudget::Other => &self.other,
        };
        by_size.of(bytes)
    }
}

/// The budgets of one kind. Small frames and answers have memory for themselves, so large frames that stop halfway, and
/// large answers that are taken slowly, delay only each other.
#[derive(Debug, Clone)]
pub(crate) struct BySize {
    small: ByteBudget,
    large: ByteBudget,
}

const SMALL_BYTES: usize = 64 << 10;

impl BySize {
    fn new(bytes: u64) -> Self {
        Self {
            small: ByteBudget::new(for_small(bytes)),
            large: ByteBudget::new(bytes - for_small(bytes)),
        }
    }

    /// The budget for this many bytes.
    #[must_use]
    pub(crate) fn of(&self, bytes: usize) -> &ByteBudget {
        match bytes <= SMALL_BYTES {
            true => &self.small,
            false => &self.large,
        }
    }
}

/// The memory of the frame in which a request came. It is given back when the request is served. A handler that keeps
/// nothing of the frame and waits for others gives it back sooner (M2). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct FrameMemory(Arc<Mutex<BytePermit>>);

impl FrameMemory {
    /// The memory of a permit.
    #[must_use]
    pub(crate) fn new(permit: BytePermit) -> Self {
        Self(Arc::new(Mutex::new(permit)))
    }

    /// Gives the memory back, even if there are other clones.
    pub(crate) fn give_back(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(std::mem::replace(&mut *held, BytePermit::empty()));
    }
}

/// The bytes that a waiting request may keep without being counted; they are within the memory of any connection (I11).
const UNCOUNTED_BYTES: u64 = 1 << 10;
/// How long a waiting request may keep its memory while others find none: the default of consumers'
/// `fetch.max.wait.ms`.
pub(crate) const GIVES_WAY_AFTER: Duration = Duration::from_millis(500);

/// The memory of requests that wait for others, in proportion to what they ask for; no frame is held for so long. A
/// request that finds no room does not wait in line, which would take memory too, but is told to come again. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub(crate) struct Waits {
    budget: ByteBudget,
    refused: Arc<Notify>,
}

/// One request's share of [`Waits`]; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Wait {
    permit: BytePermit,
    since: Instant,
    refused: Arc<Notify>,
}

impl Waits {
    fn new(bytes: u64) -> Self {
        Self {
            budget: ByteBudget::new(bytes),
            refused: Arc::default(),
        }
    }

    /// Takes room for a wait that keeps about this many bytes; `None` if there is none, and then older waits end.
    #[must_use]
    pub(crate) fn enter(&self, bytes: u64) -> Option<Wait> {
        let permit = match bytes <= UNCOUNTED_BYTES {
            true => Some(BytePermit::empty()),
            false => self.budget.try_acquire(bytes),
        };
        if permit.is_none() && bytes <= self.budget.limit() {
            self.refused.notify_waiters();
        }
        Some(Wait {
            permit: permit?,
            since: Instant::now(),
            refused: Arc::clone(&self.refused),
        })
    }
}

impl Wait {
    /// Resolves when the wait must end, because it has lasted for a while and another request finds no room.
    /// Cancellation safe.
    pub(crate) async fn gives_way(&self) {
        if self.permit.bytes() == 0 {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(self.since + GIVES_WAY_AFTER).await;
        self.refused.notified().await;
    }
}

/// The most that one fetch's answer may hold of a budget, so that a few slow clients cannot hold all of it. The first
/// batch is always whole.
pub(crate) fn share_of(budget: &ByteBudget) -> usize {
    const LEAST_BYTES: u64 = 64 << 10;
    usize::try_from(budget.share().max(LEAST_BYTES)).unwrap_or(usize::MAX)
}

/// Gives back the unused part of a permit.
pub(crate) fn give_back(permit: &mut BytePermit, used: usize) {
    let used = u64::try_from(used).unwrap_or(u64::MAX);
    drop(permit.split(permit.bytes().saturating_sub(used)));
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    // I11, M2
    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_to_wait_makes_others_give_way_after_a_while() {
        let waits = Waits::new(10_000);
        let small = waits.enter(UNCOUNTED_BYTES).expect("is not counted");
        let large = waits.enter(8000).expect("fits");
        let mut small = std::pin::pin!(small.gives_way());
        let mut large = Box::pin(async move { large.gives_way().await });
        assert!(waits.enter(4000).is_none());
        assert!((&mut large).now_or_never().is_none(), "it has only begun");
        tokio::time::advance(GIVES_WAY_AFTER).await;
        assert!((&mut large).now_or_never().is_none(), "nobody was refused");
        assert!(waits.enter(20_000).is_none());
        let never = (&mut large).now_or_never();
        assert!(never.is_none(), "what can never fit moves nobody");
        assert!(waits.enter(4000).is_none());
        large.await;
        assert!(waits.enter(10_000).is_some());
        assert!((&mut small).now_or_never().is_none());
    }

    // M2
    #[test]
    fn the_memory_of_a_frame_is_given_back_once() {
        let budget = ByteBudget::new(10);
        let frame = FrameMemory::new(budget.force(4));
        let other = frame.clone();
        other.give_back();
        assert_eq!(budget.used(), 0);
        frame.give_back();
        assert_eq!(budget.used(), 0);
    }
}
