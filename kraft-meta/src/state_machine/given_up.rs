//! Giving up a disk WAL that is lost (rules D4, D5).

use std::sync::Arc;

use highwater_types::{NodeEpoch, NodeId, StreamId};

use crate::command::{ClaimRecord, GiveUpEpoch, Outcome, Rejection};
use crate::image::{EpochState, LOST_OFFSETS, MetadataImage};

impl MetadataImage {
    /// Gives up the disk WAL of a node. The first command fences its epoch, if that is open, and the next one closes it:
    /// so the proposer can wait in between, for the session after which a zombie is to acknowledge nothing (D5). Each
    /// stream that the epochs hold goes on above all that they may have acknowledged. A claim without an object takes the
    /// range between, so that none of its offsets is given out again.
    pub(super) fn give_up_epoch(&mut self, give_up: GiveUpEpoch) -> Result<Outcome, Rejection> {
        let id = NodeEpoch(give_up.epoch);
        let node = self.nodes.get(&give_up.node).ok_or(Rejection::Changed)?;
        if node.last_on_disk() != Some(id) {
            return Err(Rejection::Changed);
        }
        if node.is_open(id) {
            self.change_epoch(give_up.node, id, |epoch| epoch.state = EpochState::Fenced);
            return Ok(Outcome::Done);
        }
        // a start on another kind of log may be recovering this one
        if node.is_live() {
            return Err(Rejection::InSession(node.epoch));
        }
        let given_up = node.on_disk().map(|(epoch, image)| (epoch, image.clone()));
        let given_up: Vec<_> = given_up.collect();
        for (stream, _) in self.held_on_disk(node) {
            self.lose(stream);
        }
        for (epoch, image) in given_up {
            self.remove_epoch(give_up.node, epoch);
            self.condemn_in_flight(NodeId(give_up.node), epoch, &image);
        }
        Ok(Outcome::Done)
    }

    /// Records that the offsets from the committed end on are lost. At the end of all offsets nothing is left to give out.
    fn lose(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let first = stream.committed_end;
        let next = first.saturating_add(LOST_OFFSETS);
        if first == next {
            return;
        }
        let lost = ClaimRecord {
            first,
            next,
            max_timestamp: -1,
            open_from: -1,
            leader_epoch: stream.leader_epoch.0,
            ..ClaimRecord::default()
        };
        self.add_claim(id, lost, &[]);
        if let Some(stream) = self.streams.get_mut(&id) {
            let stream = Arc::make_mut(stream);
            let is_behind = stream.lost.end == first && !stream.lost.is_empty();
            let from = if is_behind { stream.lost.start } else { first };
            stream.lost = from..next;
        }
    }
}
