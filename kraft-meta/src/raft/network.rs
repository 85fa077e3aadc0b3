//! The library's network over the port [`Transport`]: it encodes each call, bounds it and gives it a deadline.

use std::future::Future;
use std::io;
use std::sync::Arc;

use highwater_types::NodeId;
use openraft::RaftNetworkFactory;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::time::timeout;

use super::message::{Answer, Append, Call, Reply, Request, decode, encode, malformed};
use super::snapshot_store::SnapshotFile;
use super::types::{Snapshot, Types, Vote};
use crate::transport::Transport;

/// The network of a voter.
#[derive(Debug, Clone)]
pub(super) struct Network(pub(super) Arc<dyn Transport>);

/// The way to one other voter.
#[derive(Debug)]
pub(super) struct Peer {
    id: u64,
    transport: Arc<dyn Transport>,
}

/// The library waits before it calls a voter again that is unreachable. Any error is one here: a voter that refuses
/// entries because its disk is full is called again later too.
fn unreachable(error: &io::Error) -> Unreachable<Types> {
    Unreachable::new(error)
}

impl Peer {
    async fn call(&self, call: Call, option: &RPCOption) -> Result<Reply, Unreachable<Types>> {
        let answered = self.try_call(call, option).await;
        answered.map_err(|error| unreachable(&error))
    }

    async fn try_call(&self, call: Call, option: &RPCOption) -> io::Result<Reply> {
        let to = i32::try_from(self.id).map_err(|_cause| malformed("no node has this id"))?;
        let request = encode(&Request { call: Some(call) })?;
        let within = option.soft_ttl();
        let answered = timeout(within, self.transport.call(NodeId(to), request, within)).await;
        let answered = answered.map_err(|_elapsed| {
            let why = format!("node {to} gives no answer within {within:?}");
            io::Error::new(io::ErrorKind::TimedOut, why)
        })?;
        let answer = decode::<Answer>(&answered?)?;
        answer.reply.ok_or_else(|| malformed("it is empty"))
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &openraft::BasicNode) -> Peer {
        Peer {
            id: target,
            transport: Arc::clone(&self.0),
        }
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let (append, last_sent) = Append::new(&rpc);
        let reply = self.call(Call::Append(append), &option).await?;
        let appended = reply.appended().map_err(|error| unreachable(&error))?;
        Ok(match (appended, last_sent) {
            (AppendEntriesResponse::Success, Some(last)) => {
                AppendEntriesResponse::PartialSuccess(Some(last))
            }
            (appended, _) => appended,
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let reply = self.call(Call::Vote((&rpc).into()), &option).await?;
        Ok(reply.voted().map_err(|error| unreachable(&error))?)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let reply = self.call(Call::PreVote((&rpc).into()), &option).await?;
        Ok(reply.voted().map_err(|error| unreachable(&error))?)
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let why = format!(
            "node {} needs a snapshot of the metadata, and voters do not send each other snapshots yet",
            self.id
        );
        tracing::warn!("{why}");
        let why = io::Error::new(io::ErrorKind::Unsupported, why);
        Err(StreamingError::Unreachable(unreachable(&why)))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.call(Call::TransferLeader((&request).into()), &option)
            .await?;
        Ok(Ok(()))
    }
}
