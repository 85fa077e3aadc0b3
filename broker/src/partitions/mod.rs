//! The partitions that this node leads.

mod closing;
mod fetch_session;
pub(crate) mod handing_over;
mod led;
mod opener;
mod registry;

pub(crate) use closing::{Closed, ClosedMark};
pub(crate) use fetch_session::{
    FetchKey, FetchPlan, FetchSessions, PartitionRequest, SessionError, SessionRequest, Watermarks,
};
pub(crate) use led::{Led, OPENING_WAIT, Opening};
pub(crate) use opener::PartitionOpener;
pub(crate) use registry::{Partition, Partitions, Progress};

#[cfg(test)]
mod tests;
