//! Opening and trimming streams (rules E4, E5, U4).

use std::sync::Arc;

use highwater_types::{LeaderEpoch, NodeEpoch, NodeId, StreamId};

use crate::command::{OpenStreams, Outcome, Rejection, StreamEpoch, TrimStream};
use crate::image::{MetadataImage, StreamImage};

impl MetadataImage {
    pub(super) fn open_streams(&mut self, open: &OpenStreams) -> Result<Outcome, Rejection> {
        let epoch = NodeEpoch(open.node_epoch);
        let (node, image) = self.open_epoch(epoch)?;
        // a node closes its former epochs before it opens streams (E3)
        if let Some((former, _)) = image.fenced().next() {
            return Err(Rejection::Unclosed(former));
        }
        let leader = (NodeId(node), epoch);
        let opened = open
            .streams
            .iter()
            .map(|asked| self.open_stream(leader, *asked))
            .collect();
        Ok(Outcome::Opened(opened))
    }

    fn open_stream(
        &mut self,
        leader: (NodeId, NodeEpoch),
        asked: StreamEpoch,
    ) -> Result<(i64, i64), Rejection> {
        let id = StreamId(asked.stream);
        let stream = self.streams.get(&id).ok_or(Rejection::UnknownStream(id))?;
        let partition = self
            .topic_by_id(stream.topic)
            .and_then(|topic| topic.partition(stream.partition))
            .ok_or(Rejection::UnknownStream(id))?;
        let asked_epoch = LeaderEpoch(asked.leader_epoch);
        if partition.leader != Some(leader) || partition.leader_epoch != asked_epoch {
            return Err(Rejection::NotHeld {
                stream: id,
                held: partition.leader_epoch,
            });
        }
        let mut stream: StreamImage = (**stream).clone();
        if stream.leader_epoch != asked_epoch {
            stream.leader_epoch = asked_epoch;
            stream
                .leader_epochs
                .push((asked_epoch, stream.committed_end));
            collapse(&mut stream);
        }
        stream.held_by = Some(leader.1);
        let bounds = (stream.start, stream.committed_end.max(stream.start));
        self.streams.insert(id, Arc::new(stream));
        Ok(bounds)
    }

    /// Moves the start up; never moves it down, and may be repeated. The start may pass the committed end (U4). An
    /// epoch that is not open or does not hold the stream is refused (E6).
    pub(super) fn trim_stream(&mut self, trim: TrimStream) -> Result<Outcome, Rejection> {
        let id = StreamId(trim.stream);
        let stream = self.streams.get(&id).ok_or(Rejection::UnknownStream(id))?;
        let epoch = NodeEpoch(trim.node_epoch);
        self.open_epoch(epoch)?;
        let held = stream.leader_epoch;
        if stream.held_by != Some(epoch) || held != LeaderEpoch(trim.leader_epoch) {
            return Err(Rejection::NotHeld { stream: id, held });
        }
        if trim.start <= stream.start {
            return Ok(Outcome::Done);
        }
        let mut stream = (**stream).clone();
        stream.start = trim.start;
        collapse(&mut stream);
        self.let_go(&mut stream);
        self.streams.insert(id, Arc::new(stream));
        Ok(Outcome::Done)
    }

    /// Drops the claims and the rolls of a stream that are no longer needed.
    pub(super) fn let_go(&mut self, stream: &mut StreamImage) {
        stream.forget_rolls();
        let from = stream.kept_from();
        let gone: Vec<_> = stream
            .claims
            .iter()
            .take_while(|(_, claim)| claim.next <= from)
            .map(|(first, claim)| (*first, Arc::clone(claim)))
            .collect();
        for (first, claim) in gone {
            stream.claims.remove(&first);
            self.unreference(&claim);
        }
    }
}

/// Merges the leader epochs that began below the start into one that begins at the start (E5).
fn collapse(stream: &mut StreamImage) {
    let start = stream.start;
    let below = stream
        .leader_epochs
        .iter()
        .filter(|(_, first)| *first <= start)
        .count();
    if below > 0 {
        stream.leader_epochs.drain(..below - 1);
        stream.leader_epochs[0].1 = start;
    }
}
