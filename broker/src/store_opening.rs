//! Opens the object store: whether it has the cluster's claim and is the only one that has it (D2), and how a broker that was fenced waits for it (W11).

use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::command::ClaimStore;
use highwater_kraft_meta::{Action, MetadataStore, ProposeError};
use highwater_object_storage::{
    Claim, IoClass, OpenError, Opened, Opener, Ports, StorageError, layout,
};
use highwater_runtime::{Tasks, reasons};
use highwater_types::{NodeEpoch, ObjectId, ObjectKind, StoreId};
use tokio::time::sleep;

use crate::config::Config;
use crate::machine::Machine;
use crate::node_error::NodeError;
use crate::wal;

/// How often a broker that was fenced tries to open a store that gives no answer.
const STORE_REST: Duration = Duration::from_secs(1);
/// How often a start asks the controllers to record the store that it has claimed.
const RECORD_EVERY: Duration = Duration::from_millis(200);

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
    unless_ended(metadata, caught_up).await?;
    let image = metadata.image();
    let is_new = image.store().is_zero() && image.nodes_to_sweep().next().is_none();
    Ok(match is_new {
        true => Claim::Make,
        false => Claim::Expect(image.store()),
    })
}

/// Records that the cluster has claimed this store, if it has recorded none, and checks that this is the recorded one.
/// Controllers that found a cluster may be configured with different stores: each makes a claim, and the first one that is
/// recorded stays (D2). A store without an id is not recorded. Cancellation safe.
///
/// # Errors
/// [`OpenError::OtherStore`]; [`NodeError::Propose`]; [`NodeError::Ended`] if the metadata ends.
pub(crate) async fn record(
    metadata: &dyn MetadataStore,
    config: &Config,
    store: StoreId,
) -> Result<(), NodeError> {
    let mut is_told = false;
    loop {
        let image = metadata.image();
        if image.store() == store {
            return Ok(());
        }
        if !image.store().is_zero() {
            return Err(NodeError::Storage(OpenError::OtherStore {
                url: config.object_storage.url.clone(),
                own: image.cluster(),
            }));
        }
        let claim = ClaimStore {
            store: store.0.to_vec(),
        };
        let proposed = metadata.propose(Action::ClaimStore(claim).into());
        match unless_ended(metadata, proposed).await? {
            Ok(_) => {}
            // it may be recorded, and may be proposed again
            Err(ProposeError::Unavailable(reason)) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(
                        reason,
                        "waiting for the active controller, which records the cluster's object store"
                    );
                }
                sleep(RECORD_EVERY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn unless_ended<T>(
    metadata: &dyn MetadataStore,
    done: impl Future<Output = T>,
) -> Result<T, NodeError> {
    tokio::select! {
        biased;
        why = metadata.ended() => Err(NodeError::Ended(format!("the metadata ended: {why}"))),
        done = done => Ok(done),
    }
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
        memory: machine.memory_store.clone(),
        clock: machine.clock.clone(),
        tasks: tasks.clone(),
        rng: machine.rng.clone(),
    };
    let opened = highwater_object_storage::open(&config.object_storage, opener, ports);
    Ok(opened.await?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use highwater_types::{NodeId, Uuid};

    use super::*;
    use crate::faulty_metadata::{self, FaultyMetadata};
    use crate::fixture::config;

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
        assert_eq!(claimed, Claim::Expect(StoreId::ZERO));
        // D3: it does not wait for what has ended
        metadata.shutdown().await.expect("stops");
        let refused = claim(&metadata).await.expect_err("it has ended");
        assert!(matches!(refused, NodeError::Ended(_)), "{refused}");
    }

    // D2: what the others put into another store could not be read
    #[tokio::test]
    async fn of_two_stores_that_founders_claim_the_cluster_has_the_first_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = config(dir.path(), &[]);
        let metadata = faulty_metadata::open(config.node_id, &dir.path().join("metadata")).await;
        let metadata = FaultyMetadata::from(metadata);
        metadata.answers_lost.store(2, Ordering::Relaxed);
        let (first, second) = (Uuid([1; 16]), Uuid([2; 16]));
        let unknown = record(&metadata, &config, StoreId::ZERO).await;
        unknown.expect("a store without an id cannot be recorded");
        for _ in 0..2 {
            let recorded = record(&metadata, &config, first).await;
            recorded.expect("it is the first one, also if it comes again");
        }
        for other in [second, StoreId::ZERO] {
            let refused = record(&metadata, &config, other).await;
            assert!(
                matches!(
                    refused,
                    Err(NodeError::Storage(OpenError::OtherStore { .. }))
                ),
                "{refused:?}"
            );
        }
        let claimed = claim(&metadata).await.expect("goes on");
        assert_eq!(claimed, Claim::Expect(first), "no other store is claimed");
        metadata.shutdown().await.expect("stops");
    }
}
