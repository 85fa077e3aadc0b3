//! The invariants that hold after every command, for tests and the simulation.

use std::collections::{BTreeMap, BTreeSet};

use highwater_types::{ObjectId, ObjectKind, StreamId};

use crate::image::{EpochImage, EpochState, MetadataImage, StreamImage};

impl MetadataImage {
    /// Checks the invariants.
    ///
    /// # Errors
    /// A description of the first broken invariant.
    pub fn check(&self) -> Result<(), String> {
        for (id, node) in &self.nodes {
            let open = |epoch: &EpochImage| epoch.state == EpochState::Open;
            let open = node.epochs.iter().filter(|(_, epoch)| open(epoch));
            if open
                .map(|(epoch, _)| *epoch)
                .any(|epoch| epoch != node.epoch)
            {
                return Err(format!("E2: an epoch of node {id} is open beside its last"));
            }
        }
        let mut references: BTreeMap<ObjectId, u64> = BTreeMap::new();
        for (id, stream) in &self.streams {
            check_stream(*id, stream)?;
            let partition = self.topic_by_id(stream.topic);
            let partition = partition.and_then(|topic| topic.partition(stream.partition));
            if partition.is_none_or(|partition| partition.stream != *id) {
                return Err(format!("stream {id} is of no partition"));
            }
            for claim in stream.claims.values().chain(&stream.checkpoint) {
                if let Some(name) = claim.object {
                    let named = ObjectId::try_from(name)
                        .map_err(|error| format!("stream {id} names no object: {error}"))?;
                    *references.entry(named).or_default() += 1;
                }
            }
        }
        if let Some(id) = self
            .objects
            .keys()
            .find(|id| self.condemned.contains_key(*id))
        {
            return Err(format!("G1: object {id} is named and condemned"));
        }
        self.check_covers()?;
        let partitions: usize = self
            .topics
            .values()
            .map(|topic| topic.partitions.len())
            .sum();
        if partitions != self.streams.len() || self.topics.len() != self.topic_names.len() {
            return Err("a partition has no stream, or a topic no name".to_owned());
        }
        for (id, object) in &self.objects {
            if references.remove(id).unwrap_or(0) != object.references || object.references == 0 {
                return Err(format!("I8: references of object {id} are miscounted"));
            }
        }
        match references.first_key_value() {
            Some((id, _)) => Err(format!("I8: object {id} is named and gone")),
            None => Ok(()),
        }
    }
}

impl MetadataImage {
    /// Checks that each index object covers WAL objects of an epoch that is sealed after them, and no two the same.
    fn check_covers(&self) -> Result<(), String> {
        let mut covered = BTreeSet::new();
        for (id, covers) in self.covered() {
            let node = self.nodes.get(&covers.node.0);
            let state = node.and_then(|node| node.epochs.get(&covers.epoch));
            let is_sealed = state.is_none_or(|epoch| match epoch.state {
                EpochState::Closed(seal) => seal.at == covers.end,
                EpochState::Open | EpochState::Fenced => false,
            });
            if !is_sealed || covers.first >= covers.end || id.kind != ObjectKind::Index {
                return Err(format!("W9: {id} covers objects that are not sealed"));
            }
            if !covered.insert((covers.node, covers.epoch)) {
                return Err(format!("W9: {id} covers objects that another one covers"));
            }
        }
        Ok(())
    }
}

/// Checks the invariants of one stream.
fn check_stream(id: StreamId, stream: &StreamImage) -> Result<(), String> {
    let mut end = None;
    for claim in stream.claims.values() {
        if end.is_some_and(|end| end != claim.first) {
            return Err(format!("I4: a hole or an overlap in stream {id}"));
        }
        end = Some(claim.next);
    }
    if end.is_some_and(|end| end != stream.committed_end) {
        return Err(format!(
            "I4: the last claim of stream {id} does not end at the committed end"
        ));
    }
    if stream
        .leader_epochs
        .windows(2)
        .any(|pair| pair[0].0 >= pair[1].0 || pair[0].1 > pair[1].1)
    {
        return Err(format!("E5: leader epochs of stream {id} do not grow"));
    }
    if stream
        .claims
        .values()
        .any(|claim| claim.next <= stream.kept_from())
    {
        return Err(format!("U4: a claim of stream {id} is no longer needed"));
    }
    let closed = stream.rolls.len().saturating_sub(1);
    if stream
        .rolls()
        .take(closed)
        .any(|(_, end)| end <= stream.start)
        || stream.rolls().any(|(roll, end)| roll.base >= end)
    {
        return Err(format!(
            "F6: stream {id} has a roll that is empty or not needed"
        ));
    }
    let mut claims = stream.claims.values();
    let first = claims
        .next()
        .map_or(stream.committed_end, |claim| claim.first);
    if first > stream.kept_from().min(stream.committed_end) {
        return Err(format!(
            "F5: deltas of stream {id} were dropped before a checkpoint"
        ));
    }
    Ok(())
}
