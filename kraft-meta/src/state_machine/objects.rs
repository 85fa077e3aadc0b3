//! Claims and the objects they name (rules U3 to U5, G1).

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_types::limits::UPLOADS_IN_FLIGHT_MAX;
use highwater_types::{LeaderEpoch, NodeEpoch, NodeId, ObjectId, ObjectKind, StreamId};

use crate::command::{
    ClaimOfStream, ClaimRecord, CommitObject, ObjectName, Outcome, Position, Rejection, RollRecord,
};
use crate::image::{CondemnedObject, MetadataImage, NodeImage, ObjectImage, StreamImage};

enum Verdict {
    Drop(StreamId),
    Keep(StreamId, ClaimRecord, Vec<RollRecord>),
}

impl MetadataImage {
    /// Commits an upload in one command, stream by stream. A repeat gets the first answer, and a gap refuses the whole
    /// command (U3).
    pub(super) fn commit_object(&mut self, commit: CommitObject) -> Result<Outcome, Rejection> {
        let epoch = NodeEpoch(commit.node_epoch);
        let (node_id, node) = self.open_epoch(epoch)?;
        if node_id != commit.node {
            return Err(Rejection::Fenced(epoch));
        }
        // a node commits the batches of its former epochs, closes these, and only then commits its own batches (E3)
        if commit.recovering == node.fenced().next().is_none() {
            return Err(Rejection::NotUnderstood);
        }
        let image = &node.epochs[&epoch];
        let last = image.last_upload;
        if commit.number <= last {
            return match commit.number == last {
                true => Ok(Outcome::Committed {
                    dropped: image.last_dropped.clone(),
                }),
                false => Err(Rejection::Changed),
            };
        }
        if commit.handed_over.is_empty() {
            return self.commit_claims(commit);
        }
        // a refusal changes nothing, and the end of a stream is known only once its last claim is registered
        let mut changed = self.clone();
        let handed_over = commit.handed_over.clone();
        let outcome = changed.commit_claims(commit)?;
        for stream in handed_over {
            changed.hand_over((NodeId(node_id), epoch), stream)?;
        }
        *self = changed;
        Ok(outcome)
    }

    /// Registers an upload with a number that none had before.
    fn commit_claims(&mut self, commit: CommitObject) -> Result<Outcome, Rejection> {
        let epoch = NodeEpoch(commit.node_epoch);
        let (node_id, node) = self.open_epoch(epoch)?;
        let node: NodeImage = (**node).clone();
        let mut image = node.epochs[&epoch].clone();
        let former: Vec<NodeEpoch> = node.fenced().map(|(former, _)| former).collect();
        let last = image.last_upload;
        if commit.number - last > UPLOADS_IN_FLIGHT_MAX {
            return Err(Rejection::NotUnderstood);
        }
        let object = ObjectId {
            node: NodeId(node_id),
            epoch,
            kind: ObjectKind::Upload,
            number: commit.number,
        };
        // with `recovering`, the claims are those of a fenced epoch of the same node (E3)
        let is_held = |held: Option<NodeEpoch>| match commit.recovering {
            true => held.is_some_and(|held| former.contains(&held)),
            false => held == Some(epoch),
        };
        // the object holds one reference itself until all claims are added
        let registered = ObjectImage {
            bytes: commit.bytes,
            references: 1,
            covers: None,
        };
        let dropped = self.register_object(object, registered, commit.claims, &is_held)?;
        // commits come in the order of their numbers, so that a number that was passed over is never committed (U5)
        for number in (last + 1..commit.number).filter(|n| *n < commit.lowest_in_flight) {
            self.condemn(ObjectId { number, ..object });
        }
        let position = |position: Option<Position>| position.unwrap_or_default().into();
        image.floor = image.floor.max(position(commit.floor));
        image.confirmed = image.confirmed.max(position(commit.confirmed));
        image.last_upload = commit.number;
        image.last_dropped.clone_from(&dropped);
        self.put_epoch(node_id, node, (epoch, image));
        Ok(Outcome::Committed { dropped })
    }

    /// Adds an object with its claims, and returns the streams whose claims were dropped. The object comes with one
    /// reference, which ends when all claims are added. `is_held` tells whether the claims belong to the epoch that
    /// holds a stream open. A refusal changes nothing.
    pub(super) fn register_object(
        &mut self,
        object: ObjectId,
        registered: ObjectImage,
        claims: Vec<ClaimOfStream>,
        is_held: &dyn Fn(Option<NodeEpoch>) -> bool,
    ) -> Result<Vec<StreamId>, Rejection> {
        if names_a_leadership_twice(&claims) {
            return Err(Rejection::NotUnderstood);
        }
        let verdicts = claims
            .into_iter()
            .map(|of| self.judge(of, object, is_held))
            .collect::<Result<Vec<_>, _>>()?;
        self.objects.insert(object, registered);
        let mut dropped = Vec::new();
        for verdict in verdicts {
            match verdict {
                Verdict::Drop(stream) => dropped.push(stream),
                Verdict::Keep(stream, claim, rolls) => self.add_claim(stream, claim, &rolls),
            }
        }
        self.unreference_object(object);
        Ok(dropped)
    }

