//! The library's network over the port [`Transport`]: it encodes each call, bounds it and gives it a deadline.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use highwater_types::NodeId;
use openraft::RaftNetworkFactory;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::sync::watch;
use tokio::time::timeout;

use super::log_store::LogStore;
use super::message::{
    Answer, Append, Call, Install, Introduce, Introduced, Reply, Request, decode, encode, malformed,
};
use super::record::{DirectoryRecord, LogIdRecord};
use super::replica::{self, Replica};
use super::snapshot_store::SnapshotFile;
use super::types::{Snapshot, Types, Vote};
use crate::image::MetadataImage;
use crate::transport::Transport;

/// The bytes of a snapshot in one request.
const PART_BYTES: u64 = 1 << 20;
/// How long a part of a snapshot waits for its answer.
const PART_WITHIN: Duration = Duration::from_secs(10);
/// The time that is added for the last part, once for each part of the snapshot, because the other voter reads and checks
/// the whole snapshot before it answers. A small snapshot waits no longer than it has to: if the request is lost, and its
/// connection stays open, the other voter gets nothing meanwhile.
const INSTALLED_WITHIN: Duration = Duration::from_secs(1);

/// The network of a voter.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) transport: Arc<dyn Transport>,
    /// The id of this voter.
    pub(super) own: u64,
    /// Knows the data directories of the voters.
    pub(super) log: LogStore,
    /// Knows the cluster.
    pub(super) image: watch::Receiver<Arc<MetadataImage>>,
}

/// The way to one other voter.
#[derive(Debug)]
pub(super) struct Peer {
    id: u64,
    network: Network,
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

    /// Calls as a voter that takes part. The answer counts only once the other voter's directory is remembered.
    async fn try_call(&self, call: Call, option: &RPCOption) -> io::Result<Reply> {
        let Network { own, log, .. } = &self.network;
        let directory = log.own_directory(*own);
        let from = directory.map(|id| DirectoryRecord::new(*own, id));
        let answer = self.exchange(call, from, option.soft_ttl()).await?;
        let from = answer.from.filter(|from| from.node == self.id);
        let from = from.ok_or_else(|| malformed("another node answers"))?;
        log.remember(from).await?;
        answer.reply.ok_or_else(|| malformed("it is empty"))
    }

    /// Sends a snapshot part by part, until it is installed or the other voter has seen a higher vote; returns the vote
    /// that it has seen. The file stays readable when a newer snapshot replaces it.
    async fn send_snapshot(&self, vote: Vote, snapshot: &Snapshot) -> io::Result<Vote> {
        let file = &snapshot.snapshot.file;
        let bytes_total = file.len().await?;
        let (mut from, mut installed_within) = (0, PART_WITHIN);
        loop {
            let bytes = (bytes_total - from).min(PART_BYTES);
            let install = Install {
                vote: Some((&vote).into()),
                last: snapshot.meta.last_log_id.as_ref().map(LogIdRecord::from),
                from,
                bytes_total,
                bytes: file
                    .read_at(from, usize::try_from(bytes).map_err(io::Error::other)?)
                    .await?,
            };
            from += bytes;
            installed_within += INSTALLED_WITHIN;
            let within = match from == bytes_total {
                true => installed_within,
                false => PART_WITHIN,
            };
            let option = RPCOption::new(within);
            match self.try_call(Call::Install(install), &option).await? {
                Reply::Installed(seen) => {
                    let seen = Vote::from(seen);
                    if seen > vote || from == bytes_total {
                        return Ok(seen);
                    }
                }
                _ => return Err(malformed("it answers another request")),
            }
        }
    }

    async fn exchange(
        &self,
        call: Call,
        from: Option<DirectoryRecord>,
        within: Duration,
    ) -> io::Result<Answer> {
        let cluster = self.network.image.borrow().cluster();
        let request = Request {
            replica: Some(self.id),
            cluster: match cluster.is_zero() {
                true => Vec::new(),
                false => cluster.0.to_vec(),
            },
            ..Request::new(call, from, replica::node_id(self.id))
        };
        exchange(
            &*self.network.transport,
            replica::node_id(self.id),
            &request,
            within,
        )
        .await
    }
}

async fn exchange(
    transport: &dyn Transport,
    to: NodeId,
    request: &Request,
    within: Duration,
) -> io::Result<Answer> {
    let answered = transport.call(to, encode(request)?, within);
    let answered = timeout(within, answered).await.map_err(|_elapsed| {
        let why = format!("node {to} gives no answer within {within:?}");
        io::Error::new(io::ErrorKind::TimedOut, why)
    })?;
    decode(&answered?)
}

/// Asks a node for its voters, and by which directory it knows the founder `own`; returns the start of that node too.
///
/// # Errors
/// The node gives no answer within the time.
pub(super) async fn introduce(
    transport: &dyn Transport,
    own: NodeId,
    to: NodeId,
    within: Duration,
) -> io::Result<(Introduced, u64)> {
    let node = u64::try_from(own.0).map_err(|_cause| malformed("no node has this id"))?;
    let request = Request::new(Call::Introduce(Introduce { node }), None, to);
    let answer = exchange(transport, to, &request, within).await?;
    match answer.reply {
        Some(Reply::Introduced(introduced)) => Ok((introduced, answer.process)),
        _ => Err(malformed("it answers another request")),
    }
}

impl Network {
    /// Asks a voter for the voters that it knows.
    ///
    /// # Errors
    /// The voter gives no answer within the time.
    pub(super) async fn introduced(&self, id: u64, within: Duration) -> io::Result<Introduced> {
        let (own, to) = (replica::node_id(self.own), replica::node_id(id));
        let answer = introduce(&*self.transport, own, to, within).await;
        answer.map(|(introduced, _)| introduced)
    }

    pub(super) fn peer(&self, id: u64) -> Peer {
        let network = self.clone();
        Peer { id, network }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &Replica) -> Peer {
        self.peer(target)
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
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            // a part that is sent may arrive although this is dropped: the receiver begins anew with the next snapshot
            sent = self.send_snapshot(vote, &snapshot) => {
                let seen = sent.map_err(|error| StreamingError::Unreachable(unreachable(&error)))?;
                Ok(SnapshotResponse::new(seen))
            }
        }
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
