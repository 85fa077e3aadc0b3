//! Nodes whose requests take every thread that serves requests.

use std::sync::mpsc;

use anyhow::{Context, Result};
use highwater_protocol::messages::MetadataRequest;
use highwater_tests::{TestNode, until};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::roles::store;
use super::sessions::{broker, controller};

/// A runtime of one thread, and what holds that thread.
struct Busy {
    runtime: Option<Runtime>,
    holding: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Busy {
    fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
            holding: None,
        })
    }

    /// Starts a node that serves its requests on the runtime.
    async fn start(
        &self,
        starting: impl Future<Output = Result<TestNode>> + Send + 'static,
    ) -> Result<TestNode> {
        let runtime = self.runtime.as_ref().context("it runs")?;
        runtime.spawn(starting).await?
    }

    /// Takes the only thread; when this returns no other task of the runtime runs, and no socket of it is looked at.
    async fn hold(&mut self) -> Result<()> {
        let (release, released) = mpsc::channel();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let runtime = self.runtime.as_ref().context("it runs")?;
        let holding = runtime.spawn(async move {
            // an error means that the test has ended
            let _begun = begin.send(());
            let _released = released.recv();
        });
        begun.await?;
        self.holding = Some((release, holding));
        Ok(())
    }

    /// Gives the thread back.
    async fn release(&mut self) -> Result<()> {
        if let Some((release, holding)) = self.holding.take() {
            drop(release);
            holding.await?;
        }
        Ok(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.holding = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The ids of the brokers that a broker takes for live.
async fn live(by: &TestNode) -> Result<Vec<i32>> {
    let request = MetadataRequest::default();
    let metadata = by.client().await?.call(&request, 9).await?;
    let mut live: Vec<_> = metadata.brokers.iter().map(|one| one.node_id).collect();
    live.sort_unstable();
    Ok(live)
}

// E6: the heartbeats of a busy broker, and a busy controller that answers and counts them
#[tokio::test(flavor = "multi_thread")]
async fn requests_on_every_thread_cost_no_session_and_hide_no_dead_broker() -> Result<()> {
    let objects = TempDir::new()?;
    let store = store(&objects);
    let (mut of_controller, mut of_broker) = (Busy::new()?, Busy::new()?);
    let of_busy = store.clone();
    let starting = async move { controller(&of_busy).await };
    let controller = of_controller.start(starting).await?;
    let address = controller.address;
    let of_busy = store.clone();
    let starting = async move { broker("2", &of_busy, address).await };
    let busy = of_broker.start(starting).await?;
    let witness = broker("3", &store, address).await?;
    of_broker.hold().await?;
    of_controller.hold().await?;
    // its session begins later than that of a busy broker which is not heard any more, and so it ends later
    let dying = broker("4", &store, address).await?;
    until("all brokers are live", async || {
        Ok(live(&witness).await? == [2, 3, 4])
    })
    .await?;
    drop(dying);
    until("the dead broker is fenced", async || {
        Ok(!live(&witness).await?.contains(&4))
    })
    .await?;
    assert_eq!(live(&witness).await?, [2, 3]);
    of_controller.release().await?;
    of_broker.release().await?;
    for node in [busy, witness, controller] {
        drop(node.stop().await?);
    }
    Ok(())
}
