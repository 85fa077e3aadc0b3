//! Claims and the objects they name (rules U3 to U5, G1).

use std::sync::Arc;

use highwater_types::{LeaderEpoch, NodeEpoch, NodeId, ObjectId, StreamId};

use crate::command::{ClaimOfStream, ClaimRecord, CommitObject, ObjectName, Outcome, Rejection};
use crate::image::{MetadataImage, NodeImage, ObjectImage, StreamImage};

enum Verdict {
    Drop(StreamId),
    Keep(StreamId, ClaimRecord),
}

impl MetadataImage {
    /// U3: one command, applied stream by stream; a repeat gets the first answer; a gap refuses all.
    pub(super) fn commit_object(&mut self, commit: CommitObject) -> Result<Outcome, Rejection> {
        let epoch = NodeEpoch(commit.node_epoch);
        let (node_id, node) = self.open_epoch(epoch)?;
        if node_id != commit.node {
            return Err(Rejection::Fenced(epoch));
        }
        if let Some((last_epoch, last, dropped)) = &node.last_upload
            && *last_epoch == epoch
            && commit.number <= *last
        {
            let dropped = if commit.number == *last {
                dropped.clone()
            } else {
                Vec::new()
            };
            return Ok(Outcome::Committed { dropped });
        }
        let mut node: NodeImage = (**node).clone();
        let object = ObjectId {
            node: NodeId(node_id),
            epoch,
            rewrite: false,
            number: commit.number,
        };
        let verdicts = commit
            .claims
            .into_iter()
            .map(|of| self.judge(of, epoch, commit.recovering, object))
            .collect::<Result<Vec<_>, _>>()?;
        self.objects.insert(
            object,
            ObjectImage {
                bytes: commit.bytes,
                references: 0,
            },
        );
        let mut dropped = Vec::new();
        for verdict in verdicts {
            match verdict {
                Verdict::Drop(stream) => dropped.push(stream),
                Verdict::Keep(stream, claim) => self.add_claim(stream, claim),
            }
        }
        self.condemn_if_unreferenced(object);
        node.floor = node.floor.max(commit.floor);
        node.confirmed = node.confirmed.max(commit.confirmed);
        node.last_upload = Some((epoch, commit.number, dropped.clone()));
        self.nodes.insert(node_id, Arc::new(node));
        Ok(Outcome::Committed { dropped })
    }

    fn judge(
        &self,
        of: ClaimOfStream,
        epoch: NodeEpoch,
        recovering: bool,
        object: ObjectId,
    ) -> Result<Verdict, Rejection> {
        let id = StreamId(of.stream);
        let mut claim = of.claim.ok_or(Rejection::NotUnderstood)?;
        let Some(stream) = self.streams.get(&id) else {
            return Ok(Verdict::Drop(id));
        };
        let held = stream.leader_epoch == LeaderEpoch(claim.leader_epoch)
            && (recovering || stream.held_by == Some(epoch));
        if !held || claim.next <= stream.committed_end {
            return Ok(Verdict::Drop(id));
        }
        if claim.first > stream.committed_end {
            let committed = stream.committed_end;
            return Err(Rejection::Gap {
                stream: id,
                committed,
                first: claim.first,
            });
        }
        claim.first = stream.committed_end;
        // U4: what lies below the start keeps its range, but not its object
        claim.object =
            (claim.next > stream.start || claim.has_checkpoint).then(|| ObjectName::from(object));
        Ok(Verdict::Keep(id, claim))
    }

    fn add_claim(&mut self, id: StreamId, claim: ClaimRecord) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let mut stream: StreamImage = (**stream).clone();
        stream.committed_end = claim.next;
        let claim = Arc::new(claim);
        if claim.has_checkpoint {
            self.reference(&claim);
            if let Some(older) = stream.checkpoint.replace(Arc::clone(&claim)) {
                self.unreference(&older);
            }
        }
        if claim.next > stream.start {
            self.reference(&claim);
            stream.claims.insert(claim.first, claim);
        }
        self.streams.insert(id, Arc::new(stream));
    }

    fn reference(&mut self, claim: &ClaimRecord) {
        if let Some(name) = claim.object
            && let Some(object) = self.objects.get_mut(&ObjectId::from(name))
        {
            object.references += 1;
        }
    }

    /// I8: an object goes when nothing refers to it.
    pub(super) fn unreference(&mut self, claim: &ClaimRecord) {
        let Some(name) = claim.object else { return };
        let id = ObjectId::from(name);
        if let Some(object) = self.objects.get_mut(&id) {
            object.references = object.references.saturating_sub(1);
        }
        self.condemn_if_unreferenced(id);
    }

    fn condemn_if_unreferenced(&mut self, id: ObjectId) {
        if self
            .objects
            .get(&id)
            .is_some_and(|object| object.references == 0)
        {
            self.objects.remove(&id);
            self.condemned.insert(id, self.at);
        }
    }
}
