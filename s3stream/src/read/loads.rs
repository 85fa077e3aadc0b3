//! What is being loaded, and what failed a moment ago: callers that want the same wait for the one load of it, and all are
//! told together what it came to. A load is a task of its own: it goes on when its caller gives up. A failure is kept for
//! [`FAILED_KEPT`], so that a caller that comes a little later is told too.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_runtime::{TaskKind, Tasks};
use tokio::sync::watch;

use super::{FAILED_KEPT, same};
use crate::StreamError;

/// Loads by what they load. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Loads<K, T> {
    under_way: Arc<Mutex<BTreeMap<K, watch::Receiver<Progress<T>>>>>,
    tasks: Tasks,
}

/// How far a load is.
#[derive(Debug, Clone)]
pub(super) enum Progress<T> {
    Begun,
    /// The store does not answer (F4).
    Silent,
    Ended(Result<T, Arc<StreamError>>),
}

/// One that is at hand or under way.
#[derive(Debug)]
pub(super) enum Load<T> {
    Found(T),
    UnderWay(watch::Receiver<Progress<T>>),
}

/// What a load tells of itself before it ends.
#[derive(Debug)]
pub(super) struct Teller<T>(Arc<watch::Sender<Progress<T>>>);

impl<T> Clone for Teller<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Teller<T> {
    /// The store does not answer (F4).
    pub(super) fn silent(&self) {
        self.0.send_replace(Progress::Silent);
    }
}

impl<T: Clone> Load<T> {
    /// Whether the store does not answer: as soon as that is known, or the load has ended. Cancellation safe.
    pub(super) async fn is_silent(&mut self) -> bool {
        match self {
            Self::Found(_) => false,
            Self::UnderWay(load) => {
                let told = load.wait_for(|progress| !matches!(progress, Progress::Begun));
                let told = told.await;
                told.is_ok_and(|progress| matches!(*progress, Progress::Silent))
            }
        }
    }

    /// What it came to. Cancellation safe: the load goes on.
    pub(super) async fn end(self) -> Result<T, StreamError> {
        let mut load = match self {
            Self::Found(found) => return Ok(found),
            Self::UnderWay(load) => load,
        };
        let ended = load.wait_for(|progress| matches!(progress, Progress::Ended(_)));
        match ended.await.as_deref() {
            Ok(Progress::Ended(Ok(found))) => Ok(found.clone()),
            Ok(Progress::Ended(Err(error))) => Err(same(error)),
            Ok(Progress::Begun | Progress::Silent) | Err(_) => Err(StreamError::Unavailable {
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

    /// What is kept, or the load of it, begun where need be: what it finds is kept before anybody is told.
    pub(super) fn get<F>(
        &self,
        key: K,
        kept: impl FnOnce() -> Option<T>,
        load: impl FnOnce(Teller<T>) -> F,
    ) -> Load<T>
    where
        F: Future<Output = Result<T, StreamError>> + Send + 'static,
    {
        let mut under_way = self.lock();
        if let Some(found) = kept() {
            return Load::Found(found);
        }
        let begun = under_way.entry(key).or_insert_with(|| {
            let (sender, begun) = watch::channel(Progress::Begun);
            let tell = Teller(Arc::new(sender));
            self.spawn(key, load(tell.clone()), tell);
            begun
        });
        Load::UnderWay(begun.clone())
    }

    fn spawn(
        &self,
        key: K,
        load: impl Future<Output = Result<T, StreamError>> + Send + 'static,
        tell: Teller<T>,
    ) {
        let loads = self.clone();
        self.tasks.spawn(TaskKind::ColdRead, async move {
            match load.await {
                Ok(found) => {
                    loads.forget(key);
                    tell.0.send_replace(Progress::Ended(Ok(found)));
                }
                Err(error) => {
                    tell.0.send_replace(Progress::Ended(Err(Arc::new(error))));
                    tokio::time::sleep(FAILED_KEPT).await;
                    loads.forget(key);
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, watch::Receiver<Progress<T>>>> {
        let under_way = self.under_way.lock();
        under_way.unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, key: K) {
        self.lock().remove(&key);
    }
}