    fn judge(
        &self,
        of: ClaimOfStream,
        object: ObjectId,
        is_held: &dyn Fn(Option<NodeEpoch>) -> bool,
    ) -> Result<Verdict, Rejection> {
        let id = StreamId(of.stream);
        let mut claim = of.claim.ok_or(Rejection::NotUnderstood)?;
        // a checkpoint without records may stand at the committed end
        let alone = claim.first == claim.next && claim.checkpoint_bytes.is_some();
        let is_range = 0 <= claim.first && (claim.first < claim.next || alone);
        if !is_range || claim.part_start > claim.part_end {
            return Err(Rejection::NotUnderstood);
        }
        // a claim on a stream, or under a leader epoch, that was never assigned comes from a node that saw metadata
        // that is lost: it must not be dropped silently (D2)
        let Some(stream) = self.streams.get(&id) else {
            return match id.0 < self.next_stream {
                true => Ok(Verdict::Drop(id)),
                false => Err(Rejection::UnknownStream(id)),
            };
        };
        if LeaderEpoch(claim.leader_epoch) > stream.leader_epoch {
            let held = stream.leader_epoch;
            return Err(Rejection::NotHeld { stream: id, held });
        }
        let held =
            stream.leader_epoch == LeaderEpoch(claim.leader_epoch) && is_held(stream.held_by);
        let has_it =
            claim.next <= stream.committed_end && !(alone && claim.next == stream.committed_end);
        if !held || has_it {
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
        // a claim below the start keeps its range, and names its object only if the object has state of the stream (U4)
        let is_needed = claim.next > stream.start || claim.checkpoint_bytes != Some(0);
        claim.object = is_needed.then(|| ObjectName::from(object));
        Ok(Verdict::Keep(id, claim, of.rolls))
    }

    pub(super) fn add_claim(&mut self, id: StreamId, claim: ClaimRecord, rolls: &[RollRecord]) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let mut stream: StreamImage = (**stream).clone();
        stream.committed_end = claim.next;
        stream.add_rolls(rolls, claim.first..claim.next);
        if let Some(bytes) = claim.checkpoint_bytes {
            // an empty checkpoint needs no object
            let object = claim.object.filter(|_| bytes > 0);
            let checkpoint = ClaimRecord {
                object,
                ..claim.clone()
            };
            self.reference(&checkpoint);
            if let Some(older) = stream.checkpoint.replace(Arc::new(checkpoint)) {
                self.unreference(&older);
            }
        }
        if claim.first < claim.next {
            self.reference(&claim);
            stream.claims.insert(claim.first, Arc::new(claim));
        }
        self.let_go(&mut stream);
        self.streams.insert(id, Arc::new(stream));
    }

    fn reference(&mut self, claim: &ClaimRecord) {
        if let Some(id) = object_of(claim)
            && let Some(object) = self.objects.get_mut(&id)
        {
            object.references += 1;
        }
    }

    /// Drops a claim's reference; an object without references is condemned (I8).
    pub(super) fn unreference(&mut self, claim: &ClaimRecord) {
        if let Some(id) = object_of(claim) {
            self.unreference_object(id);
        }
    }

    /// Condemns an object, which is final (G1).
    pub(super) fn condemn(&mut self, id: ObjectId) {
        let (at, covers) = (self.at, None);
        self.condemned.insert(id, CondemnedObject { at, covers });
    }

    fn unreference_object(&mut self, id: ObjectId) {
        let Some(object) = self.objects.get_mut(&id) else {
            return;
        };
        object.references = object.references.saturating_sub(1);
        if object.references == 0 {
            let (at, covers) = (self.at, object.covers);
            self.objects.remove(&id);
            self.condemned.insert(id, CondemnedObject { at, covers });
        }
    }
}

/// The object that a claim of the image names, if any; `judge` has checked the name.
fn object_of(claim: &ClaimRecord) -> Option<ObjectId> {
    claim.object.and_then(|name| name.try_into().ok())
}

/// Two leaderships of a stream are never one claim (C2), and at most one of them holds the stream.
fn names_a_leadership_twice(claims: &[ClaimOfStream]) -> bool {
    let mut seen = BTreeSet::new();
    let epoch = |of: &ClaimOfStream| of.claim.as_ref().map(|claim| claim.leader_epoch);
    !claims.iter().all(|of| seen.insert((of.stream, epoch(of))))
}
