//! A node in the test's process on a device that fails on demand.

use std::sync::Arc;

use anyhow::Result;
use highwater_broker::node::Machine;
use highwater_io::{Faults, FaultyDevice, RealDevice};
use tempfile::TempDir;

use crate::TestNode;

/// The machine of the tests, with a device that injects faults.
#[must_use]
pub fn faulty_machine(faults: &Arc<Faults>) -> Machine {
    Machine {
        device: Arc::new(FaultyDevice::new(Arc::new(RealDevice), Arc::clone(faults))),
        ..Machine::real()
    }
}

impl TestNode {
    /// Starts a node on a device that injects faults, also into the object store; it has none at first.
    ///
    /// # Errors
    /// The error of the node's start.
    pub async fn start_faulty(
        dir: TempDir,
        settings: &[(&str, &str)],
    ) -> Result<(Self, Arc<Faults>)> {
        let faults = Arc::new(Faults::default());
        let node = Self::start_with_faults(dir, settings, &faults).await?;
        Ok((node, faults))
    }

    /// Does the same as [`TestNode::start_faulty`], on a device that has some faults already.
    ///
    /// # Errors
    /// The error of the node's start.
    pub async fn start_with_faults(
        dir: TempDir,
        settings: &[(&str, &str)],
        faults: &Arc<Faults>,
    ) -> Result<Self> {
        Self::start_local_on(dir, settings, faulty_machine(faults)).await
    }
}
