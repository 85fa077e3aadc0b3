//! The messages to voters: prost messages of our own, so that the library's types may change.

use std::io;

use bytes::Bytes;
use highwater_types::NodeId;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use prost::{Message, Oneof};

use super::change::message::{ChangeVoters, Join, VotersChanged};
use super::observer::described::{Describe, Described};
use super::observer::message::{
    Behind, Decided, Entries, Follow, Heartbeat, NotLeader, OtherCluster, Piece, Propose,
    ReadSnapshot, Unavailable,
};
use super::record::{DirectoryRecord, EntryRecord, LogIdRecord, VoteRecord};
use super::types::{Entry, LogId, Types};
use crate::transport::MESSAGE_BYTES_MAX;

/// The bytes of entries that one request takes at most; a single larger entry goes alone.
const ENTRIES_BYTES: usize = 1 << 20;

/// A request to a voter: of another voter, or of an observer.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(oneof = "Call", tags = "1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 14, 15, 16")]
    pub(super) call: Option<Call>,
    /// The sender; none in [`Call::Introduce`].
    #[prost(message, optional, tag = "6")]
    pub(super) from: Option<DirectoryRecord>,
    /// The voter that the sender means; none if the sender knows its address alone.
    #[prost(int32, optional, tag = "11")]
    pub(super) to: Option<i32>,
    /// The start of that voter that the sender means; none if any.
    #[prost(fixed64, optional, tag = "12")]
    pub(super) process: Option<u64>,
    /// The replica that the sender means, by its id in Raft; none if any replica of that node.
    #[prost(uint64, optional, tag = "17")]
    pub(super) replica: Option<u64>,
    /// The cluster of a sender that takes part in Raft; empty if it does not know the id yet.
    #[prost(bytes = "vec", tag = "18")]
    pub(super) cluster: Vec<u8>,
}

impl Request {
    pub(super) fn new(call: Call, from: Option<DirectoryRecord>, to: NodeId) -> Self {
        Self {
            call: Some(call),
            from,
            to: Self::named(to),
            ..Self::default()
        }
    }

    /// The voter as a request names it. A node gives negative numbers to voters of which it knows the address alone.
    pub(super) fn named(to: NodeId) -> Option<i32> {
        (to.0 >= 0).then_some(to.0)
    }
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Call {
    #[prost(message, tag = "1")]
    Append(Append),
    #[prost(message, tag = "2")]
    Vote(Campaign),
    #[prost(message, tag = "3")]
    PreVote(Campaign),
    #[prost(message, tag = "4")]
    TransferLeader(TransferLeader),
    #[prost(message, tag = "5")]
    Introduce(Introduce),
    #[prost(message, tag = "7")]
    Follow(Follow),
    #[prost(message, tag = "8")]
    ReadSnapshot(ReadSnapshot),
    #[prost(message, tag = "9")]
    Propose(Propose),
    #[prost(message, tag = "10")]
    Heartbeat(Heartbeat),
    #[prost(message, tag = "13")]
    Install(Install),
    #[prost(message, tag = "14")]
    Describe(Describe),
    #[prost(message, tag = "15")]
    ChangeVoters(ChangeVoters),
    #[prost(message, tag = "16")]
    Join(Join),
}

/// The largest index that a call may name. The library adds to it.
const INDEX_MAX: u64 = 1 << 62;
/// How far a term that a call names may be ahead of the voter's own. A voter that was away is behind by as many terms as
/// there were elections. A call with the last of all terms would leave none for another election.
const TERMS_AHEAD_MAX: u64 = 1 << 32;

impl Call {
    /// Refuses a term or an index that no node of the cluster can have reached, because the voter keeps the highest term
    /// for ever.
    pub(super) fn check_reached(&self, term: u64) -> io::Result<()> {
        let (vote, ids, entries) = match self {
            Self::Append(append) => {
                let ids = [append.previous, append.committed];
                (append.vote, ids, &append.entries[..])
            }
            Self::Vote(campaign) | Self::PreVote(campaign) => {
                (campaign.vote, [campaign.last, None], &[][..])
            }
            Self::TransferLeader(transfer) => (transfer.from, [transfer.last, None], &[][..]),
            Self::Install(install) => (install.vote, [install.last, None], &[][..]),
            Self::Follow(follow) => (None, [follow.last, None], &[][..]),
            Self::Introduce(_)
            | Self::ReadSnapshot(_)
            | Self::Propose(_)
            | Self::Heartbeat(_)
            | Self::Describe(_)
            | Self::ChangeVoters(_)
            | Self::Join(_) => return Ok(()),
        };
        let term_max = term.saturating_add(TERMS_AHEAD_MAX);
        let entries = entries.iter().filter_map(|entry| entry.id);
        let mut ids = ids.into_iter().flatten().chain(entries);
        let are_reached = ids.all(|id| id.term <= term_max && id.index <= INDEX_MAX);
        match are_reached && vote.is_none_or(|vote| vote.term <= term_max) {
            true => Ok(()),
            false => Err(malformed("no node has reached its term or its index")),
        }
    }
}

/// The question of a voter whose data directory is new: is it known by another directory?
#[derive(Clone, PartialEq, Message)]
pub(super) struct Introduce {
    #[prost(uint64, tag = "1")]
    pub(super) node: u64,
}

/// The answer to [`Introduce`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct Introduced {
    /// The directory by which the node is known.
    #[prost(message, optional, tag = "1")]
    pub(super) known: Option<DirectoryRecord>,
    /// The voters in the log of the answering voter; those with which it is configured if its log has none.
    #[prost(uint64, repeated, tag = "2")]
    pub(super) voters: Vec<u64>,
    /// Whether its log has voters: the quorum is formed.
    #[prost(bool, tag = "3")]
    pub(super) is_formed: bool,
    /// The newest `metadata.version` that its program knows; 0 for [`crate::MetadataVersion::FIRST`].
    #[prost(int32, tag = "4")]
    pub(super) metadata_version: i32,
}

