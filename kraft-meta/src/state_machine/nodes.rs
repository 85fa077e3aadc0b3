//! Registration, fencing and closing of node epochs (rules E), and the assignment of leaders (E4, E5).

use std::sync::Arc;

use highwater_types::limits::{INDEXES_IN_FLIGHT_MAX, UPLOADS_IN_FLIGHT_MAX};
use highwater_types::{
    LeaderEpoch, LogIndex, NodeEpoch, NodeId, ObjectId, ObjectKind, StreamId, WalPosition,
};

use crate::MetadataVersion;
use crate::command::{
    AssignLeaders, CloseEpoch, Closing, Duty, EpochSwept, FenceEpoch, ObjectName, Outcome,
    RegisterNode, Rejection, Sealed, SetMetadataVersion, StreamEpoch, WalKind, uuid,
};
use crate::image::{EpochImage, EpochState, MetadataImage, NodeImage, ObjectImage, WalObjects};

impl MetadataImage {
    /// Registers a node. The new epoch is the index of the command (E1). A repeat with the same incarnation gets the
    /// same epoch, and every earlier epoch of the node is fenced (E2). A start with another data directory than that of an
    /// unclosed disk WAL is refused, because it would close the epochs of a log that it does not have (D2).
    pub(super) fn register_node(
        &mut self,
        at: LogIndex,
        register: RegisterNode,
    ) -> Result<Outcome, Rejection> {
        let wal = WalKind::try_from(register.wal).map_err(|_unknown| Rejection::NotUnderstood)?;
        let newest = MetadataVersion::read(register.metadata_version);
        if newest < self.metadata_version {
            return Err(Rejection::OldProgram(self.metadata_version));
        }
        let before = self.nodes.get(&register.node);
        if let Some(node) = before.filter(|node| node.incarnation == register.incarnation) {
            let epoch = node.epochs.get(&node.epoch);
            let open = epoch.filter(|epoch| epoch.state == EpochState::Open);
            return match open {
                Some(open) => Ok(registered(node.epoch, open)),
                None => Err(Rejection::Fenced(node.epoch)),
            };
        }
        if let Some((epoch, recorded)) = before.and_then(|node| node.bound_to())
            && recorded != register.directory
        {
            let recorded = uuid(recorded);
            return Err(Rejection::OtherDirectory { epoch, recorded });
        }
        // a node that was unregistered comes back as a new one
        let registered_before = before.filter(|node| !node.is_unregistered);
        if registered_before.map_or(0, |node| node.epoch.0) != register.after {
            return Err(Rejection::Changed);
        }
        let duty = registered_before.map_or(Duty::Full, |node| node.duty);
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
            last_index: 0,
        };
        let outcome = registered(epoch, &opened);
        epochs.insert(epoch, opened);
        let node = NodeImage {
            epoch,
            incarnation: register.incarnation,
            directory: register.directory,
            place: register.place,
            endpoints: register.endpoints,
            epochs,
            rack: register.rack,
            duty,
            is_unregistered: false,
            metadata_version: newest,
        };
        self.nodes.insert(register.node, Arc::new(node));
        Ok(outcome)
    }

    /// Raises the version of the metadata, if every registered node knows the new one. A repetition changes nothing.
    pub(super) fn set_metadata_version(
        &mut self,
        set: SetMetadataVersion,
    ) -> Result<Outcome, Rejection> {
        let version = MetadataVersion::read(set.version);
        if version < self.metadata_version {
            return Err(Rejection::Changed);
        }
        if let Some(older) = self.older_than(version) {
            return Err(older);
        }
        self.metadata_version = version;
        Ok(Outcome::Done)
    }

    /// Fences an epoch, which changes nothing from then on. A wrong decision to fence costs time, never data (E6).
    pub(super) fn fence_epoch(&mut self, fence: FenceEpoch) -> Result<Outcome, Rejection> {
        let id = NodeEpoch(fence.epoch);
        let image = self.epoch_of(fence.node, id)?;
        if image.state != EpochState::Open {
            return Err(Rejection::Fenced(id));
        }
        self.change_epoch(fence.node, id, |fenced| fenced.state = EpochState::Fenced);
        Ok(Outcome::Done)
    }

    /// Closes a fenced epoch (E3). Another epoch may then lead its partitions, and its orphaned objects are condemned
    /// by name (U5). A closing that came too late changes nothing, and neither does one that is refused, but the index
    /// that its sealer has put is condemned, so that its number is not in flight any more (W8).
    pub(super) fn close_epoch(&mut self, close: CloseEpoch) -> Result<Outcome, Rejection> {
        let (id, by) = (NodeEpoch(close.epoch), NodeEpoch(close.by));
        let (closer, _) = self.open_epoch(by)?;
        let index = match &close.how {
            Some(Closing::Sealed(sealed)) => sealed.index,
            _ => None,
        };
        let is_sealing = matches!(close.how, Some(Closing::Sealed(_)));
        let is_late = is_sealing && self.was_closed(close.node, id);
        let closed = match is_late {
            true => Ok(()),
            false => self.close_fenced(closer, close),
        };
        if is_late || closed.is_err() {
            let condemned = self.condemn_index(by, index);
            closed.and(condemned)?;
        }
        Ok(Outcome::Done)
    }

    fn close_fenced(&mut self, closer: i32, close: CloseEpoch) -> Result<(), Rejection> {
        let (id, by) = (NodeEpoch(close.epoch), NodeEpoch(close.by));
        let image = self.epoch_of(close.node, id)?;
        if image.state != EpochState::Fenced {
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
        self.condemn_in_flight(NodeId(close.node), id, &image);
        Ok(())
    }

    /// Condemns the objects that a closed epoch may have put after the last ones that it registered (U5).
    pub(super) fn condemn_in_flight(&mut self, node: NodeId, epoch: NodeEpoch, image: &EpochImage) {
        let (uploads, indexes) = (image.last_upload, image.last_index);
        for (kind, last, in_flight) in [
            (ObjectKind::Upload, uploads, UPLOADS_IN_FLIGHT_MAX),
            (ObjectKind::Index, indexes, INDEXES_IN_FLIGHT_MAX),
        ] {
            for number in (last..last.saturating_add(in_flight)).map(|number| number + 1) {
                self.condemn(ObjectId {
                    node,
                    epoch,
                    kind,
                    number,
                });
            }
        }
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
        let image = self.epoch_of(node, id)?;
        if at.epoch != id || at < image.floor {
            return Err(Rejection::NotUnderstood);
        }
        if let Some(index) = sealed.index.map(ObjectId::try_from).transpose()? {
            let covers = WalObjects {
                node: NodeId(node),
                epoch: id,
                first: image.floor.at,
                end: at.at,
            };
            let registered = ObjectImage {
                bytes: sealed.bytes,
                references: 1,
                covers: Some(covers),
            };
            let last = self.last_index(by, index)?;
            if covers.first == covers.end {
                return Err(Rejection::NotUnderstood);
            }
            self.register_object(index, registered, sealed.claims, &|held| held == Some(id))?;
            for number in last + 1..index.number {
                self.condemn(ObjectId { number, ..index });
            }
            self.change_epoch(index.node.0, by, |sealer| sealer.last_index = index.number);
        } else if !sealed.claims.is_empty() {
            return Err(Rejection::NotUnderstood);
        }
        self.change_epoch(node, id, |sealed| sealed.state = EpochState::Closed(at));
        Ok(())
    }

    /// Whether a node had this epoch, and it is closed. A closed epoch is forgotten once it is swept (W12), also if it is
    /// the last one of its node.
    fn was_closed(&self, node: i32, id: NodeEpoch) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|node| match node.epochs.get(&id) {
                Some(image) => matches!(image.state, EpochState::Closed(_)),
                None => id <= node.epoch,
            })
    }

    /// Condemns an index that a closing named and does not register. If the command is a repeat, its index is registered
    /// or condemned already, and stays so.
    fn condemn_index(&mut self, by: NodeEpoch, index: Option<ObjectName>) -> Result<(), Rejection> {
        let Some(index) = index.map(ObjectId::try_from).transpose()? else {
            return Ok(());
        };
        let (_, node) = self.open_epoch(by)?;
        let last = node.epochs.get(&by).map_or(0, |epoch| epoch.last_index);
        if index.number > last {
            let last = self.last_index(by, index)?;
            for number in last..index.number {
                self.condemn(ObjectId {
                    number: number + 1,
                    ..index
                });
            }
            self.change_epoch(index.node.0, by, |sealer| sealer.last_index = index.number);
        }
        Ok(())
    }

    /// The number of the last index object of an epoch that is registered or condemned. A name is refused that is not one
    /// of the next ones of the epoch: its number may have named another body (U2), or would not be condemned with the epoch
    /// (U5).
    fn last_index(&self, by: NodeEpoch, index: ObjectId) -> Result<u64, Rejection> {
        let (sealer, node) = self.open_epoch(by)?;
        let last = node.epochs.get(&by).map_or(0, |epoch| epoch.last_index);
        let ahead = index.number.checked_sub(last);
        let is_next = ahead.is_some_and(|ahead| (1..=INDEXES_IN_FLIGHT_MAX).contains(&ahead));
        let is_own = index.node.0 == sealer && index.epoch == by;
        match is_next && is_own && index.kind == ObjectKind::Index {
            true => Ok(last),
            false => Err(Rejection::NotUnderstood),
        }
    }

    /// Forgets an epoch whose object WAL was swept: only its seal is left, and no node has to know that (W12).
    pub(super) fn epoch_swept(&mut self, swept: EpochSwept) -> Result<Outcome, Rejection> {
        let id = NodeEpoch(swept.epoch);
        let image = self.epoch_of(swept.node, id)?;
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
        let partition = self.partition_of(id)?;
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
        self.change_partition(id, |partition| {
            partition.leader = Some(leader);
            partition.leader_epoch = next;
            // its former leader can't hand it over any more
            partition.moving = None;
        })?;
        Ok(next)
    }

    /// The node of an epoch that is open (E6).
    pub(super) fn open_epoch(&self, epoch: NodeEpoch) -> Result<(i32, &Arc<NodeImage>), Rejection> {
        let found = self.nodes.iter().find(|(_, node)| node.is_open(epoch));
        found
            .map(|(id, node)| (*id, node))
            .ok_or(Rejection::Fenced(epoch))
    }

    fn is_unclosed(&self, node: NodeId, epoch: NodeEpoch) -> bool {
        let node = self.nodes.get(&node.0);
        node.is_some_and(|node| node.is_unclosed(epoch))
    }

    /// An epoch that the image still has.
    fn epoch_of(&self, node: i32, id: NodeEpoch) -> Result<EpochImage, Rejection> {
        let node = self.nodes.get(&node).ok_or(Rejection::Changed)?;
        let image = node.epochs.get(&id).ok_or(Rejection::Changed)?;
        Ok(image.clone())
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

    pub(super) fn change_epoch(
        &mut self,
        node: i32,
        epoch: NodeEpoch,
        change: impl FnOnce(&mut EpochImage),
    ) {
        let node = self.nodes.get_mut(&node).map(Arc::make_mut);
        if let Some(image) = node.and_then(|node| node.epochs.get_mut(&epoch)) {
            change(image);
        }
    }

    pub(super) fn remove_epoch(&mut self, id: i32, epoch: NodeEpoch) {
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
