//! The prost form of what a command answers.

use highwater_types::{LeaderEpoch, NodeEpoch, NodeId, StreamId};
use prost::{Message, Oneof};

use crate::MetadataVersion;
use crate::command::{Outcome, Position, Rejection, uuid};
use crate::raft::message::Nothing;

/// An [`Outcome`], or the reason of a refusal.
#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct OutcomeRecord {
    #[prost(oneof = "OutcomeKind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    kind: Option<OutcomeKind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum OutcomeKind {
    #[prost(message, tag = "1")]
    Done(Nothing),
    #[prost(message, tag = "2")]
    Registered(RegisteredRecord),
    #[prost(message, tag = "3")]
    Opened(OpenedRecord),
    #[prost(message, tag = "4")]
    Assigned(AssignedRecord),
    #[prost(message, tag = "5")]
    Committed(CommittedRecord),
    #[prost(int64, tag = "6")]
    ProducerIds(i64),
    #[prost(message, tag = "7")]
    Rejected(RejectionRecord),
    #[prost(message, tag = "8")]
    Moved(MovedRecord),
}

#[derive(Clone, PartialEq, Message)]
struct RegisteredRecord {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(message, optional, tag = "2")]
    floor: Option<Position>,
    #[prost(message, optional, tag = "3")]
    confirmed: Option<Position>,
}

#[derive(Clone, PartialEq, Message)]
struct OpenedRecord {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<OpenedStream>,
}