/// Entries that follow `previous`; none in a heartbeat.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Append {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteRecord>,
    #[prost(message, optional, tag = "2")]
    previous: Option<LogIdRecord>,
    #[prost(message, repeated, tag = "3")]
    entries: Vec<EntryRecord>,
    #[prost(message, optional, tag = "4")]
    committed: Option<LogIdRecord>,
}

#[cfg(test)]
impl Append {
    /// Whether it is more than a heartbeat.
    pub(super) fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }
}

/// A candidate's request for a vote.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Campaign {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteRecord>,
    #[prost(message, optional, tag = "2")]
    last: Option<LogIdRecord>,
    #[prost(bool, tag = "3")]
    leadership_transfer: bool,
}

/// A leader's request that a voter campaign in its place.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct TransferLeader {
    #[prost(message, optional, tag = "1")]
    from: Option<VoteRecord>,
    #[prost(uint64, tag = "2")]
    to: u64,
    #[prost(message, optional, tag = "3")]
    last: Option<LogIdRecord>,
}

/// A part of a leader's snapshot, for a voter that lacks entries which are purged. The parts come in order, and the last
/// one is answered when the snapshot is installed.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Install {
    #[prost(message, optional, tag = "1")]
    pub(super) vote: Option<VoteRecord>,
    /// The last entry that the snapshot covers.
    #[prost(message, optional, tag = "2")]
    pub(super) last: Option<LogIdRecord>,
    /// The place of this part.
    #[prost(uint64, tag = "3")]
    pub(super) from: u64,
    #[prost(uint64, tag = "4")]
    pub(super) bytes_total: u64,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) bytes: Bytes,
}

