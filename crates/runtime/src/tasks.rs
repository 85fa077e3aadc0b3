//! Spawning, stopping and joining of background tasks.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::{TaskKind, catch_panic};

/// The tasks of a process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    running: Mutex<Vec<(TaskKind, JoinSet<()>)>>,
    stop: watch::Sender<bool>,
    failed: watch::Sender<Option<(TaskKind, String)>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self(Arc::new(Inner {
            running: Mutex::default(),
            stop: watch::Sender::new(false),
            failed: watch::Sender::new(None),
        }))
    }
}

impl Tasks {
    /// Runs `body` on the current runtime until it ends or [`Tasks::stop`] aborts it.
    ///
    /// A panic of the body is reported by [`Tasks::failed`], and so is its end before [`Tasks::stop`] where its kind runs
    /// until then: the process ends rather than going on without the task. What a task logs stands in its span `task`.
    pub fn spawn(&self, kind: TaskKind, body: impl Future<Output = ()> + Send + 'static) {
        let (failed, stop) = (self.0.failed.clone(), self.0.stop.clone());
        let body = async move {
            let how = match catch_panic(body).await {
                Err(why) => format!("panicked: {why}"),
                Ok(()) if kind.runs_until_stopped() && !*stop.borrow() => "returned".to_owned(),
                Ok(()) => return,
            };
            failed.send_if_modified(|failed| {
                let first = failed.is_none();
                failed.get_or_insert((kind, how));
                first
            });
        };
        // no child of what spawns it, which may end earlier
        let body = body.instrument(tracing::debug_span!(parent: None, "task", task = ?kind));
        let mut running = self
            .0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, set)) = running.iter_mut().find(|(of, _)| *of == kind) {
            while set.try_join_next().is_some() {}
            set.spawn(body);
        } else {
            let mut set = JoinSet::new();
            set.spawn(body);
            running.push((kind, set));
        }
    }

    /// Resolves when [`Tasks::stop`] is called; for tasks that end by themselves.
    pub async fn stopping(&self) {
        let mut stop = self.0.stop.subscribe();
        // an error means that the sender is gone, which is a stop too
        if stop.wait_for(|stop| *stop).await.is_err() {
            tracing::debug!("tasks are gone");
        }
    }

    /// Resolves with the kind of the first task that failed, and how: it panicked and said so and so, or it returned.
    pub async fn failed(&self) -> (TaskKind, String) {
        let mut failed = self.0.failed.subscribe();
        loop {
            if let Some(first) = failed.borrow_and_update().clone() {
                return first;
            }
            if failed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Tells every task to stop, then aborts and joins them kind by kind, in the order of [`TaskKind`].
    pub async fn stop(&self) {
        self.0.stop.send_replace(true);
        let mut running = std::mem::take(
            &mut *self
                .0
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        running.sort_by_key(|(kind, _)| *kind);
        for (_, mut set) in running {
            set.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicking_task_is_reported() {
        let tasks = Tasks::default();
        tasks.spawn(TaskKind::Upload, async { assert_eq!(1, 2, "on purpose") });
        let (kind, why) = tasks.failed().await;
        assert_eq!(kind, TaskKind::Upload);
        assert!(
            why.starts_with("panicked: ") && why.contains("on purpose"),
            "{why}"
        );
        tasks.stop().await;
    }

    #[tokio::test]
    async fn a_task_that_returns_is_reported_where_the_node_needs_it_until_it_stops() {
        let tasks = Tasks::default();
        tasks.spawn(TaskKind::Connection, async {});
        tasks.spawn(TaskKind::PartitionOpener, async {});
        let failed = tasks.failed().await;
        assert_eq!(failed, (TaskKind::PartitionOpener, "returned".to_owned()));
        // one that returns because it is told to stop has done what it is for
        let tasks = Tasks::default();
        let (told, has_returned) = (tasks.clone(), Arc::new(tokio::sync::Notify::new()));
        let returned = Arc::clone(&has_returned);
        tasks.spawn(TaskKind::Upload, async move {
            told.stopping().await;
            returned.notify_one();
        });
        tasks.0.stop.send_replace(true);
        has_returned.notified().await;
        assert_eq!(*tasks.0.failed.borrow(), None);
    }
}
