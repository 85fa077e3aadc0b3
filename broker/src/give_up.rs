//! Gives up what only a lost disk WAL holds, because an operator asks for it (rules D4, D5).

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use highwater_io::DirLock;
use highwater_kraft_meta::command::GiveUpEpoch;
use highwater_kraft_meta::{Action, LOST_OFFSETS, MetadataStore, ProposeError, Rejection};
use highwater_runtime::{ControlRuntime, Tasks};
use highwater_types::{NodeEpoch, NodeId, StreamOffset};
use tokio::time::sleep;

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::machine::Machine;
use crate::node_error::NodeError;
use crate::operator::reach;
use crate::storage;

/// How many times the command asks: each time a session passes, and two attempts are enough if the node is dead.
const ATTEMPTS: u32 = 4;

/// The disk WAL of a node that is to be given up, and the metadata in which that is recorded.
#[derive(Debug)]
pub struct GivingUp {
    metadata: Arc<dyn MetadataStore>,
    node: NodeId,
    epoch: NodeEpoch,
    session: Duration,
    tasks: Tasks,
    _control: ControlRuntime,
    _lock: Option<DirLock>,
}

/// What is lost with a disk WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    node: NodeId,
    epoch: NodeEpoch,
    /// Topic, partition, and the first offset that may be lost.
    partitions: Vec<(String, i32, StreamOffset)>,
}

impl GivingUp {
    /// Opens the metadata: in the data directory of the only controller, whose process must not run, or else by a call of
    /// the controllers.
    ///
    /// # Errors
    /// [`NodeError`]; [`NodeError::NotUsed`] if a controller has no metadata there, so that the directory may be a wrong one;
    /// [`NodeError::NothingToGiveUp`] if the epoch is not the node's last one on a disk WAL that is not closed.
    pub fn open<'a>(
        config: &'a Config,
        machine: &'a Machine,
        epoch: (i32, u64),
    ) -> BoxFuture<'a, Result<Self, NodeError>> {
        // boxed in this crate, so that it is compiled once
        Self::open_epoch(config, machine, epoch).boxed()
    }

    async fn open_epoch(
        config: &Config,
        machine: &Machine,
        (node, epoch): (i32, u64),
    ) -> Result<Self, NodeError> {
        let (tasks, controllers) = reach(config, machine).await?;
        let mut lock = None;
        // the other voters of a quorum decide without this one, and could not call it
        let is_alone = config.quorum.controllers.len() <= 1;
        let metadata: Arc<dyn MetadataStore> = match config.quorum.roles.controller && is_alone {
            true => {
                let data_dir = DataDir::open_used(config, machine).await?;
                let voter = storage::open_voter(config, machine, &controllers, &tasks).await?;
                lock = Some(data_dir.into_lock());
                Arc::new(voter)
            }
            false => Arc::new(storage::observe(machine, &controllers, &tasks).await?),
        };
        let giving_up = Self {
            metadata,
            node: NodeId(node),
            epoch: NodeEpoch(epoch),
            session: config.session(),
            tasks,
            _control: machine.control.clone(),
            _lock: lock,
        };
        if let Err(error) = giving_up.check() {
            storage::end(&*giving_up.metadata).await;
            return Err(error);
        }
        Ok(giving_up)
    }

    /// Checks that there is something to give up.
    fn check(&self) -> Result<(), NodeError> {
        let image = self.metadata.image();
        let last = image.node(self.node).and_then(|node| node.last_on_disk());
        match last == Some(self.epoch) {
            true => Ok(()),
            false => Err(NodeError::NothingToGiveUp {
                node: self.node,
                epoch: self.epoch,
                last,
            }),
        }
    }

    /// What is lost with the log.
    #[must_use]
    pub fn loss(&self) -> Loss {
        let image = self.metadata.image();
        let node = image.node(self.node);
        let held = node.map_or_else(Vec::new, |node| image.held_on_disk(node));
        let named = held.into_iter().filter_map(|(stream, end)| {
            let stream = image.stream(stream)?;
            let topic = image.topic_by_id(stream.topic)?;
            Some((topic.name.to_string(), stream.partition, end))
        });
        let mut partitions: Vec<_> = named.collect();
        partitions.sort_unstable();
        Loss {
            node: self.node,
            epoch: self.epoch,
            partitions,
        }
    }

    /// Gives the log up. At least two sessions pass after the last heartbeat of the node. A node that is only cut off
    /// from the controllers does not count them yet (D5), so the operator has to know that it is dead.
    ///
    /// # Errors
    /// [`NodeError::Lives`] or [`NodeError::GiveUp`], which say how far it came.
    pub async fn carry_out(&self) -> Result<(), NodeError> {
        let (node, epoch) = (self.node, self.epoch);
        for _ in 0..ATTEMPTS {
            let was_open = self.is_open();
            if !was_open {
                sleep(self.session).await;
            }
            let give_up = GiveUpEpoch {
                node: self.node.0,
                epoch: self.epoch.0,
            };
            match self
                .metadata
                .propose(Action::GiveUpEpoch(give_up).into())
                .await
            {
                Ok(_) if !was_open => return Ok(()),
                // it is fenced now
                Ok(_) => {}
                Err(ProposeError::Rejected(Rejection::InSession(_))) => sleep(self.session).await,
                Err(source) => {
                    let step = if was_open { "fenced" } else { "closed" };
                    return Err(NodeError::GiveUp {
                        node,
                        epoch,
                        step,
                        source,
                    });
                }
            }
        }
        let is_fenced = !self.is_open();
        Err(NodeError::Lives {
            node,
            epoch,
            is_fenced,
        })
    }

    fn is_open(&self) -> bool {
        let image = self.metadata.image();
        let node = image.node(self.node);
        node.is_some_and(|node| node.is_open(self.epoch))
    }

    /// Closes the metadata.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn close(self) -> Result<(), NodeError> {
        self.tasks.stop().await;
        Ok(self.metadata.shutdown().await?)
    }
}

impl Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Node epoch {} of node {} has its write-ahead log in its data directory. Without that directory, these records \
             are lost if they were acknowledged:",
            self.epoch, self.node
        )?;
        for (topic, partition, end) in &self.partitions {
            let next = end.saturating_add(LOST_OFFSETS);
            writeln!(
                f,
                "  {topic}-{partition}: all from offset {end} on; it goes on at offset {next}"
            )?;
        }
        if self.partitions.is_empty() {
            writeln!(f, "  none, because the epoch led no partition")?;
        }
        Ok(())
    }
}
