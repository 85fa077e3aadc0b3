//! A node whose broker starts again by itself when its epoch was fenced (W11).

use std::time::Duration;

use futures::future::BoxFuture;
use highwater_runtime::{Backoff, reasons};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::node::{Machine, Node, NodeEnd, NodeError, rests};

/// A broker that has run for so long starts again after the shortest wait.
const SETTLED: Duration = Duration::from_secs(60);

/// A node in a process. When its epoch is fenced, its broker starts again as a new epoch, on the same addresses and with the
/// same data directory; what the node does as a controller goes on, and so does the process.
pub struct NodeProcess {
    machine: Machine,
    stage: Stage,
    rests: Backoff,
    fences: watch::Sender<u64>,
    /// Whether the process is told to stop.
    stop: watch::Sender<bool>,
}

/// A node whose broker has started again, with the waits that are left for the next time; `None` if the process was told to
/// stop.
type StartedAgain = Option<(Node, Backoff)>;

enum Stage {
    Running(Box<Node>, Instant),
    Starting(BoxFuture<'static, Result<StartedAgain, NodeError>>),
    /// The node can't go on, and is gone.
    Gone(String),
}

impl std::fmt::Debug for NodeProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NodeProcess").field(&self.node()).finish()
    }
}

impl NodeProcess {
    /// Starts a node.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn start(config: Config, machine: Machine) -> Result<Self, NodeError> {
        let mut rests = rests(&machine);
        let node = Node::start_resting(config, machine.clone(), &mut rests).await?;
        Ok(Self {
            rests,
            machine,
            stage: Stage::Running(Box::new(node), Instant::now()),
            fences: watch::Sender::new(0),
            stop: watch::Sender::new(false),
        })
    }

    /// How often the node was fenced so far.
    #[must_use]
    pub fn fences(&self) -> watch::Receiver<u64> {
        self.fences.subscribe()
    }

    /// The node; `None` while its broker starts again.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        match &self.stage {
            Stage::Running(node, _) => Some(node),
            Stage::Starting(_) | Stage::Gone(_) => None,
        }
    }

    /// Starts the broker again each time its epoch is fenced. Resolves, with the reason, when the node can't go on.
    /// Cancellation safe: the next call goes on with a start that was begun.
    pub async fn ended(&mut self) -> String {
        loop {
            match &mut self.stage {
                Stage::Running(node, _) => match node.ended().await {
                    NodeEnd::Fenced(reason) => self.begin_again(&reason),
                    NodeEnd::Failed(why) => return why,
                },
                Stage::Starting(starting) => {
                    self.stage = match starting.await {
                        Ok(Some((node, rests))) => {
                            self.rests = rests;
                            Stage::Running(Box::new(node), Instant::now())
                        }
                        Ok(None) => Stage::Gone("the process is told to stop".to_owned()),
                        Err(error) => {
                            let why = reasons(&error);
                            Stage::Gone(format!(
                                "the node was fenced and does not start again: {why}"
                            ))
                        }
                    };
                }
                Stage::Gone(why) => return why.clone(),
            }
        }
    }

    fn begin_again(&mut self, reason: &str) {
        let gone = Stage::Gone(reason.to_owned());
        let Stage::Running(node, since) = std::mem::replace(&mut self.stage, gone) else {
            return;
        };
        if since.elapsed() >= SETTLED {
            self.rests = rests(&self.machine);
        }
        tracing::warn!(
            reason,
            "the node was fenced and starts again as a new epoch"
        );
        self.fences.send_modify(|fences| *fences += 1);
        let starting = node.start_again(self.rests.clone(), self.stop.subscribe());
        self.stage = Stage::Starting(Box::pin(starting));
    }

    /// Stops the node cleanly. A start of the broker that is under way ends as if the process was killed.
    ///
    /// # Errors
    /// [`NodeError`]; every acknowledged record is in the write-ahead log.
    pub async fn stop(self) -> Result<(), NodeError> {
        match self.stage {
            Stage::Running(node, _) => node.stop().await,
            Stage::Starting(starting) => {
                self.stop.send_replace(true);
                match starting.await? {
                    Some((node, _)) => node.stop().await,
                    None => {
                        tracing::info!("stopped before the fenced broker has started again");
                        Ok(())
                    }
                }
            }
            Stage::Gone(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
