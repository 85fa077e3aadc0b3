//! The end of a node whose epoch was fenced, and which starts again in its process (W11).

use std::convert::Infallible;
use std::time::Duration;

use futures::future::join_all;
use highwater_runtime::{TaskKind, reasons};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{METADATA_STOP_MAX, Machine, Node, NodeError};
use crate::addresses::Listening;
use crate::storage;

/// The rest after a connection of a client could not be accepted.
const REFUSED_REST: Duration = Duration::from_millis(100);

impl Node {
    /// Ends a node whose epoch was fenced, so that it can start again in this process. Its work for clients ends at once.
    /// What it does as a controller goes on until it has rested and a start would open the object store, so that it keeps
    /// its vote while the store is away (W11). Then this waits for as long as anything writes to the files of the node,
    /// because the next start opens them.
    ///
    /// Returns whether the node is to start again; it is not if the process is told to stop meanwhile.
    ///
    /// # Errors
    /// The reason why the process must end: its metadata or a task of the controller has failed (D3). Every acknowledged
    /// record is in the write-ahead log.
    pub(crate) async fn end_epoch(
        mut self,
        (machine, rest): (&Machine, Duration),
        stop: &mut watch::Receiver<bool>,
    ) -> Result<bool, NodeError> {
        if let Err(error) = self.end_broker(None).await {
            // what the epoch acknowledged is in its log all the same
            let error = reasons(&error);
            tracing::debug!(error, "the log of the fenced epoch has ended");
        }
        // all arms are cancellation safe
        let ended = tokio::select! {
            biased;
            why = self.metadata.ended() => Err(format!("the metadata ended: {why}")),
            why = self.controller_failed() => Err(why),
            _told = stop.wait_for(|stop| *stop) => Ok(false),
            () = self.until_store_opens(machine, rest) => Ok(true),
            never = self.refuse_clients() => match never {},
        };
        self.tasks.stop().await;
        let closing = self.metadata.shutdown();
        if ended == Ok(true) {
            closing.await?;
            return Ok(true);
        }
        if timeout(METADATA_STOP_MAX, closing).await.is_err() {
            std::mem::forget(self.lock.take());
        }
        ended.map_err(NodeError::Ended)
    }

    async fn until_store_opens(&self, machine: &Machine, rest: Duration) {
        sleep(rest).await;
        storage::until_opens(&self.config, machine, &self.tasks, self.opener).await;
    }

    /// Resolves, with the reason, when a task fails that a fenced node still has.
    async fn controller_failed(&self) -> String {
        match self.tasks.failed().await {
            (kind, how) if kind >= TaskKind::MetadataObserver => {
                format!("the task {kind:?} {how}")
            }
            // it worked for the epoch that has ended
            _ => std::future::pending().await,
        }
    }

    /// Accepts connections of clients and closes them, so that they try another broker at once.
    async fn refuse_clients(&self) -> Infallible {
        let listeners = self.addresses.listeners.iter();
        let of_clients = listeners.filter(|one| !self.config.quorum.is_listener(&one.name));
        let refuse = async |listening: &Listening| loop {
            if listening.acceptor.accept().await.is_err() {
                sleep(REFUSED_REST).await;
            }
        };
        join_all(of_clients.map(refuse)).await;
        std::future::pending().await
    }
}
