//! Single flight: callers that want the same thing wait for one load of it, and all get its result together.
//!
//! A load brings one or several things with one request, and each of them is waited for, found or failed by itself. The
//! load is a task of its own and continues when its callers are dropped. A failure is kept for [`FAILED_KEPT`], so that
//! a caller that comes a little later gets it too. Results are not kept here but in the caches.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use highwater_object_storage::StorageError;
use highwater_runtime::{TaskKind, Tasks, reasons};
use tokio::sync::watch;

use crate::StreamError;

/// How long callers get the error of a failed load before the load is tried again.
pub(super) const FAILED_KEPT: Duration = Duration::from_secs(1);

/// The loads under way, by the keys of the things they bring. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Loads<K, T> {
    under_way: Arc<Mutex<UnderWay<K, T>>>,
    tasks: Tasks,
}

type UnderWay<K, T> = BTreeMap<K, Place<T>>;
/// The results of a load for its keys, in order.
pub(super) type Loaded<T> = Vec<Result<T, Arc<StreamError>>>;

/// One of the things that a load brings, by its index.
#[derive(Debug, Clone)]
pub(super) struct Place<T> {
    at: usize,
    progress: watch::Receiver<Progress<T>>,
}

/// The progress of a load.
#[derive(Debug)]
enum Progress<T> {
    Begun,
    /// The store does not answer (F4).
    Silent,
    Ended(Loaded<T>),
}

/// A thing that is cached or being loaded.
#[derive(Debug, Clone)]
pub(super) enum Load<T> {
    Found(T),
    UnderWay(Place<T>),
}

/// Tells the callers of a load that the store does not answer.
#[derive(Debug, Clone)]
pub(super) struct Teller<T>(Arc<watch::Sender<Progress<T>>>);

/// The list of loads, locked, so that no load begins or ends meanwhile.
#[derive(Debug)]
pub(super) struct HeldLoads<'a, K, T> {
    loads: &'a Loads<K, T>,
    under_way: MutexGuard<'a, UnderWay<K, T>>,
}

impl<T> Teller<T> {
    /// The store does not answer (F4).
    pub(super) fn silent(&self) {
        self.0.send_replace(Progress::Silent);
    }
}

impl<T: Clone> Load<T> {
    /// Waits until the store is known not to answer, or the load has ended; returns whether the former holds.
    /// Cancellation safe.
    pub(super) async fn is_silent(&mut self) -> bool {
        match self {
            Self::Found(_) => false,
            Self::UnderWay(place) => {
                let progress = &mut place.progress;
                let told = progress.wait_for(|progress| !matches!(progress, Progress::Begun));
                let told = told.await;
                told.is_ok_and(|progress| matches!(*progress, Progress::Silent))
            }
        }
    }

    /// Waits for the result. Cancellation safe: the load continues.
    pub(super) async fn end(self) -> Result<T, StreamError> {
        let mut place = match self {
            Self::Found(found) => return Ok(found),
            Self::UnderWay(place) => place,
        };
        let progress = &mut place.progress;
        let ended = progress.wait_for(|progress| matches!(progress, Progress::Ended(_)));
        let loaded = match ended.await.as_deref() {
            Ok(Progress::Ended(loaded)) => loaded.get(place.at).cloned(),
            Ok(Progress::Begun | Progress::Silent) | Err(_) => None,
        };
        match loaded {
            Some(loaded) => loaded.map_err(|error| same(&error)),
            None => Err(StreamError::Unavailable {
                reason: "the node stops".to_owned(),
            }),
        }
    }
}

