//! Implements the streams' port to the metadata on `kraft-meta`.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use highwater_kraft_meta::command::{
    ClaimOfStream, ClaimRecord, CommitObject, HandedOver as HandedOverRecord, OpenStreams,
    RollRecord, StreamEpoch, TrimStream,
};
use highwater_kraft_meta::{Action, MetadataStore, Outcome, ProposeError, Rejection};
use highwater_s3stream::{
    Claim, Committed, HandedOver, ObjectCommit, Recorded, Roll, RollPart, StreamBounds,
    StreamError, StreamMetadata,
};
use highwater_types::{
    LeaderEpoch, LogIndex, NodeEpoch, StreamId, StreamOffset, StreamRange, Timestamp,
};

/// Topic id and partition, by which objects describe themselves (I10).
pub(crate) fn label(topic: highwater_types::TopicId, partition: i32) -> Bytes {
    let mut label = BytesMut::with_capacity(20);
    label.put_slice(&topic.0);
    label.put_i32(partition);
    label.freeze()
}

/// The implementation of the port.
#[derive(Debug)]
pub(crate) struct KraftStreamMetadata {
    pub(crate) metadata: Arc<dyn MetadataStore>,
    pub(crate) epoch: NodeEpoch,
}

/// Converts a rejection to an error of the streams. The match is exhaustive, so that every new rejection has to be
/// classified here.
fn rejected(rejection: &Rejection) -> StreamError {
    match *rejection {
        Rejection::UnknownStream(stream) | Rejection::NotHeld { stream, .. } => {
            let reason = rejection.to_string();
            StreamError::NotHeld { stream, reason }
        }
        Rejection::Fenced(epoch) => StreamError::Fenced { epoch },
        Rejection::Gap {
            stream,
            committed,
            first,
        } => StreamError::Gap {
            stream,
            committed,
            first,
        },
        // another node has to close that epoch first, so that a later attempt may succeed
        Rejection::Unclosed(_) | Rejection::InSession(_) => StreamError::Unavailable {
            reason: rejection.to_string(),
        },
        Rejection::TopicExists
        | Rejection::UnknownTopic
        | Rejection::IdOfController(_)
        | Rejection::UnknownNode(_)
        | Rejection::OtherDirectory { .. }
        | Rejection::OlderNode { .. }
        | Rejection::OldProgram(_)
        | Rejection::Changed
        | Rejection::NotUnderstood => StreamError::NotUnderstood {
            reason: rejection.to_string(),
        },
    }
}

fn undecided(error: ProposeError) -> StreamError {
    match error {
        ProposeError::Rejected(rejection) => rejected(&rejection),
        ProposeError::TooLarge(_) => StreamError::NotUnderstood {
            reason: error.to_string(),
        },
        ProposeError::Unavailable(reason) => StreamError::Unavailable { reason },
    }
}

impl KraftStreamMetadata {
    async fn propose(&self, action: Action) -> Result<(LogIndex, Outcome), StreamError> {
        self.metadata
            .propose(action.into())
            .await
            .map_err(undecided)
    }
}

fn record(claim: &Claim) -> ClaimRecord {
    ClaimRecord {
        first: claim.range.start,
        next: claim.range.end,
        part_start: claim.part.start,
        part_end: claim.part.end,
        max_timestamp: claim.max_timestamp,
        open_from: claim.open_from.unwrap_or(-1),
        checkpoint_bytes: claim.checkpoint_bytes,
        leader_epoch: claim.leader_epoch.0,
        object: claim.object.map(Into::into),
    }
}

/// The claims of streams as a command has them.
pub(crate) fn claims(claims: &[(StreamId, Claim)]) -> Vec<ClaimOfStream> {
    let of_stream = |(stream, claim): &(StreamId, Claim)| ClaimOfStream {
        stream: stream.0,
        claim: Some(record(claim)),
        rolls: claim.rolls.iter().map(roll_record).collect(),
    };
    claims.iter().map(of_stream).collect()
}

fn handed_over(closed: &HandedOver) -> HandedOverRecord {
    HandedOverRecord {
        stream: closed.stream.0,
        leader_epoch: closed.epoch.0,
        end: closed.end,
    }
}

fn roll_record(roll: &RollPart) -> RollRecord {
    RollRecord {
        base: roll.base,
        begins: roll.begins,
        bytes: roll.bytes,
        max_timestamp: roll.max_timestamp,
        first_timestamp: roll.first_timestamp,
        first_append: roll.first_append,
        last_append: roll.last_append,
    }
}

fn roll((record, end): (&RollRecord, StreamOffset)) -> Roll {
    Roll {
        base: record.base,
        end,
        bytes: record.bytes,
        max_timestamp: record.max_timestamp,
        first_timestamp: record.first_timestamp,
        first_append: record.first_append,
        last_append: record.last_append,
    }
}

