//! What a store is configured with and made of.

use std::sync::Arc;
use std::time::Duration;

use highwater_object_storage::ObjectStorage;
use highwater_runtime::{ByteBudget, Tasks};
use highwater_types::{ClusterId, NodeEpoch, NodeId, Uuid, WalPosition};

use crate::{DeltaFold, StreamMetadata};

/// When and how much is uploaded.
#[derive(Debug, Clone)]
pub struct Config {
    /// The longest time a batch waits for its upload. Default: 10 s.
    pub upload_interval: Duration,
    /// Bytes that are uploaded at once when they have gathered. Default: 64 MiB.
    pub upload_bytes: u64,
    /// Bytes of blocks read back that are kept.
    pub block_cache_bytes: u64,
    /// The time within which a full store has room again for what is condemned (G1): a recovery waits for that much longer
    /// than while the store fails otherwise (D3).
    pub room_within: Duration,
}

/// The ports that a store works on, the tasks that it spawns into, and its memory.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The object store.
    pub storage: Arc<dyn ObjectStorage>,
    /// The metadata.
    pub metadata: Arc<dyn StreamMetadata>,
    /// The meaning of deltas.
    pub fold: Arc<dyn DeltaFold>,
    /// Where tasks run.
    pub tasks: Tasks,
    /// The log cache's budget: the one that the WAL reserves from.
    pub memory: ByteBudget,
}

/// The process that uploads: every object and every commit names it.
#[derive(Debug, Clone)]
pub struct Writer {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: NodeEpoch,
    /// Sixteen random bytes of this process: they tell whether an object that exists is its own (U2).
    pub nonce: Uuid,
    /// The floor of the node's WAL, as last committed when it registered.
    pub floor: WalPosition,
}
