#![doc = include_str!("../DESIGN.md")]

pub mod command;
mod error;
mod image;
mod raft;
mod state_machine;
mod transport;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use highwater_types::{LogIndex, Term};
use tokio::sync::watch;

pub use command::{Action, Command, Outcome, Rejection};
pub use error::{OpenError, ProposeError};
pub use image::{
    EpochImage, EpochState, MetadataImage, NodeImage, ObjectImage, PartitionImage, SnapshotError,
    StreamImage, TopicImage,
};
pub use raft::{Config, Quorum, RaftMetadata, Voter};
pub use transport::{MESSAGE_BYTES_MAX, NoTransport, Transport};

/// The metadata as a node sees it.
#[async_trait]
pub trait MetadataStore: Debug + Send + Sync + 'static {
    /// This node's own image; never waits, may lag.
    fn image(&self) -> Arc<MetadataImage>;
    /// Changes with every command.
    fn watch(&self) -> watch::Receiver<Arc<MetadataImage>>;
    /// The term in which this node is the active controller, `None` while it is not. What it answers may have ended by the
    /// time it is read: another node may lead already.
    fn leads(&self) -> Option<Term>;
    /// Whether commands are decided now.
    ///
    /// # Errors
    /// Why not: it has ended, or its disk is full.
    fn check(&self) -> Result<(), String>;
    /// Proposes a command; when it is answered this node's own image has it.
    ///
    /// # Errors
    /// [`ProposeError`]; [`ProposeError::Unavailable`] leaves the outcome unknown.
    async fn propose(&self, command: Command) -> Result<(LogIndex, Outcome), ProposeError>;
    /// Resolves, with the file and the reason, when this node can decide or learn nothing any more: a sync of its log
    /// failed, or a snapshot could not be written (D3). Cancellation safe.
    async fn ended(&self) -> String;
    /// Ends this node's part in the metadata; what was proposed and not answered may or may not be decided.
    ///
    /// # Errors
    /// [`OpenError`] when its log can't be closed.
    async fn shutdown(&self) -> Result<(), OpenError>;
}
