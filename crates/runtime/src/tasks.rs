//! Spawning, stopping and joining of background tasks.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::{AfterReturn, Control, TaskKind, catch_panic};

/// The tasks of a process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks {
    all: Arc<Inner>,
    /// The runtime that this value spawns on.
    on: Control,
}

#[derive(Debug)]
struct Inner {
    control: Control,
    running: Mutex<Vec<(TaskKind, JoinSet<()>)>>,
    stop: watch::Sender<bool>,
    failed: watch::Sender<Option<(TaskKind, String)>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new(Control::default())
    }
}

impl Tasks {
    /// No tasks yet, and the runtime of those that must not wait for requests.
    #[must_use]
    pub fn new(control: Control) -> Self {
        let on = control.of_requests();
        let all = Inner {
            control,
            running: Mutex::default(),
            stop: watch::Sender::new(false),
            failed: watch::Sender::new(None),
        };
        Self {
            all: Arc::new(all),
            on,
        }
    }

    /// The runtime of the tasks that must not wait for requests.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.all.control
    }

    /// The same tasks, for what spawns those that must not wait for requests: they run on [`Tasks::control`].
    #[must_use]
    pub fn on_control(&self) -> Self {
        Self {
            all: Arc::clone(&self.all),
            on: self.all.control.clone(),
        }
    }

    /// Runs `body` on the current runtime, or on that of the control work, until it ends or [`Tasks::stop`] aborts it.
    ///
    /// [`Tasks::failed`] reports a panic of the body. It also reports a body that returns before [`Tasks::stop`] when
    /// the node can't do without its kind ([`TaskKind::after_return`]): the process ends rather than going on without
    /// the task. The events that a task logs lie in its span `task`.
    pub fn spawn(&self, kind: TaskKind, body: impl Future<Output = ()> + Send + 'static) {
        let (failed, stop) = (self.all.failed.clone(), self.all.stop.clone());
        let body = async move {
            let how = match catch_panic(body).await {
                Err(why) => format!("panicked: {why}"),
                Ok(()) => match kind.after_return() {
                    AfterReturn::NodeEnds if !*stop.borrow() => "returned".to_owned(),
                    AfterReturn::NodeEnds | AfterReturn::NodeGoesOn => return,
                },
            };
            failed.send_if_modified(|failed| {
                let first = failed.is_none();
                failed.get_or_insert((kind, how));
                first
            });
        };
        // The span is no child of the spawner's, which may end earlier.
        let body = body.instrument(tracing::debug_span!(parent: None, "task", task = ?kind));
        let mut running = self.running();
        if let Some((_, set)) = running.iter_mut().find(|(of, _)| *of == kind) {
            while set.try_join_next().is_some() {}
            self.on.spawn_in(set, body);
        } else {
            let mut set = JoinSet::new();
            self.on.spawn_in(&mut set, body);
            running.push((kind, set));
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<(TaskKind, JoinSet<()>)>> {
        self.all
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when [`Tasks::stop`] is called. It is for tasks that end by themselves.
    pub async fn stopping(&self) {
        let mut stop = self.all.stop.subscribe();
        // An error means that the sender is gone, which is a stop too.
        if stop.wait_for(|stop| *stop).await.is_err() {
            tracing::debug!("the tasks were dropped before they were stopped");
        }
    }

    /// Waits until a task fails. Returns the kind of the first one that failed, and its panic message or that it
    /// returned.
    pub async fn failed(&self) -> (TaskKind, String) {
        let mut failed = self.all.failed.subscribe();
        loop {
            if let Some(first) = failed.borrow_and_update().clone() {
                return first;
            }
            if failed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Tells every task to stop, then aborts and joins the tasks kind by kind, in the order of [`TaskKind`].
    pub async fn stop(&self) {
        self.all.stop.send_replace(true);
        let mut running = std::mem::take(&mut *self.running());
        running.sort_by_key(|(kind, _)| *kind);
        for (_, mut set) in running {
            set.shutdown().await;
        }
    }

    /// Aborts every task and does not wait for its end, as when the process dies.
    pub fn abort(&self) {
        self.all.stop.send_replace(true);
        drop(std::mem::take(&mut *self.running()));
    }

    /// Stops the tasks of the kinds before one. The others go on until [`Tasks::stop`].
    pub async fn stop_before(&self, first_kept: TaskKind) {
        self.all.stop.send_replace(true);
        let stopped = {
            let mut running = self.running();
            running.sort_by_key(|(kind, _)| *kind);
            let kept = running.partition_point(|(kind, _)| *kind < first_kept);
            let kept = running.split_off(kept);
            std::mem::replace(&mut *running, kept)
        };
        for (_, mut set) in stopped {
            set.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

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
    async fn aborted_tasks_end_although_they_hold_the_others() {
        let tasks = Tasks::default();
        let (alive, mut seen) = watch::channel(());
        let holds = tasks.clone();
        tasks.spawn(TaskKind::Listener, async move {
            std::future::pending::<()>().await;
            drop((alive, holds));
        });
        tasks.abort();
        seen.changed().await.expect_err("its sender is dropped");
    }

    #[tokio::test]
    async fn the_kinds_before_one_stop_and_the_others_go_on() {
        let tasks = Tasks::default();
        let (alive, seen) = watch::channel(());
        let (late, last_seen) = watch::channel(());
        let hold = |alive: watch::Sender<()>| async move {
            std::future::pending::<()>().await;
            drop(alive);
        };
        tasks.spawn(TaskKind::WalWriter, hold(late));
        tasks.spawn(TaskKind::Upload, hold(alive));
        tasks.stop_before(TaskKind::WalWriter).await;
        assert!(seen.has_changed().is_err(), "its sender is dropped");
        assert!(last_seen.has_changed().is_ok(), "it goes on");
        tasks.stop().await;
        assert!(last_seen.has_changed().is_err());
    }

    /// Kinds whose return is reported when a task of each of `kinds` returns alone.
    async fn reported(kinds: &[TaskKind]) -> Vec<TaskKind> {
        let mut reported = Vec::new();
        for kind in kinds {
            let tasks = Tasks::default();
            tasks.spawn(*kind, async {});
            let (_, mut running) = tasks.running().pop().expect("was spawned");
            running.join_next().await.expect("runs").expect("returns");
            reported.extend(tasks.failed().now_or_never().map(|(failed, how)| {
                assert_eq!(how, "returned");
                failed
            }));
        }
        reported
    }

    #[tokio::test]
    async fn a_task_that_returns_ends_the_node_when_its_kind_must_run_as_long_as_the_node() {
        let must_run = [
            TaskKind::Listener,
            TaskKind::AdminHttp,
            TaskKind::Housekeeping,
            TaskKind::CoordinatorOpener,
            TaskKind::PartitionOpener,
            TaskKind::Upload,
            TaskKind::Reaper,
        ];
        assert_eq!(reported(&must_run).await, must_run);
        let may_end = [
            TaskKind::Connection,
            TaskKind::Coordinator,
            TaskKind::ColdRead,
            TaskKind::Readahead,
            TaskKind::Credentials,
        ];
        assert_eq!(reported(&may_end).await, []);
    }

    #[tokio::test]
    async fn a_task_that_returns_because_it_is_told_to_stop_is_not_reported() {
        let tasks = Tasks::default();
        let told = tasks.clone();
        tasks.spawn(TaskKind::Upload, async move { told.stopping().await });
        tasks.all.stop.send_replace(true);
        let (_, mut running) = tasks.running().pop().expect("was spawned");
        running.join_next().await.expect("runs").expect("returns");
        assert_eq!(tasks.failed().now_or_never(), None);
    }
}