#[derive(Clone, PartialEq, Message)]
struct OpenedStream {
    #[prost(int64, tag = "1")]
    start: i64,
    #[prost(int64, tag = "2")]
    committed_end: i64,
    #[prost(message, optional, tag = "3")]
    rejected: Option<RejectionRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct AssignedRecord {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<AssignedStream>,
}

#[derive(Clone, PartialEq, Message)]
struct AssignedStream {
    #[prost(int32, tag = "1")]
    leader_epoch: i32,
    #[prost(message, optional, tag = "2")]
    rejected: Option<RejectionRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct MovedRecord {
    #[prost(message, repeated, tag = "1")]
    partitions: Vec<MovedPartition>,
}

#[derive(Clone, PartialEq, Message)]
struct MovedPartition {
    #[prost(message, optional, tag = "1")]
    rejected: Option<RejectionRecord>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct CommittedRecord {
    #[prost(uint64, repeated, tag = "1")]
    dropped: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RejectionRecord {
    #[prost(
        oneof = "RejectionKind",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15"
    )]
    kind: Option<RejectionKind>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum RejectionKind {
    #[prost(message, tag = "1")]
    TopicExists(Nothing),
    #[prost(message, tag = "2")]
    UnknownTopic(Nothing),
    #[prost(uint64, tag = "3")]
    UnknownStream(u64),
    #[prost(uint64, tag = "4")]
    Fenced(u64),
    #[prost(uint64, tag = "5")]
    Unclosed(u64),
    #[prost(message, tag = "6")]
    NotHeld(NotHeldRecord),
    #[prost(message, tag = "7")]
    Gap(GapRecord),
    #[prost(message, tag = "8")]
    Changed(Nothing),
    #[prost(message, tag = "9")]
    NotUnderstood(Nothing),
    #[prost(uint64, tag = "10")]
    InSession(u64),
    #[prost(int32, tag = "11")]
    IdOfController(i32),
    #[prost(message, tag = "12")]
    OtherDirectory(OtherDirectoryRecord),
    #[prost(int32, tag = "13")]
    UnknownNode(i32),
    #[prost(message, tag = "14")]
    OlderNode(OlderNodeRecord),
    #[prost(int32, tag = "15")]
    OldProgram(i32),
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct OlderNodeRecord {
    #[prost(int32, tag = "1")]
    node: i32,
    #[prost(int32, optional, tag = "2")]
    newest: Option<i32>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct OtherDirectoryRecord {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(bytes = "vec", tag = "2")]
    recorded: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct NotHeldRecord {
    #[prost(uint64, tag = "1")]
    stream: u64,
    #[prost(int32, tag = "2")]
    held: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct GapRecord {
    #[prost(uint64, tag = "1")]
    stream: u64,
    #[prost(int64, tag = "2")]
    committed: i64,
    #[prost(int64, tag = "3")]
    first: i64,
}

impl From<&Rejection> for RejectionRecord {
    fn from(rejection: &Rejection) -> Self {
        let kind = match rejection {
            Rejection::TopicExists => RejectionKind::TopicExists(Nothing {}),
            Rejection::UnknownTopic => RejectionKind::UnknownTopic(Nothing {}),
            Rejection::UnknownStream(stream) => RejectionKind::UnknownStream(stream.0),
            Rejection::Fenced(epoch) => RejectionKind::Fenced(epoch.0),
            Rejection::Unclosed(epoch) => RejectionKind::Unclosed(epoch.0),
            Rejection::InSession(epoch) => RejectionKind::InSession(epoch.0),
            Rejection::IdOfController(node) => RejectionKind::IdOfController(node.0),
            Rejection::UnknownNode(node) => RejectionKind::UnknownNode(node.0),
            Rejection::OtherDirectory { epoch, recorded } => {
                RejectionKind::OtherDirectory(OtherDirectoryRecord {
                    epoch: epoch.0,
                    recorded: recorded.0.to_vec(),
                })
            }
            Rejection::NotHeld { stream, held } => RejectionKind::NotHeld(NotHeldRecord {
                stream: stream.0,
                held: held.0,
            }),
            Rejection::Gap {
                stream,
                committed,
                first,
            } => RejectionKind::Gap(GapRecord {
                stream: stream.0,
                committed: *committed,
                first: *first,
            }),
            Rejection::OlderNode { node, newest } => RejectionKind::OlderNode(OlderNodeRecord {
                node: node.0,
                newest: newest.map(MetadataVersion::record),
            }),
            Rejection::OldProgram(version) => RejectionKind::OldProgram(version.record()),
            Rejection::Changed => RejectionKind::Changed(Nothing {}),
            Rejection::NotUnderstood => RejectionKind::NotUnderstood(Nothing {}),
        };
        Self { kind: Some(kind) }
    }
}

impl From<RejectionRecord> for Rejection {
    /// A reason that this version does not know is [`Rejection::NotUnderstood`].
    fn from(record: RejectionRecord) -> Self {
        match record.kind {
            Some(RejectionKind::TopicExists(_)) => Self::TopicExists,
            Some(RejectionKind::UnknownTopic(_)) => Self::UnknownTopic,
            Some(RejectionKind::UnknownStream(stream)) => Self::UnknownStream(StreamId(stream)),
            Some(RejectionKind::Fenced(epoch)) => Self::Fenced(NodeEpoch(epoch)),
            Some(RejectionKind::Unclosed(epoch)) => Self::Unclosed(NodeEpoch(epoch)),
            Some(RejectionKind::InSession(epoch)) => Self::InSession(NodeEpoch(epoch)),
            Some(RejectionKind::IdOfController(node)) => Self::IdOfController(NodeId(node)),
            Some(RejectionKind::UnknownNode(node)) => Self::UnknownNode(NodeId(node)),
            Some(RejectionKind::OtherDirectory(record)) => Self::OtherDirectory {
                epoch: NodeEpoch(record.epoch),
                recorded: uuid(&record.recorded),
            },
            Some(RejectionKind::NotHeld(record)) => Self::NotHeld {
                stream: StreamId(record.stream),
                held: LeaderEpoch(record.held),
            },
            Some(RejectionKind::Gap(record)) => Self::Gap {
                stream: StreamId(record.stream),
                committed: record.committed,
                first: record.first,
            },
            Some(RejectionKind::OlderNode(record)) => Self::OlderNode {
                node: NodeId(record.node),
                newest: record.newest.map(MetadataVersion::read),
            },
            Some(RejectionKind::OldProgram(version)) => {
                Self::OldProgram(MetadataVersion::read(version))
            }
            Some(RejectionKind::Changed(_)) => Self::Changed,
            Some(RejectionKind::NotUnderstood(_)) | None => Self::NotUnderstood,
        }
    }
}

impl From<&Result<Outcome, Rejection>> for OutcomeRecord {
    fn from(decided: &Result<Outcome, Rejection>) -> Self {
        let kind = match decided {
            Err(rejection) => OutcomeKind::Rejected(rejection.into()),
            Ok(Outcome::Done) => OutcomeKind::Done(Nothing {}),
            Ok(Outcome::Registered {
                epoch,
                floor,
                confirmed,
            }) => OutcomeKind::Registered(RegisteredRecord {
                epoch: epoch.0,
                floor: Some((*floor).into()),
                confirmed: Some((*confirmed).into()),
            }),
            Ok(Outcome::Opened(streams)) => OutcomeKind::Opened(OpenedRecord {
                streams: streams.iter().map(opened).collect(),
            }),
            Ok(Outcome::Assigned(streams)) => OutcomeKind::Assigned(AssignedRecord {
                streams: streams.iter().map(assigned).collect(),
            }),
            Ok(Outcome::Committed { dropped }) => OutcomeKind::Committed(CommittedRecord {
                dropped: dropped.iter().map(|stream| stream.0).collect(),
            }),
            Ok(Outcome::Moved(moved)) => {
                let moved = moved.iter().map(|one| MovedPartition {
                    rejected: one.as_ref().err().map(Into::into),
                });
                OutcomeKind::Moved(MovedRecord {
                    partitions: moved.collect(),
                })
            }
            Ok(Outcome::ProducerIds(first)) => OutcomeKind::ProducerIds(*first),
        };
        Self { kind: Some(kind) }
    }
}

fn opened(stream: &Result<(i64, i64), Rejection>) -> OpenedStream {
    match stream {
        Ok((start, committed_end)) => OpenedStream {
            start: *start,
            committed_end: *committed_end,
            rejected: None,
        },
        Err(rejection) => OpenedStream {
            rejected: Some(rejection.into()),
            ..OpenedStream::default()
        },
    }
}

fn assigned(stream: &Result<LeaderEpoch, Rejection>) -> AssignedStream {
    match stream {
        Ok(leader_epoch) => AssignedStream {
            leader_epoch: leader_epoch.0,
            rejected: None,
        },
        Err(rejection) => AssignedStream {
            rejected: Some(rejection.into()),
            ..AssignedStream::default()
        },
    }
}

impl OutcomeRecord {
    /// The outcome; `None` for one that this version does not know.
    pub(super) fn decided(self) -> Option<Result<Outcome, Rejection>> {
        Some(match self.kind? {
            OutcomeKind::Rejected(rejection) => Err(rejection.into()),
            OutcomeKind::Done(_) => Ok(Outcome::Done),
            OutcomeKind::Registered(record) => Ok(Outcome::Registered {
                epoch: NodeEpoch(record.epoch),
                floor: record.floor.unwrap_or_default().into(),
                confirmed: record.confirmed.unwrap_or_default().into(),
            }),
            OutcomeKind::Opened(record) => {
                let streams = record.streams.into_iter();
                let streams = streams.map(|stream| match stream.rejected {
                    Some(rejection) => Err(rejection.into()),
                    None => Ok((stream.start, stream.committed_end)),
                });
                Ok(Outcome::Opened(streams.collect()))
            }
            OutcomeKind::Assigned(record) => {
                let streams = record.streams.into_iter();
                let streams = streams.map(|stream| match stream.rejected {
                    Some(rejection) => Err(rejection.into()),
                    None => Ok(LeaderEpoch(stream.leader_epoch)),
                });
                Ok(Outcome::Assigned(streams.collect()))
            }
            OutcomeKind::Committed(record) => {
                let dropped = record.dropped.into_iter().map(StreamId);
                Ok(Outcome::Committed {
                    dropped: dropped.collect(),
                })
            }
            OutcomeKind::Moved(record) => {
                let moved = record.partitions.into_iter();
                let moved = moved.map(|one| one.rejected.map_or(Ok(()), |why| Err(why.into())));
                Ok(Outcome::Moved(moved.collect()))
            }
            OutcomeKind::ProducerIds(first) => Ok(Outcome::ProducerIds(first)),
        })
    }
}

#[cfg(test)]
mod tests {
    use highwater_types::{Uuid, WalPosition};

    use super::*;

    #[test]
    fn every_outcome_and_every_rejection_survives_the_way() {
        let rejections = [
            Rejection::TopicExists,
            Rejection::UnknownTopic,
            Rejection::UnknownStream(StreamId(3)),
            Rejection::Fenced(NodeEpoch(4)),
            Rejection::Unclosed(NodeEpoch(5)),
            Rejection::InSession(NodeEpoch(6)),
            Rejection::IdOfController(NodeId(1)),
            Rejection::UnknownNode(NodeId(2)),
            Rejection::OtherDirectory {
                epoch: NodeEpoch(6),
                recorded: Uuid([7; 16]),
            },
            Rejection::NotHeld {
                stream: StreamId(6),
                held: LeaderEpoch(-1),
            },
            Rejection::Gap {
                stream: StreamId(7),
                committed: 8,
                first: 9,
            },
            Rejection::OlderNode {
                node: NodeId(3),
                newest: Some(MetadataVersion(34)),
            },
            Rejection::OlderNode {
                node: NodeId(1000),
                newest: None,
            },
            Rejection::OldProgram(MetadataVersion(35)),
            Rejection::Changed,
            Rejection::NotUnderstood,
        ];
        let position = |at| WalPosition {
            epoch: NodeEpoch(1),
            at,
        };
        let outcomes = [
            Outcome::Done,
            Outcome::Registered {
                epoch: NodeEpoch(2),
                floor: position(3),
                confirmed: position(4),
            },
            Outcome::Opened(vec![Ok((1, 2)), Err(Rejection::Changed), Ok((0, 0))]),
            Outcome::Assigned(vec![Ok(LeaderEpoch(0)), Err(rejections[5].clone())]),
            Outcome::Committed {
                dropped: vec![StreamId(1), StreamId(0)],
            },
            Outcome::Committed { dropped: vec![] },
            Outcome::Moved(vec![Ok(()), Err(Rejection::Changed)]),
            Outcome::ProducerIds(1000),
        ];
        let all = outcomes.into_iter().map(Ok);
        for decided in all.chain(rejections.into_iter().map(Err)) {
            let sent = OutcomeRecord::from(&decided).encode_to_vec();
            let read = OutcomeRecord::decode(&sent[..]).expect("decodes");
            assert_eq!(read.decided(), Some(decided));
        }
        assert_eq!(OutcomeRecord::default().decided(), None);
    }
}