impl<K, T> Loads<K, T>
where
    K: Ord + Copy + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    pub(super) fn new(tasks: Tasks) -> Self {
        Self {
            under_way: Arc::default(),
            tasks,
        }
    }

    /// Locks the list of loads. A load fills the cache before it leaves the list, so a thing that is neither listed nor
    /// cached has to be loaded.
    pub(super) fn hold(&self) -> HeldLoads<'_, K, T> {
        HeldLoads {
            loads: self,
            under_way: self.lock(),
        }
    }

    /// Returns the cached thing or the load of it, which is begun if there is none.
    pub(super) fn get<F>(
        &self,
        key: K,
        cached: impl FnOnce() -> Option<T>,
        load: impl FnOnce(Teller<T>) -> F,
    ) -> Load<T>
    where
        F: Future<Output = Result<T, StreamError>> + Send + 'static,
    {
        let mut held = self.hold();
        if let Some(found) = held.find(&key, cached) {
            return found;
        }
        let load = |teller| {
            let load = load(teller);
            async move { vec![load.await.map_err(Arc::new)] }
        };
        let place = held.begin(vec![key], load).into_iter().next();
        Load::UnderWay(place.expect("one key has one place"))
    }

    fn spawn(
        &self,
        keys: Vec<K>,
        load: impl Future<Output = Loaded<T>> + Send + 'static,
        teller: Teller<T>,
    ) {
        let loads = self.clone();
        self.tasks.spawn(TaskKind::ColdRead, async move {
            let loaded = load.await;
            let (mut found, mut failed) = (Vec::new(), Vec::new());
            for (key, result) in keys.into_iter().zip(&loaded) {
                match result {
                    Ok(_) => found.push(key),
                    Err(_) => failed.push(key),
                }
            }
            loads.forget(&found);
            teller.0.send_replace(Progress::Ended(loaded));
            if !failed.is_empty() {
                tokio::time::sleep(FAILED_KEPT).await;
                loads.forget(&failed);
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay<K, T>> {
        let under_way = self.under_way.lock();
        under_way.unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, keys: &[K]) {
        let mut under_way = self.lock();
        for key in keys {
            under_way.remove(key);
        }
    }
}

impl<K, T> HeldLoads<'_, K, T>
where
    K: Ord + Copy + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Returns the cached thing or the load of it, if there is one.
    pub(super) fn find(&self, key: &K, cached: impl FnOnce() -> Option<T>) -> Option<Load<T>> {
        let under_way = self.under_way.get(key).cloned();
        under_way
            .map(Load::UnderWay)
            .or_else(|| cached().map(Load::Found))
    }

    /// Begins one load for several keys, none of which is being loaded; returns a load for each.
    pub(super) fn begin<F>(
        &mut self,
        keys: Vec<K>,
        load: impl FnOnce(Teller<T>) -> F,
    ) -> Vec<Place<T>>
    where
        F: Future<Output = Loaded<T>> + Send + 'static,
    {
        let (sender, progress) = watch::channel(Progress::Begun);
        let place = |(at, key): (usize, &K)| {
            let progress = progress.clone();
            let place = Place { at, progress };
            self.under_way.insert(*key, place.clone());
            place
        };
        let places = keys.iter().enumerate().map(place).collect();
        let teller = Teller(Arc::new(sender));
        self.loads.spawn(keys, load(teller.clone()), teller);
        places
    }
}

/// Copies an error for another caller that waited.
fn same(error: &StreamError) -> StreamError {
    match error {
        StreamError::Damaged { key, reason } => StreamError::Damaged {
            key: key.clone(),
            reason: reason.clone(),
        },
        StreamError::Storage(StorageError::NotFound { key }) => {
            StreamError::Storage(StorageError::NotFound { key: key.clone() })
        }
        StreamError::Unavailable { reason } => StreamError::Unavailable {
            reason: reason.clone(),
        },
        other => StreamError::Unavailable {
            reason: reasons(other),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn away() -> StreamError {
        StreamError::Unavailable {
            reason: "away".to_owned(),
        }
    }

    // I11: the cache bounds the memory of what was found, and the list would not
    #[tokio::test(start_paused = true)]
    async fn the_list_keeps_nothing_but_loads_under_way_and_fresh_failures() {
        let loads = Loads::<u8, u8>::new(Tasks::default());
        let found = loads.get(1, || None, |_| async { Ok(7) });
        assert_eq!(loads.lock().len(), 1);
        assert_eq!(found.end().await.expect("is found"), 7);
        assert_eq!(loads.lock().len(), 0);
        let failed = loads.get(1, || None, |_| async { Err(away()) });
        failed.end().await.expect_err("fails");
        assert_eq!(loads.lock().len(), 1);
        tokio::time::sleep(2 * FAILED_KEPT).await;
        assert_eq!(loads.lock().len(), 0);
    }

    // F4
    #[tokio::test(start_paused = true)]
    async fn the_callers_of_a_load_learn_that_the_store_does_not_answer() {
        let loads = Loads::<u8, u8>::new(Tasks::default());
        let load = |teller: Teller<u8>| async move {
            teller.silent();
            pending().await
        };
        let mut first = loads.get(1, || None, load);
        let mut second = loads.get(1, || None, |_| pending());
        assert!(first.is_silent().await && second.is_silent().await);
        let mut answered = loads.get(2, || None, |_| async { Ok(7) });
        assert!(!answered.is_silent().await);
        assert!(!loads.get(3, || Some(7), |_| pending()).is_silent().await);
    }
}
