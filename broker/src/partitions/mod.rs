//! The partitions that this node leads.

mod fetch_session;
pub(crate) mod fetch_wait;
mod opener;
mod registry;

pub use fetch_session::{FetchKey, FetchPlan, FetchSessions, SessionError, Told, Wanted};
pub use opener::PartitionOpener;
pub use registry::{Partition, Partitions};
