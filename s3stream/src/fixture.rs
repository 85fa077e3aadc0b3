//! Shared parts of tests.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_types::{LeaderEpoch, LogIndex, StreamId, StreamOffset, StreamRange, Timestamp};

use crate::{Claim, Committed, ObjectCommit, Recorded, StreamBounds, StreamError, StreamMetadata};

/// A metadata of streams that knows their claims. Commits and trims are accepted, and change nothing.
#[derive(Debug)]
pub struct KnownClaims {
    claims: BTreeMap<StreamId, Vec<Claim>>,
    are_looked_up: bool,
}

impl KnownClaims {
    /// Makes a metadata of these streams, with the claims of each in order.
    #[must_use]
    pub fn new(claims: impl IntoIterator<Item = (StreamId, Vec<Claim>)>) -> Self {
        Self {
            claims: claims.into_iter().collect(),
            are_looked_up: true,
        }
    }

    /// Lets a lookup of claims by offset panic, for a test in which there must be none.
    #[must_use]
    pub fn without_lookups(mut self) -> Self {
        self.are_looked_up = false;
        self
    }
}

#[async_trait]
impl StreamMetadata for KnownClaims {
    async fn open(
        &self,
        streams: &[(StreamId, LeaderEpoch)],
    ) -> Result<Vec<Result<StreamBounds, StreamError>>, StreamError> {
        let bounds = |(id, _): &(StreamId, LeaderEpoch)| {
            let end = self.claims[id].last().map_or(0, |claim| claim.range.end);
            Ok(StreamBounds {
                start: 0,
                confirmed: end,
                next: end,
            })
        };
        Ok(streams.iter().map(bounds).collect())
    }

    async fn commit(&self, _: ObjectCommit) -> Result<Committed, StreamError> {
        Ok(Committed::default())
    }

    async fn seen(&self, _: LogIndex) -> Result<(), StreamError> {
        Ok(())
    }

    async fn locate(
        &self,
        id: StreamId,
        range: StreamRange,
        max: usize,
    ) -> Result<Vec<Claim>, StreamError> {
        assert!(self.are_looked_up, "a claim is looked up by its offset");
        let overlaps =
            |claim: &&Claim| claim.range.end > range.start && claim.range.start < range.end;
        let claims = self.claims[&id].iter().filter(overlaps);
        Ok(claims.take(max).cloned().collect())
    }

    async fn locate_time(
        &self,
        id: StreamId,
        range: StreamRange,
        at: Timestamp,
    ) -> Result<Option<Claim>, StreamError> {
        let all = self.locate(id, range, usize::MAX).await?;
        Ok(all.into_iter().find(|claim| claim.max_timestamp >= at))
    }

    async fn recorded(&self, id: StreamId) -> Result<Recorded, StreamError> {
        Ok(Recorded {
            claims: self.claims[&id].clone(),
            ..Recorded::default()
        })
    }

    async fn trim(&self, _: StreamId, _: LeaderEpoch, _: StreamOffset) -> Result<(), StreamError> {
        Ok(())
    }

    async fn leader_epochs(
        &self,
        _: StreamId,
    ) -> Result<Vec<(LeaderEpoch, StreamOffset)>, StreamError> {
        Ok(Vec::new())
    }

    async fn label(&self, _: StreamId) -> Result<Bytes, StreamError> {
        Ok(Bytes::new())
    }
}
