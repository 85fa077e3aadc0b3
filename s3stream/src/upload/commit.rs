//! Committing an object in the metadata (rule U3).
//!
//! This file owns the command of a commit, which stays the same each time it is sent, and the update of the committed
//! floor and number once it is answered.

use highwater_object_format::{StreamPart, WrittenObject};
use highwater_runtime::crash_point;
use highwater_types::{ObjectId, StreamId, WalPosition};

use super::Uploads;
use crate::{Claim, HandedOver, ObjectCommit, StreamError};

impl Uploads {
    /// Commits the claims of an object that was put, or that has only empty checkpoints and needs no put. Without an object
    /// the floor moves alone, because the log is trimmed only below a committed floor (D2), or streams are handed over. It
    /// sends the same command until it is answered, since a repeat gets the first answer (U3), and then waits until the
    /// node's own image shows it (U6).
    ///
    /// # Errors
    /// An error that is final, with which the node epoch ends.
    pub(super) async fn commit(
        &self,
        object: ObjectId,
        written: Option<&WrittenObject>,
        floor: WalPosition,
        handed_over: Vec<HandedOver>,
    ) -> Result<(), StreamError> {
        let parts = written.iter().flat_map(|written| &written.parts);
        let claims = parts.map(|part| claim(object, part)).collect();
        let object_bytes = written.map_or(0, |written| written.bytes);
        // a log that is put back in an older state ends before this (D2)
        let confirmed = self.backlog().end().map_or(floor, |end| end.max(floor));
        let commit = ObjectCommit {
            epoch: self.writer.epoch,
            object,
            object_bytes,
            claims,
            floor,
            lowest_in_flight: object.number,
            confirmed,
            recovering: self.is_recovering(),
            handed_over,
        };
        loop {
            match self.commit_once(commit.clone()).await {
                Ok(()) => break,
                Err(error @ StreamError::Unavailable { .. }) => self.rest(error).await?,
                Err(error) => return Err(error),
            }
        }
        self.set_committed_floor(floor);
        self.numbers.commit(object.number);
        self.succeeded();
        Ok(())
    }

    async fn commit_once(&self, commit: ObjectCommit) -> Result<(), StreamError> {
        let committed = self.metadata.commit(commit).await?;
        crash_point("upload-after-commit");
        self.metadata.seen(committed.at).await
    }
}

/// The claim that a part of an object makes on its stream.
pub(super) fn claim(object: ObjectId, part: &StreamPart) -> (StreamId, Claim) {
    let directory = &part.directory;
    let checkpoint = directory.checkpoint.as_ref();
    let claim = Claim {
        range: directory.range.clone(),
        object: Some(object),
        part: part.blocks.clone(),
        max_timestamp: directory.max_timestamp,
        rolls: directory.rolls.clone(),
        open_from: directory.open_from,
        checkpoint_bytes: checkpoint.map(|bytes| bytes.len() as u64),
        leader_epoch: directory.leader_epoch,
    };
    (directory.stream, claim)
}
