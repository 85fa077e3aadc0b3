//! The machine that a node runs on.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use highwater_io::net::{Network, TcpNetwork};
use highwater_io::{Device, RealDevice, RealThreads, Threads};
use highwater_object_storage::ObjectStorage;
use highwater_runtime::{ControlRuntime, SeededRng, WallClock};

use crate::auth::{AllowAll, Authorizer};

/// The ports through which a node reaches its machine, a real or a simulated one.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Files and directories.
    pub device: Arc<dyn Device>,
    /// Threads for writers.
    pub threads: Arc<dyn Threads>,
    /// The runtime of the work that must not wait for requests: Raft, heartbeats, and the calls between nodes. It ends
    /// with this value and the nodes that were started with it.
    pub control: ControlRuntime,
    /// The object store that `memory:` names, which tests bring. A process by itself has none.
    pub memory_store: Option<Arc<dyn ObjectStorage>>,
    /// Sockets.
    pub network: Arc<dyn Network>,
    /// The time of day.
    pub clock: WallClock,
    /// Randomness for ids.
    pub rng: SeededRng,
    /// The check of what a principal may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// The commit that the process was built from.
    pub commit: &'static str,
}

impl Machine {
    /// The machine of this process.
    #[must_use]
    pub fn real() -> Self {
        // The standard library seeds its hashers from the system's randomness.
        let seed = std::hash::RandomState::new().build_hasher().finish();
        Self {
            device: Arc::new(RealDevice),
            threads: Arc::new(RealThreads),
            control: ControlRuntime::own(),
            memory_store: None,
            network: Arc::new(TcpNetwork),
            clock: WallClock::system(),
            rng: SeededRng::from_seed(seed),
            authorizer: Arc::new(AllowAll),
            commit: "unknown",
        }
    }
}