fn claim(record: &ClaimRecord) -> Claim {
    Claim {
        range: record.first..record.next,
        object: record.object.and_then(|name| name.try_into().ok()),
        part: record.part_start..record.part_end,
        max_timestamp: record.max_timestamp,
        rolls: Vec::new(),
        open_from: Some(record.open_from).filter(|offset| *offset >= 0),
        checkpoint_bytes: record.checkpoint_bytes,
        leader_epoch: LeaderEpoch(record.leader_epoch),
    }
}

#[async_trait]
impl StreamMetadata for KraftStreamMetadata {
    async fn open(
        &self,
        streams: &[(StreamId, LeaderEpoch)],
    ) -> Result<Vec<Result<StreamBounds, StreamError>>, StreamError> {
        let epoch = |(id, epoch): &(StreamId, LeaderEpoch)| StreamEpoch {
            stream: id.0,
            leader_epoch: epoch.0,
        };
        let open = OpenStreams {
            node_epoch: self.epoch.0,
            streams: streams.iter().map(epoch).collect(),
        };
        let (_, outcome) = self.propose(Action::OpenStreams(open)).await?;
        let Outcome::Opened(opened) = outcome else {
            return Ok(Vec::new());
        };
        let answers = opened.into_iter().map(|bounds| match bounds {
            Ok((start, end)) => Ok(StreamBounds {
                start,
                confirmed: end,
                next: end,
            }),
            Err(rejection) => Err(rejected(&rejection)),
        });
        Ok(answers.collect())
    }

    async fn commit(&self, commit: ObjectCommit) -> Result<Committed, StreamError> {
        let command = CommitObject {
            node: commit.object.node.0,
            node_epoch: commit.epoch.0,
            number: commit.object.number,
            bytes: commit.object_bytes,
            claims: claims(&commit.claims),
            floor: Some(commit.floor.into()),
            lowest_in_flight: commit.lowest_in_flight,
            confirmed: Some(commit.confirmed.into()),
            recovering: commit.recovering,
            handed_over: commit.handed_over.iter().map(handed_over).collect(),
        };
        let (at, outcome) = self.propose(Action::CommitObject(command)).await?;
        let dropped = match outcome {
            Outcome::Committed { dropped } => dropped,
            _ => Vec::new(),
        };
        Ok(Committed { dropped, at })
    }

    async fn seen(&self, at: LogIndex) -> Result<(), StreamError> {
        let mut images = self.metadata.watch();
        let seen = images.wait_for(|image| image.at() >= at).await;
        let gone = |_| StreamError::Unavailable {
            reason: "the metadata has ended".to_owned(),
        };
        seen.map(|_| ()).map_err(gone)
    }

    async fn locate(
        &self,
        id: StreamId,
        range: StreamRange,
        max: usize,
    ) -> Result<Vec<Claim>, StreamError> {
        let image = self.metadata.image();
        let Some(stream) = image.stream(id) else {
            return Ok(Vec::new());
        };
        let found = stream.claims_in(range).take(max);
        Ok(found.map(|record| claim(record)).collect())
    }

    async fn locate_time(
        &self,
        id: StreamId,
        range: StreamRange,
        at: Timestamp,
    ) -> Result<Option<Claim>, StreamError> {
        let image = self.metadata.image();
        let Some(stream) = image.stream(id) else {
            return Ok(None);
        };
        let first = stream.first_claim_at(range, at);
        Ok(first.map(|record| claim(record)))
    }

    async fn recorded(&self, id: StreamId) -> Result<Recorded, StreamError> {
        let image = self.metadata.image();
        let Some(stream) = image.stream(id) else {
            return Ok(Recorded::default());
        };
        let after = stream.claims_after_checkpoint();
        Ok(Recorded {
            checkpoint: stream.checkpoint.as_ref().map(|record| claim(record)),
            claims: after.map(|record| claim(record)).collect(),
            rolls: stream.rolls().map(roll).collect(),
            lost: stream.lost.clone(),
        })
    }

    async fn trim(
        &self,
        id: StreamId,
        epoch: LeaderEpoch,
        start: StreamOffset,
    ) -> Result<(), StreamError> {
        let (at, _) = self
            .propose(Action::TrimStream(TrimStream {
                stream: id.0,
                start,
                node_epoch: self.epoch.0,
                leader_epoch: epoch.0,
            }))
            .await?;
        self.seen(at).await
    }

    async fn label(&self, id: StreamId) -> Result<Bytes, StreamError> {
        let image = self.metadata.image();
        let stream = image.stream(id);
        Ok(stream
            .map(|stream| label(stream.topic, stream.partition))
            .unwrap_or_default())
    }

    async fn leader_epochs(
        &self,
        id: StreamId,
    ) -> Result<Vec<(LeaderEpoch, StreamOffset)>, StreamError> {
        let image = self.metadata.image();
        let stream = image.stream(id);
        Ok(stream.map_or_else(Vec::new, |stream| stream.leader_epochs.clone()))
    }
}

#[cfg(test)]
mod tests;
