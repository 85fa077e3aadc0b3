//! Bounds the number of requests under way, and lets more urgent ones go first. Cold reads are bounded in `s3stream`,
//! which makes them: there a read that hangs holds up no other read (F4).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::oneshot;

use crate::{IoClass, ObjectEntry, ObjectKey, ObjectStorage, ObjectVersion, PutMode, StorageError};

/// The largest number of requests under way.
const REQUESTS_MAX: usize = 96;
/// The largest number for each class, in the order of [`IoClass`]. Only the WAL may use all slots, and cold reads use
/// none. A start, or the sealer of a dead broker's log, makes many small reads while clients wait for its end.
const CLASS_MAX: [usize; CLASSES] = [REQUESTS_MAX, 32, 0, 8, 48];
const CLASSES: usize = 5;

/// A store whose requests wait for a slot. A free slot goes to the most urgent class that waits, and within the class
/// to the request that has waited longest.
#[derive(Debug)]
pub struct Limited {
    inner: Arc<dyn ObjectStorage>,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate(Mutex<Slots>);

#[derive(Debug)]
struct Slots {
    free: usize,
    taken: [usize; CLASSES],
    /// Waiting requests; their number is bounded by the number of callers.
    waiting: [VecDeque<oneshot::Sender<Slot>>; CLASSES],
}

/// The right to make one request, given back when dropped.
#[derive(Debug)]
struct Slot {
    gate: Option<Arc<Gate>>,
    class: usize,
}

impl Gate {
    fn new(requests_max: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Slots {
            free: requests_max,
            taken: [0; CLASSES],
            waiting: Default::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot if the class takes one. Cancellation safe.
    async fn enter(self: &Arc<Self>, class: IoClass) -> Option<Slot> {
        if class == IoClass::ColdRead {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        {
            let mut slots = self.lock();
            slots.waiting[class as usize].push_back(sender);
            self.give(&mut slots);
        }
        receiver.await.ok()
    }

    /// Gives free slots to waiting requests.
    fn give(self: &Arc<Self>, slots: &mut Slots) {
        for (class, class_max) in CLASS_MAX.into_iter().enumerate() {
            while slots.free > 0 && slots.taken[class] < class_max {
                let Some(next) = slots.waiting[class].pop_front() else {
                    break;
                };
                let slot = Slot {
                    gate: Some(Arc::clone(self)),
                    class,
                };
                match next.send(slot) {
                    Ok(()) => {
                        slots.free -= 1;
                        slots.taken[class] += 1;
                    }
                    // the caller was dropped while it waited, and holds no slot
                    Err(mut slot) => slot.gate = None,
                }
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        let mut slots = gate.lock();
        slots.free += 1;
        slots.taken[self.class] -= 1;
        gate.give(&mut slots);
    }
}

impl Limited {
    /// Limits the requests to `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStorage>) -> Self {
        Self {
            inner,
            gate: Gate::new(REQUESTS_MAX),
        }
    }
}

#[async_trait]
impl ObjectStorage for Limited {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Vec<Bytes>,
        mode: PutMode,
        class: IoClass,
    ) -> Result<ObjectVersion, StorageError> {
        let _slot = self.gate.enter(class).await;
        self.inner.put(key, body, mode, class).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        class: IoClass,
    ) -> Result<Bytes, StorageError> {
        let _slot = self.gate.enter(class).await;
        self.inner.get(key, range, class).await
    }

    async fn get_suffix(
        &self,
        key: &ObjectKey,
        bytes: u64,
        class: IoClass,
    ) -> Result<(Bytes, u64), StorageError> {
        let _slot = self.gate.enter(class).await;
        self.inner.get_suffix(key, bytes, class).await
    }

    fn list(
        &self,
        prefix: &ObjectKey,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectEntry, StorageError>> {
        let inner = self.inner.list(prefix, after);
        let gate = Arc::clone(&self.gate);
        stream::once(async move {
            let slot = gate.enter(IoClass::Compaction).await;
            inner.inspect(move |_| {
                // the slot is held until the listing ends
                let _held = &slot;
            })
        })
        .flatten()
        .boxed()
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        let _slot = self.gate.enter(IoClass::Compaction).await;
        self.inner.delete(keys).await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_free_slot_goes_to_the_most_urgent_class_that_waits() {
        let gate = Gate::new(1);
        let held = gate.enter(IoClass::Compaction).await;
        let mut waiting: Vec<_> = [
            IoClass::Compaction,
            IoClass::Start,
            IoClass::Wal,
            IoClass::Upload,
        ]
        .map(|class| (class, gate.enter(class).boxed()))
        .into();
        // each request enters the queue in turn
        for (_, entering) in &mut waiting {
            assert!(entering.now_or_never().is_none());
        }
        drop(held);
        let mut order = Vec::new();
        while !waiting.is_empty() {
            let at = waiting.iter_mut().position(|(_, entering)| {
                entering.now_or_never().is_some_and(|slot| slot.is_some())
            });
            let (class, _) = waiting.remove(at.expect("the slot given back is taken"));
            order.push(class);
        }
        let urgent = [
            IoClass::Wal,
            IoClass::Upload,
            IoClass::Compaction,
            IoClass::Start,
        ];
        assert_eq!(order, urgent);
    }

    #[tokio::test]
    async fn a_class_has_no_more_than_its_share_and_the_wal_has_the_rest() {
        let gate = Gate::new(REQUESTS_MAX);
        let mut held = Vec::new();
        for _ in 0..CLASS_MAX[3] {
            held.push(gate.enter(IoClass::Compaction).now_or_never());
        }
        assert!(held.iter().all(Option::is_some));
        assert!(gate.enter(IoClass::Compaction).now_or_never().is_none());
        for _ in CLASS_MAX[3]..REQUESTS_MAX {
            held.push(gate.enter(IoClass::Wal).now_or_never());
        }
        assert!(held.iter().all(Option::is_some));
        assert!(gate.enter(IoClass::Wal).now_or_never().is_none());
        let read = gate.enter(IoClass::ColdRead).now_or_never();
        assert!(read.expect("it doesn't wait").is_none(), "it takes none");
        // a dropped waiter holds no slot
        drop(held);
        assert_eq!(gate.lock().free, REQUESTS_MAX);
    }
}
