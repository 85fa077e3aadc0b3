#![doc = include_str!("../DESIGN.md")]

pub mod command;
mod error;
mod image;
mod load;
mod metadata_version;
mod quorum_state;
mod raft;
mod sessions;
mod state_machine;
mod store_sight;
mod transport;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use highwater_types::{LogIndex, NodeEpoch, NodeId, Term};
use tokio::sync::watch;

pub use command::{Action, Command, Endpoint, Outcome, Rejection};
pub use error::{HeartbeatError, OpenError, ProposeError};
pub use image::{
    CondemnedObject, EpochImage, EpochState, LOST_OFFSETS, MetadataImage, Moving, NodeImage,
    ObjectImage, PartitionImage, SnapshotError, StreamImage, TopicImage, WalObjects,
};
pub use load::{HEAVIEST_MAX, Load, StreamLoad};
pub use metadata_version::MetadataVersion;
pub use quorum_state::{QuorumState, ReplicaState, VotersChange, VotersError};
pub use raft::{Config, Observer, ObserverMetadata, Quorum, RaftMetadata, Voter};
pub use sessions::{Heard, Standing, Taken, Told};
pub use store_sight::StoreSight;
pub use transport::{
    COMMAND_BYTES_MAX, Calls, MESSAGE_BYTES_MAX, NoTransport, SMALL_MESSAGE_BYTES_MAX, Transport,
};

/// The metadata as a node sees it.
#[async_trait]
pub trait MetadataStore: Debug + Send + Sync + 'static {
    /// This node's own image. It is returned at once, and may lag behind the leader's.
    fn image(&self) -> Arc<MetadataImage>;
    /// Observes the image, which changes with every command.
    fn watch(&self) -> watch::Receiver<Arc<MetadataImage>>;
    /// The term in which this node is the active controller, or `None` if it is not. The answer may be out of date when
    /// it is read: another node may lead already.
    fn leads(&self) -> Option<Term>;
    /// Checks that commands can be decided now.
    ///
    /// # Errors
    /// The reason why not: the metadata has ended, or its disk is full.
    fn check(&self) -> Result<(), String>;
    /// Whether this node is a voter, as far as it knows: one that is away does not learn of its removal.
    fn has_vote(&self) -> bool;
    /// Proposes a command. When it is answered, this node's own image includes it.
    ///
    /// # Errors
    /// [`ProposeError`]; [`ProposeError::Unavailable`] alone leaves the outcome unknown.
    async fn propose(&self, command: Command) -> Result<(LogIndex, Outcome), ProposeError>;
    /// Says that a node epoch lives, which begins its session anew (E6), and its standing, on which it depends whether it
    /// may get leaderships (E4). Its load may come with it, and how it reaches the store (E8).
    ///
    /// # Errors
    /// [`HeartbeatError`].
    async fn heartbeat(
        &self,
        node: NodeId,
        epoch: NodeEpoch,
        told: Told,
    ) -> Result<Taken, HeartbeatError>;
    /// Asks the active controller for the state of the quorum.
    ///
    /// # Errors
    /// The reason why there is no answer.
    async fn quorum(&self) -> Result<QuorumState, String>;
    /// Waits until this node's own image has all that the active controller had committed when it was asked, once that
    /// controller has decided something itself. Cancellation safe.
    ///
    /// # Errors
    /// The reason why there is no answer, or why nothing can be learned any more.
    async fn caught_up(&self) -> Result<(), String>;
    /// Asks the active controller to change the voters.
    ///
    /// # Errors
    /// [`VotersError`].
    async fn change_voters(&self, change: VotersChange) -> Result<(), VotersError>;
    /// Observes what this node has heard from brokers while it was the active controller.
    fn heard(&self) -> watch::Receiver<Heard>;
    /// The open epochs whose session is over, as this node sees it; none if it is not the active controller (E6). The
    /// answer is right only if the question comes often: at least four times in a session.
    fn silent(&self) -> Vec<(NodeId, NodeEpoch)>;
    /// The open epochs whose brokers don't reach the store although others do, as this node sees it; none if it is not the
    /// active controller (E8).
    fn cut_from_store(&self) -> Vec<(NodeId, NodeEpoch)>;
    /// Waits until this node can neither decide nor learn anything any more, because a sync of its log failed or a
    /// snapshot could not be written (D3); returns the file and the reason. Cancellation safe.
    async fn ended(&self) -> String;
    /// Ends this node's part in the metadata. A proposal that is not answered may still be decided.
    ///
    /// # Errors
    /// [`OpenError`] when its log can't be closed.
    async fn shutdown(&self) -> Result<(), OpenError>;
}
