//! The configuration of a store, and the ports that it works on.

use std::sync::Arc;
use std::time::Duration;

use highwater_object_storage::ObjectStorage;
use highwater_runtime::{ByteBudget, Tasks};
use highwater_types::{ClusterId, NodeEpoch, NodeId, Uuid, WalPosition};

use crate::{DeltaFold, StreamMetadata};

/// The times and sizes that control uploads and caches.
#[derive(Debug, Clone)]
pub struct Config {
    /// The longest time a batch waits for its upload. Default: 10 s.
    pub upload_interval: Duration,
    /// The bytes of batches that are uploaded at once when they have gathered. Default: 64 MiB.
    pub upload_bytes: u64,
    /// The bytes of blocks of objects that are cached.
    pub block_cache_bytes: u64,
    /// The time within which a full store has deleted the objects that are condemned (G1). A recovery waits for a full
    /// store that much longer than for a store that fails otherwise (D3).
    pub room_within: Duration,
}

/// The ports that a store works on, the tasks that it spawns into, and its memory.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The object store.
    pub storage: Arc<dyn ObjectStorage>,
    /// The metadata.
    pub metadata: Arc<dyn StreamMetadata>,
    /// The function that folds deltas.
    pub fold: Arc<dyn DeltaFold>,
    /// The tasks that run in the background.
    pub tasks: Tasks,
    /// The log cache's budget, from which the WAL reserves too.
    pub memory: ByteBudget,
}

/// The process that uploads; every object and every commit names it.
#[derive(Debug, Clone)]
pub struct Writer {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Its node epoch.
    pub epoch: NodeEpoch,
    /// Sixteen random bytes of this process, by which it recognises its own objects (U2).
    pub nonce: Uuid,
    /// The floor of the node's WAL, as of the last commit before it registered.
    pub floor: WalPosition,
}
