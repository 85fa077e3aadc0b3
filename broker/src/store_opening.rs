//! Opens the object store: whether it has the cluster's claim (D2), and how a broker that was fenced waits for it (W11).

use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::MetadataStore;
use highwater_object_storage::{
    Claim, IoClass, OpenError, Opened, Opener, Ports, StorageError, layout,
};
use highwater_runtime::{Tasks, reasons};
use highwater_types::{NodeEpoch, ObjectId, ObjectKind};
use tokio::time::sleep;

use crate::config::Config;
use crate::machine::Machine;
use crate::node_error::NodeError;
use crate::wal;

/// How often a broker that was fenced tries to open a store that gives no answer.
const STORE_REST: Duration = Duration::from_secs(1);

/// How a controller with a new data directory treats the cluster's claim on the store. Controllers make it before any broker
/// registers, so a cluster that has had a broker has its store, however empty the configured one is: a controller that
/// joins, or has lost its disk, must find the claim there (D2).
///
/// # Errors
/// [`NodeError::Ended`] if the metadata ends.
pub(crate) async fn claim(metadata: &dyn MetadataStore) -> Result<Claim, NodeError> {
    let mut is_told = false;
    let caught_up = wal::until_caught_up(metadata, |reason| {
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!(
                reason,
                "waiting for the active controller, which knows whether the cluster has its object store already"
            );
        }
    });
    // to wait changes nothing
    tokio::select! {
        biased;
        why = metadata.ended() => return Err(NodeError::Ended(format!("the metadata ended: {why}"))),
        () = caught_up => {}
    }
    Ok(match metadata.image().nodes_to_sweep().next() {
        Some(_) => Claim::Expect,
        None => Claim::Make,
    })
}

/// Waits until a start of the node would open the object store. Each reason to wait is told. Cancellation safe.
///
/// # Errors
/// The reason for which such a start would be refused: the store is not the cluster's any more, say (D2), or would lose
/// objects (G5).
pub(crate) async fn until_opens(
    config: &Config,
    machine: &Machine,
    tasks: &Tasks,
    opener: Opener,
    told: impl Fn(String),
) -> Result<(), NodeError> {
    let mut is_logged = false;
    loop {
        // credentials are fetched for this attempt alone
        let tasks = Tasks::new(tasks.control().clone());
        let opened = opens(config, machine, &tasks, opener).await;
        tasks.stop().await;
        let error = match opened {
            Err(error) if error.is_outage() => reasons(&error),
            opened => return opened,
        };
        if !std::mem::replace(&mut is_logged, true) {
            tracing::warn!(
                error,
                "the object store cannot be used: the broker starts again once it can"
            );
        }
        told(error);
        sleep(STORE_REST).await;
    }
}

/// Opens the object store as a start does, and asks it for an object.
async fn opens(
    config: &Config,
    machine: &Machine,
    tasks: &Tasks,
    opener: Opener,
) -> Result<(), NodeError> {
    let objects = open(config, machine, tasks, opener).await?.storage;
    // no epoch has this number
    let key = layout::object(ObjectId {
        node: opener.node,
        epoch: NodeEpoch(0),
        kind: ObjectKind::Wal,
        number: 0,
    });
    match objects.get_suffix(&key, 1, IoClass::Start).await {
        Ok(_) | Err(StorageError::NotFound { .. }) => Ok(()),
        Err(error) => Err(NodeError::Storage(OpenError::Unreachable {
            url: config.object_storage.url.clone(),
            reason: reasons(&error),
        })),
    }
}

/// Opens the object store.
///
/// # Errors
/// [`NodeError::Storage`].
pub(crate) async fn open(
    config: &Config,
    machine: &Machine,
    tasks: &Tasks,
    opener: Opener,
) -> Result<Opened, NodeError> {
    let ports = Ports {
        device: Arc::clone(&machine.device),
        memory: Arc::clone(&machine.memory_store),
        clock: machine.clock.clone(),
        tasks: tasks.clone(),
        rng: machine.rng.clone(),
    };
    let opened = highwater_object_storage::open(&config.object_storage, opener, ports);
    Ok(opened.await?)
}

#[cfg(test)]
mod tests {
    use highwater_types::NodeId;

    use super::*;
    use crate::faulty_metadata::{self, FaultyMetadata};

    // D2: a cluster that has had a broker has its store
    #[tokio::test]
    async fn a_new_controller_asks_the_active_one_before_it_claims_a_store() {
        let dir = tempfile::tempdir().expect("a directory");
        let node = NodeId(1);
        let metadata = faulty_metadata::open(node, dir.path()).await;
        let metadata = FaultyMetadata::from(metadata);
        let claimed = claim(&metadata).await.expect("goes on");
        assert_eq!(claimed, Claim::Make);
        faulty_metadata::registered_since(&metadata, node).await;
        let claimed = claim(&metadata).await.expect("goes on");
        assert_eq!(claimed, Claim::Expect);
        // D3: it does not wait for what has ended
        metadata.shutdown().await.expect("stops");
        let refused = claim(&metadata).await.expect_err("it has ended");
        assert!(matches!(refused, NodeError::Ended(_)), "{refused}");
    }
}