/// The reply of a voter.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Answer {
    #[prost(
        oneof = "Reply",
        tags = "1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 22, 23"
    )]
    pub(super) reply: Option<Reply>,
    /// The answering voter; none in [`Reply::Introduced`].
    #[prost(message, optional, tag = "7")]
    pub(super) from: Option<DirectoryRecord>,
    /// A number that tells the starts of the answering voter apart.
    #[prost(fixed64, tag = "18")]
    pub(super) process: u64,
    /// The term in which the answering voter leads; none if it is not the active controller.
    #[prost(uint64, optional, tag = "21")]
    pub(super) leads: Option<u64>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Reply {
    /// The request was carried out.
    #[prost(message, tag = "1")]
    Done(Nothing),
    /// The entries up to this one were appended.
    #[prost(message, tag = "2")]
    AppendedTo(LogIdRecord),
    /// The log has no entry before those that were sent, or a different one.
    #[prost(message, tag = "3")]
    Conflict(Nothing),
    /// The voter has seen this higher vote.
    #[prost(message, tag = "4")]
    HigherVote(VoteRecord),
    #[prost(message, tag = "5")]
    Voted(Voted),
    #[prost(message, tag = "6")]
    Introduced(Introduced),
    #[prost(message, tag = "8")]
    Entries(Entries),
    /// The entries that the observer lacks are in a snapshot only, or in a newer one.
    #[prost(message, tag = "9")]
    SnapshotNeeded(Nothing),
    #[prost(message, tag = "10")]
    Piece(Piece),
    #[prost(message, tag = "11")]
    Decided(Decided),
    #[prost(message, tag = "12")]
    NotLeader(NotLeader),
    #[prost(message, tag = "13")]
    Unavailable(Unavailable),
    #[prost(message, tag = "14")]
    OtherCluster(OtherCluster),
    /// The node epoch is not open.
    #[prost(message, tag = "15")]
    Fenced(Nothing),
    #[prost(message, tag = "16")]
    Behind(Behind),
    /// The last entry of the observer is not in the log of the voter, which has another one at that index.
    #[prost(message, tag = "17")]
    Diverged(Nothing),
    /// The part of a snapshot was taken, or all of it is installed. This is the vote that the voter has seen.
    #[prost(message, tag = "19")]
    Installed(VoteRecord),
    #[prost(message, tag = "20")]
    Described(Described),
    #[prost(message, tag = "22")]
    VotersChanged(VotersChanged),
    /// The heartbeat is taken, and the broker is to ask the store something (E8).
    #[prost(message, tag = "23")]
    Look(Nothing),
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Nothing {}

/// The answer to a [`Campaign`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Voted {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteRecord>,
    #[prost(bool, tag = "2")]
    granted: bool,
    #[prost(message, optional, tag = "3")]
    last: Option<LogIdRecord>,
}

/// An error for a message that can't be sent or understood.
pub(super) fn malformed(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("message of a voter: {why}"),
    )
}

/// Encodes a message within [`MESSAGE_BYTES_MAX`].
pub(super) fn encode(message: &impl Message) -> io::Result<Bytes> {
    match message.encoded_len() {
        ..=MESSAGE_BYTES_MAX => Ok(message.encode_to_vec().into()),
        bytes => Err(malformed(&format!("{bytes} bytes are too many"))),
    }
}

/// Decodes a message within [`MESSAGE_BYTES_MAX`].
pub(super) fn decode<M: Message + Default>(bytes: &[u8]) -> io::Result<M> {
    match bytes.len() {
        ..=MESSAGE_BYTES_MAX => M::decode(bytes).map_err(|error| malformed(&error.to_string())),
        bytes => Err(malformed(&format!("{bytes} bytes are too many"))),
    }
}

