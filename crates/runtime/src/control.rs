//! A runtime beside that of the requests, for work that must not wait for them.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

use crate::Standstill;

/// Owns the runtime on which a node elects controllers, exchanges heartbeats and follows the metadata. Cheap to clone.
/// The runtime and all its tasks end with the last clone, which may be dropped anywhere, in async code too.
#[derive(Debug, Clone)]
pub struct ControlRuntime(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Own(Arc<Own>),
    Shared(Option<Standstill>),
}

#[derive(Debug, Default)]
struct Own(Mutex<Option<Runtime>>);

impl Drop for Own {
    fn drop(&mut self) {
        let own = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = own.take() {
            runtime.shutdown_background();
        }
    }
}

impl ControlRuntime {
    /// A runtime with one thread of its own, which starts when it is needed first.
    #[must_use]
    pub fn own() -> Self {
        Self(Kind::Own(Arc::default()))
    }

    /// The runtime of the requests: for a machine that has one thread in all, such as a simulated one.
    #[must_use]
    pub fn shared() -> Self {
        Self(Kind::Shared(None))
    }

    /// The same for a simulated machine that can stand still: so do all tasks of its [`crate::Tasks`], and what is run by
    /// [`Control::run`] in any other task.
    #[must_use]
    pub fn shared_with(standstill: &Standstill) -> Self {
        Self(Kind::Shared(Some(standstill.clone())))
    }

    /// The way to the runtime, which it does not keep alive.
    ///
    /// # Errors
    /// The operating system gives the runtime no thread, or nothing to wait for sockets with.
    pub fn start(&self) -> io::Result<Control> {
        let own = match &self.0 {
            Kind::Own(own) => own,
            Kind::Shared(standstill) => {
                return Ok(Control {
                    handle: None,
                    standstill: standstill.clone(),
                });
            }
        };
        let mut runtime = own.0.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = match &mut *runtime {
            Some(runtime) => runtime,
            none => none.insert(
                Builder::new_multi_thread()
                    .worker_threads(1)
                    .thread_name("highwater-control")
                    .enable_all()
                    .build()?,
            ),
        };
        Ok(Control {
            handle: Some(runtime.handle().clone()),
            standstill: None,
        })
    }
}

/// The way to a [`ControlRuntime`]; the default is the runtime of the caller. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Control {
    handle: Option<Handle>,
    standstill: Option<Standstill>,
}

impl Control {
    /// The way to the runtime of the requests, of the same machine.
    pub(crate) fn of_requests(&self) -> Self {
        Self {
            handle: None,
            standstill: self.standstill.clone(),
        }
    }

    /// Runs a future on the runtime, so that its sockets, timers and tasks are that runtime's, and waits for its output.
    /// The future is dropped with the call. A panic of the future is the caller's.
    ///
    /// # Errors
    /// The runtime has ended.
    pub async fn run<T: Send + 'static>(&self, body: BoxFuture<'static, T>) -> io::Result<T> {
        let Some(handle) = &self.handle else {
            return Ok(match &self.standstill {
                Some(standstill) => standstill.hold(body).await,
                None => body.await,
            });
        };
        let mut one = JoinSet::new();
        one.spawn_on(body, handle);
        let ended = || io::Error::other("the runtime of the metadata has ended");
        match one.join_next().await.ok_or_else(ended)? {
            Ok(output) => Ok(output),
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            Err(_cancelled) => Err(ended()),
        }
    }

    /// Spawns a future into a set of tasks.
    pub(crate) fn spawn_in(
        &self,
        set: &mut JoinSet<()>,
        body: impl Future<Output = ()> + Send + 'static,
    ) {
        match (&self.handle, &self.standstill) {
            (Some(handle), _) => set.spawn_on(body, handle),
            (None, None) => set.spawn(body),
            (None, Some(standstill)) => {
                let standstill = standstill.clone();
                set.spawn(async move { standstill.hold(body).await })
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    fn thread() -> Option<String> {
        std::thread::current().name().map(str::to_owned)
    }

    #[tokio::test]
    async fn a_body_runs_on_a_thread_of_the_runtime_and_its_own_spawns_too() {
        let runtime = ControlRuntime::own();
        let control = runtime.start().expect("starts");
        let spawned = async {
            let mut set = JoinSet::new();
            set.spawn(async { thread() });
            (
                thread(),
                set.join_next().await.expect("runs").expect("ends"),
            )
        };
        let own = Some("highwater-control".to_owned());
        let ran = control.run(spawned.boxed()).await.expect("runs");
        assert_eq!(ran, (own.clone(), own));
        let shared = ControlRuntime::shared().start().expect("is there");
        let here = shared.run(async { thread() }.boxed()).await;
        assert_eq!(here.expect("runs"), thread());
    }

    #[tokio::test]
    async fn a_body_is_dropped_with_its_call() {
        let runtime = ControlRuntime::own();
        let control = runtime.start().expect("starts");
        let (alive, dropped) = oneshot::channel::<()>();
        let (begin, begun) = oneshot::channel();
        let body = async move {
            begin.send(()).expect("is awaited");
            std::future::pending::<()>().await;
            drop(alive);
        };
        let mut call = Box::pin(control.run(body.boxed()));
        tokio::select! {
            _ = &mut call => unreachable!("the body never ends"),
            begun = begun => begun.expect("is sent"),
        }
        drop(call);
        dropped.await.expect_err("its sender is dropped");
    }

    #[tokio::test]
    async fn a_runtime_that_is_dropped_in_async_code_ends_its_tasks_and_refuses_others() {
        let runtime = ControlRuntime::own();
        let control = runtime.start().expect("starts");
        let (alive, dropped) = oneshot::channel::<()>();
        let mut set = JoinSet::new();
        let body = async move {
            std::future::pending::<()>().await;
            drop(alive);
        };
        control.spawn_in(&mut set, body);
        drop(runtime);
        dropped.await.expect_err("its sender is dropped");
        let refused = control.run(async {}.boxed()).await;
        refused.expect_err("nothing runs it");
    }
}
