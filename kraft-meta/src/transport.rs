//! The ports by which nodes reach the voters of the metadata's quorum.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_types::NodeId;

use crate::command::Endpoint;
use crate::raft::Voter;

/// The largest message to a voter, and the largest answer.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The largest message that a listener need not count against its memory, because the connections bound it; and the
/// largest call that asks for the next entries, which may wait for half a minute.
pub const SMALL_MESSAGE_BYTES_MAX: usize = 1 << 10;

/// The largest command. It leaves room in a message for everything else that an append names.
pub const COMMAND_BYTES_MAX: usize = MESSAGE_BYTES_MAX - (4 << 10);

/// Carries calls to voters: Raft's, and those of the brokers that follow the metadata.
///
/// A message is opaque here: [`Voter::answer`] reads it on the other side. An implementation bounds what it reads by
/// [`MESSAGE_BYTES_MAX`]. It may lose or repeat a message, but has to deliver it unchanged or not at all.
#[async_trait]
pub trait Calls: Debug + Send + Sync + 'static {
    /// Sends a request to a voter and returns its answer. Cancellation safe: the request may still arrive.
    ///
    /// # Errors
    /// The voter can't be reached, gives no answer within the time, or answers with an error. The kind is
    /// [`io::ErrorKind::NotConnected`] only if the request was certainly not sent.
    async fn call(&self, to: NodeId, request: Bytes, within: Duration) -> io::Result<Bytes>;

    /// Uses these addresses of controllers from now on; other controllers have those that are configured.
    fn learn(&self, _addresses: &BTreeMap<NodeId, Vec<Endpoint>>) {}
}

/// The transport of a voter, which calls other voters and is called by other nodes.
pub trait Transport: Calls {
    /// Delivers the calls of other nodes to this voter from now on, until it is dropped or ends. It is called once,
    /// while the voter opens: the voters have to reach each other before any of them can lead.
    fn serve(&self, voter: Voter);
}

/// The transport of a quorum of one voter, which has no other voter to reach.
#[derive(Debug, Clone, Copy)]
pub struct NoTransport;

impl Transport for NoTransport {
    fn serve(&self, _voter: Voter) {}
}

#[async_trait]
impl Calls for NoTransport {
    async fn call(&self, to: NodeId, _request: Bytes, _within: Duration) -> io::Result<Bytes> {
        let why = format!("this node is the only voter, and there is no transport to node {to}");
        Err(io::Error::new(io::ErrorKind::NotConnected, why))
    }
}