impl Append {
    /// The request with as many entries as one message takes, and the last of them if some are left out.
    pub(super) fn new(request: &AppendEntriesRequest<Types>) -> (Self, Option<LogId>) {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for entry in &request.entries {
            let entry = EntryRecord::from(entry);
            bytes += entry.encoded_len();
            if bytes > ENTRIES_BYTES && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        let last = (entries.len() < request.entries.len())
            .then(|| request.entries.get(entries.len() - 1))
            .flatten();
        let last = last.map(|entry| entry.log_id);
        let append = Self {
            vote: Some((&request.vote).into()),
            previous: request.prev_log_id.as_ref().map(LogIdRecord::from),
            entries,
            committed: request.leader_commit.as_ref().map(LogIdRecord::from),
        };
        (append, last)
    }

    /// The encoded bytes of the entries.
    pub(super) fn entries_bytes(&self) -> usize {
        self.entries.iter().map(Message::encoded_len).sum()
    }

    /// Converts to the library's request. Entries that don't follow each other are refused, for the library would
    /// panic.
    pub(super) fn request(self) -> io::Result<AppendEntriesRequest<Types>> {
        let vote = self.vote.ok_or_else(|| malformed("it names no vote"))?;
        let entries: Vec<Entry> = self.entries.into_iter().map(Entry::from).collect();
        let previous = self.previous.map(LogId::from);
        let mut next = previous.map_or(0, |previous| previous.index.saturating_add(1));
        for entry in &entries {
            if entry.log_id.index != next {
                return Err(malformed("its entries do not follow each other"));
            }
            next = next.saturating_add(1);
        }
        Ok(AppendEntriesRequest {
            vote: vote.into(),
            prev_log_id: previous,
            entries,
            leader_commit: self.committed.map(LogId::from),
        })
    }
}

impl From<&VoteRequest<Types>> for Campaign {
    fn from(request: &VoteRequest<Types>) -> Self {
        Self {
            vote: Some((&request.vote).into()),
            last: request.last_log_id.as_ref().map(LogIdRecord::from),
            leadership_transfer: request.leadership_transfer,
        }
    }
}

impl Campaign {
    pub(super) fn request(self) -> io::Result<VoteRequest<Types>> {
        let vote = self.vote.ok_or_else(|| malformed("it names no vote"))?;
        let last = self.last.map(LogId::from);
        let mut request = VoteRequest::new(vote.into(), last);
        request.leadership_transfer = self.leadership_transfer;
        Ok(request)
    }
}

impl From<&TransferLeaderRequest<Types>> for TransferLeader {
    fn from(request: &TransferLeaderRequest<Types>) -> Self {
        Self {
            from: Some(request.from_leader().into()),
            to: *request.to_node_id(),
            last: request.last_log_id().map(LogIdRecord::from),
        }
    }
}

impl TransferLeader {
    pub(super) fn request(self) -> io::Result<TransferLeaderRequest<Types>> {
        let from = self.from.ok_or_else(|| malformed("it names no vote"))?;
        let last = self.last.map(LogId::from);
        Ok(TransferLeaderRequest::new(from.into(), self.to, last))
    }
}

impl From<AppendEntriesResponse<Types>> for Reply {
    fn from(response: AppendEntriesResponse<Types>) -> Self {
        match response {
            AppendEntriesResponse::Success => Self::Done(Nothing {}),
            AppendEntriesResponse::PartialSuccess(Some(last)) => Self::AppendedTo((&last).into()),
            AppendEntriesResponse::PartialSuccess(None) | AppendEntriesResponse::Conflict => {
                Self::Conflict(Nothing {})
            }
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote((&vote).into()),
        }
    }
}

impl From<VoteResponse<Types>> for Reply {
    fn from(response: VoteResponse<Types>) -> Self {
        Self::Voted(Voted {
            vote: Some((&response.vote).into()),
            granted: response.vote_granted,
            last: response.last_log_id.as_ref().map(LogIdRecord::from),
        })
    }
}

impl Reply {
    pub(super) fn appended(self) -> io::Result<AppendEntriesResponse<Types>> {
        match self {
            Self::Done(_) => Ok(AppendEntriesResponse::Success),
            Self::AppendedTo(last) => Ok(AppendEntriesResponse::PartialSuccess(Some(last.into()))),
            Self::Conflict(_) => Ok(AppendEntriesResponse::Conflict),
            Self::HigherVote(vote) => Ok(AppendEntriesResponse::HigherVote(vote.into())),
            _ => Err(malformed("it answers another request")),
        }
    }

    pub(super) fn voted(self) -> io::Result<VoteResponse<Types>> {
        let Self::Voted(Voted {
            vote: Some(vote),
            granted,
            last,
        }) = self
        else {
            return Err(malformed("it answers another request"));
        };
        let last = last.map(LogId::from);
        Ok(VoteResponse::new(
            super::types::Vote::from(vote),
            last,
            granted,
        ))
    }
}
