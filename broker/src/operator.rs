//! The metadata as a command of an operator reads and changes it, from outside the nodes.

use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::MetadataStore;
use highwater_runtime::{ControlRuntime, Tasks};
use tokio::time::timeout;

use crate::config::Config;
use crate::machine::Machine;
use crate::node_error::NodeError;
use crate::quorum::NetworkTransport;
use crate::storage;
use crate::tls::Contexts;

/// How long a controller has to answer the first call.
const ANSWER: Duration = Duration::from_secs(30);

/// Metadata that follows the controllers.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) metadata: Arc<dyn MetadataStore>,
    tasks: Tasks,
    _control: ControlRuntime,
}

impl Operator {
    /// Opens the metadata by a call of the controllers that the configuration names.
    ///
    /// # Errors
    /// [`NodeError`]; [`NodeError::NoControllers`] if the configuration names none, and [`NodeError::NoAnswer`] if none
    /// answers within 30 s.
    pub(crate) async fn open(config: &Config, machine: &Machine) -> Result<Self, NodeError> {
        if config.quorum.controllers.is_empty() {
            return Err(NodeError::NoControllers);
        }
        let (tasks, controllers) = reach(config, machine).await?;
        let observing = storage::observe(machine, &controllers, &tasks);
        let observed = timeout(ANSWER, observing).await;
        let metadata = observed.map_err(|_elapsed| no_answer(config))??;
        Ok(Self {
            metadata: Arc::new(metadata),
            tasks,
            _control: machine.control.clone(),
        })
    }

    /// Closes the metadata.
    ///
    /// # Errors
    /// [`NodeError`].
    pub(crate) async fn close(self) -> Result<(), NodeError> {
        self.tasks.stop().await;
        Ok(self.metadata.shutdown().await?)
    }
}

fn no_answer(config: &Config) -> NodeError {
    let controllers = config.quorum.controllers.iter();
    let addresses = controllers.map(|one| match one.host.contains(':') {
        true => format!("[{}]:{}", one.host, one.port),
        false => format!("{}:{}", one.host, one.port),
    });
    let addresses = addresses.collect::<Vec<_>>().join(", ");
    let seconds = ANSWER.as_secs();
    NodeError::NoAnswer { addresses, seconds }
}

/// The way to the controllers that the configuration names, and the tasks by which a command works.
pub(crate) async fn reach(
    config: &Config,
    machine: &Machine,
) -> Result<(Tasks, Arc<NetworkTransport>), NodeError> {
    let control = machine.control.start().map_err(NodeError::Control)?;
    let tasks = Tasks::new(control);
    let tls = Contexts::open(config, &machine.clock).await?;
    let controllers = NetworkTransport::new(config, machine, tasks.control(), tls.of_calls());
    Ok((tasks, Arc::new(controllers)))
}
