//! Registration, fencing and closing of node epochs (rules E), and the assignment of leaders (E4, E5).

use std::sync::Arc;

use highwater_types::limits::UPLOADS_IN_FLIGHT_MAX;
use highwater_types::{
    LeaderEpoch, LogIndex, NodeEpoch, NodeId, ObjectId, ObjectKind, StreamId, WalPosition,
};

use crate::command::{
    AssignLeaders, CloseEpoch, Closing, EpochSwept, FenceEpoch, Outcome, RegisterNode, Rejection,
    Sealed, StreamEpoch, WalKind,
};
use crate::image::{EpochImage, EpochState, MetadataImage, NodeImage};

impl MetadataImage {
    /// Registers a node. The new epoch is the index of the command (E1). A repeat with the same incarnation gets the
    /// same epoch, and every earlier epoch of the node is fenced (E2).
    pub(super) fn register_node(
        &mut self,
        at: LogIndex,
        register: RegisterNode,
    ) -> Result<Outcome, Rejection> {
        let wal = WalKind::try_from(register.wal).map_err(|_unknown| Rejection::NotUnderstood)?;
        let before = self.nodes.get(&register.node);
        if let Some(node) = before.filter(|node| node.incarnation == register.incarnation) {
            let epoch = node.epochs.get(&node.epoch);
            let open = epoch.filter(|epoch| epoch.state == EpochState::Open);
            return match open {
                Some(open) => Ok(registered(node.epoch, open)),
                None => Err(Rejection::Fenced(node.epoch)),
            };
        }
        if before.map_or(0, |node| node.epoch.0) != register.after {
            return Err(Rejection::Changed);
        }
        let mut epochs = before.map_or_else(Default::default, |node| node.epochs.clone());
        for former in epochs.values_mut() {
            if former.state == EpochState::Open {
                former.state = EpochState::Fenced;
            }
        }
        let epoch = NodeEpoch(at.0);
        let start = WalPosition { epoch, at: 0 };
        // the new epoch continues the log of a disk WAL
        let former = epochs.values().rfind(|former| former.wal == wal);
        let former = former.filter(|_| wal == WalKind::Disk);
        let opened = EpochImage {
            wal,
            state: EpochState::Open,
            floor: former.map_or(start, |former| former.floor),
            confirmed: former.map_or(start, |former| former.confirmed),
            last_upload: 0,
            last_dropped: Vec::new(),
        };
        let outcome = registered(epoch, &opened);
        epochs.insert(epoch, opened);
        let node = NodeImage {
            epoch,
            incarnation: register.incarnation,
            endpoints: register.endpoints,
            epochs,
        };
        self.nodes.insert(register.node, Arc::new(node));
        Ok(outcome)
    }

    /// Fences an epoch, which changes nothing from then on. A wrong decision to fence costs time, never data (E6).
    pub(super) fn fence_epoch(&mut self, fence: FenceEpoch) -> Result<Outcome, Rejection> {
        let id = NodeEpoch(fence.epoch);
        let (node, mut image) = self.epoch_of(fence.node, id)?;
        if image.state != EpochState::Open {
            return Err(Rejection::Fenced(id));
        }
        image.state = EpochState::Fenced;
        self.put_epoch(fence.node, node, (id, image));
        Ok(Outcome::Done)
    }

    /// Closes a fenced epoch (E3). Another epoch may then lead its partitions, and its orphaned objects are condemned
    /// by name (U5).
    pub(super) fn close_epoch(&mut self, close: CloseEpoch) -> Result<Outcome, Rejection> {
        let id = NodeEpoch(close.epoch);
        let by = NodeEpoch(close.by);
        let (closer, _) = self.open_epoch(by)?;
        let (_, image) = self.epoch_of(close.node, id)?;
        if image.state != EpochState::Fenced {
            // another sealer has closed the epoch before (W8)
            return Err(Rejection::Changed);
        }
        match (close.how.ok_or(Rejection::NotUnderstood)?, image.wal) {
            // only the epoch's own node has the data directory (D4)
            (Closing::Recovered(_), WalKind::Disk) if closer == close.node => {
                self.remove_epoch(close.node, id);
            }
            (Closing::Sealed(sealed), WalKind::Object) => {
                self.seal_epoch(close.node, id, by, sealed)?;
            }
            _ => return Err(Rejection::NotUnderstood),
        }
        let mut orphan = ObjectId {
            node: NodeId(close.node),
            epoch: id,
            kind: ObjectKind::Upload,
            number: image.last_upload,
        };
        for _ in 0..UPLOADS_IN_FLIGHT_MAX {
            orphan.number += 1;
            self.condemn(orphan);
        }
        Ok(Outcome::Done)
    }

    /// Registers the sealed range in the command that closes the epoch (W8, W9).
    fn seal_epoch(
        &mut self,
        node: i32,
        id: NodeEpoch,
        by: NodeEpoch,
        sealed: Sealed,
    ) -> Result<(), Rejection> {
        let at = WalPosition::from(sealed.at.ok_or(Rejection::NotUnderstood)?);
        let (image_of_node, mut image) = self.epoch_of(node, id)?;
        if at.epoch != id || at < image.floor {
            return Err(Rejection::NotUnderstood);
        }
        if let Some(index) = sealed.index.map(ObjectId::try_from).transpose()? {
            let known = self.objects.contains_key(&index) || self.condemned.contains_key(&index);
            if index.epoch != by || index.kind != ObjectKind::Index || known {
                return Err(Rejection::NotUnderstood);
            }
            self.register_object(index, sealed.bytes, sealed.claims, &|held| held == Some(id))?;
        } else if !sealed.claims.is_empty() {
            return Err(Rejection::NotUnderstood);
        }
        image.state = EpochState::Closed(at);
        self.put_epoch(node, image_of_node, (id, image));
        Ok(())
    }

    /// Forgets an epoch whose object WAL was swept: only its seal is left, and no node has to know that (W12).
    pub(super) fn epoch_swept(&mut self, swept: EpochSwept) -> Result<Outcome, Rejection> {
        let id = NodeEpoch(swept.epoch);
        let (_, image) = self.epoch_of(swept.node, id)?;
        if !matches!(image.state, EpochState::Closed(_)) {
            return Err(Rejection::Unclosed(id));
        }
        self.remove_epoch(swept.node, id);
        Ok(Outcome::Done)
    }

    /// Assigns each of the streams to a leader under its next leader epoch, independently of the others (E4, E5).
    pub(super) fn assign_leaders(&mut self, assign: &AssignLeaders) -> Result<Outcome, Rejection> {
        let epoch = NodeEpoch(assign.node_epoch);
        let (node, _) = self.open_epoch(epoch)?;
        let leader = (NodeId(node), epoch);
        let streams = assign.streams.iter();
        let assigned = streams.map(|asked| self.assign_leader(leader, *asked));
        Ok(Outcome::Assigned(assigned.collect()))
    }

    fn assign_leader(
        &mut self,
        leader: (NodeId, NodeEpoch),
        asked: StreamEpoch,
    ) -> Result<LeaderEpoch, Rejection> {
        let id = StreamId(asked.stream);
        let stream = self.streams.get(&id).ok_or(Rejection::UnknownStream(id))?;
        let index = usize::try_from(stream.partition).unwrap_or(usize::MAX);
        let topic = self.topic_by_id(stream.topic);
        let topic = topic.ok_or(Rejection::UnknownStream(id))?;
        let partition = topic.partitions.get(index);
        let partition = partition.ok_or(Rejection::UnknownStream(id))?;
        let held = partition.leader_epoch;
        if held != LeaderEpoch(asked.leader_epoch) {
            return Err(Rejection::NotHeld { stream: id, held });
        }
        if let Some((former, epoch)) = partition.leader
            && self.is_unclosed(former, epoch)
        {
            return Err(Rejection::Unclosed(epoch));
        }
        let next = held.0.checked_add(1).map(LeaderEpoch);
        let next = next.ok_or(Rejection::NotUnderstood)?;
        // the topic is copied once for all streams of a command, while readers keep the image they have
        let name = Arc::clone(&topic.name);
        let topic = self.topics.get_mut(&name).map(Arc::make_mut);
        let partition = topic.and_then(|topic| topic.partitions.get_mut(index));
        let partition = partition.ok_or(Rejection::UnknownStream(id))?;
        partition.leader = Some(leader);
        partition.leader_epoch = next;
        Ok(next)
    }

    /// The node of an epoch that is open (E6).
    pub(super) fn open_epoch(&self, epoch: NodeEpoch) -> Result<(i32, &Arc<NodeImage>), Rejection> {
        let is_open = |node: &NodeImage| {
            let image = node.epochs.get(&epoch);
            image.is_some_and(|image| image.state == EpochState::Open)
        };
        let found = self.nodes.iter().find(|(_, node)| is_open(node));
        found
            .map(|(id, node)| (*id, node))
            .ok_or(Rejection::Fenced(epoch))
    }

    fn is_unclosed(&self, node: NodeId, epoch: NodeEpoch) -> bool {
        let node = self.nodes.get(&node.0);
        node.is_some_and(|node| node.unclosed().any(|(unclosed, _)| unclosed == epoch))
    }

    /// A node and one of its epochs that the image still has.
    fn epoch_of(&self, node: i32, id: NodeEpoch) -> Result<(NodeImage, EpochImage), Rejection> {
        let node = self.nodes.get(&node).ok_or(Rejection::Changed)?;
        let image = node.epochs.get(&id).ok_or(Rejection::Changed)?;
        Ok(((**node).clone(), image.clone()))
    }

    pub(super) fn put_epoch(
        &mut self,
        id: i32,
        mut node: NodeImage,
        (epoch, image): (NodeEpoch, EpochImage),
    ) {
        node.epochs.insert(epoch, image);
        self.nodes.insert(id, Arc::new(node));
    }

    fn remove_epoch(&mut self, id: i32, epoch: NodeEpoch) {
        if let Some(node) = self.nodes.get(&id) {
            let mut node = (**node).clone();
            node.epochs.remove(&epoch);
            self.nodes.insert(id, Arc::new(node));
        }
    }
}

fn registered(epoch: NodeEpoch, image: &EpochImage) -> Outcome {
    Outcome::Registered {
        epoch,
        floor: image.floor,
        confirmed: image.confirmed,
    }
}
