//! Planned moves of partitions, and what brokers may lead (rules E4, C1, C2).

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_types::{LeaderEpoch, LogIndex, NodeEpoch, NodeId, StreamId};

use crate::command::{
    Duty, HandedOver, MovePartitions, Outcome, PartitionMove, Rejection, SetDuty, UnregisterNode,
};
use crate::image::{MetadataImage, Moving, PartitionImage};

impl MetadataImage {
    /// Changes each of the partitions, independently of the others.
    pub(super) fn move_partitions(
        &mut self,
        at: LogIndex,
        moves: MovePartitions,
    ) -> Result<Outcome, Rejection> {
        let moves = moves.moves.into_iter();
        let moved = moves.map(|one| self.move_partition(at, one));
        Ok(Outcome::Moved(moved.collect()))
    }

    fn move_partition(&mut self, at: LogIndex, asked: PartitionMove) -> Result<(), Rejection> {
        let id = StreamId(asked.stream);
        let partition = self.partition_of(id)?;
        let held = partition.leader_epoch;
        if held != LeaderEpoch(asked.leader_epoch) {
            return Err(Rejection::NotHeld { stream: id, held });
        }
        if partition.decided_at != LogIndex(asked.decided_at) {
            return Err(Rejection::Changed);
        }
        let to = asked.to.map(NodeId).map(|to| match self.live_epoch(to) {
            Some(epoch) => Ok((to, epoch)),
            None => Err(Rejection::UnknownNode(to)),
        });
        let to = to.transpose()?;
        let replicas = asked
            .replicas
            .map(|replicas| replicas.nodes.into_iter().map(NodeId).collect::<Vec<_>>());
        if let Some(nodes) = &replicas {
            let distinct: BTreeSet<_> = nodes.iter().collect();
            if nodes.is_empty() || distinct.len() != nodes.len() {
                return Err(Rejection::NotUnderstood);
            }
        }
        // a partition whose leader's epoch has ended gets its leader from the assigner
        let leader = self.live_leader(partition);
        let to = to.filter(|(to, _)| leader.is_some_and(|(node, _)| node != *to));
        self.change_partition(id, |partition| {
            partition.decided_at = at;
            if to.is_none() && replicas.is_none() {
                return partition.put_off();
            }
            let is_reassigned = replicas
                .as_ref()
                .is_some_and(|now| *now != partition.replicas);
            let former = partition.moving.take();
            let before = match (former.and_then(|moving| moving.before), is_reassigned) {
                (Some(before), _) => Some(before),
                (None, true) => Some(partition.replicas.clone()),
                (None, false) => None,
            };
            if let Some(replicas) = replicas {
                partition.is_chosen = asked.by_operator;
                partition.replicas = replicas;
            }
            partition.moving = to.map(|(to, epoch)| Moving { to, epoch, before });
        })
    }

    /// Gives a stream that its leader has closed to the broker that it is to be moved to, under the next leader epoch. If
    /// that epoch is not live any more or the move was cancelled, the former leader gets it back, under the next leader
    /// epoch too, because it never appends under the former one again (C1). A stream that was deleted needs nothing.
    pub(super) fn hand_over(
        &mut self,
        leader: (NodeId, NodeEpoch),
        handed: HandedOver,
    ) -> Result<(), Rejection> {
        let id = StreamId(handed.stream);
        let Some(stream) = self.streams.get(&id) else {
            return match id.0 < self.next_stream {
                true => Ok(()),
                false => Err(Rejection::UnknownStream(id)),
            };
        };
        let held = stream.leader_epoch;
        if stream.held_by != Some(leader.1) || held != LeaderEpoch(handed.leader_epoch) {
            return Err(Rejection::NotHeld { stream: id, held });
        }
        // C2: the next leader begins where this one has ended
        let committed = stream.committed_end.max(stream.start);
        if committed != handed.end {
            return Err(Rejection::Gap {
                stream: id,
                committed,
                first: handed.end,
            });
        }
        let partition = self.partition_of(id)?;
        if partition.leader != Some(leader) || partition.leader_epoch != held {
            let held = partition.leader_epoch;
            return Err(Rejection::NotHeld { stream: id, held });
        }
        let moving = partition.moving.as_ref();
        let to = moving.map(|moving| (moving.to, moving.epoch));
        let to = to.filter(|(to, epoch)| self.live_epoch(*to) == Some(*epoch));
        let next = held.0.checked_add(1).map(LeaderEpoch);
        let next = next.ok_or(Rejection::NotUnderstood)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            Arc::make_mut(stream).held_by = None;
        }
        self.change_partition(id, |partition| {
            partition.leader = Some(to.unwrap_or(leader));
            partition.leader_epoch = next;
            match to {
                Some(_) => partition.moving = None,
                None => partition.put_off(),
            }
        })
    }

    pub(super) fn partition_of(&self, id: StreamId) -> Result<&PartitionImage, Rejection> {
        let stream = self.streams.get(&id);
        let partition =
            stream.and_then(|stream| self.topic_by_id(stream.topic)?.partition(stream.partition));
        partition.ok_or(Rejection::UnknownStream(id))
    }

    /// Changes a partition. Its topic is copied once for all partitions of a command, while readers keep the image they
    /// have.
    pub(super) fn change_partition(
        &mut self,
        id: StreamId,
        change: impl FnOnce(&mut PartitionImage),
    ) -> Result<(), Rejection> {
        let unknown = Rejection::UnknownStream(id);
        let stream = self.streams.get(&id).ok_or(unknown.clone())?;
        let index = usize::try_from(stream.partition).unwrap_or(usize::MAX);
        let name = self.topic_names.get(&stream.topic).cloned();
        let topic = name.and_then(|name| self.topics.get_mut(&name));
        let topic = topic.map(Arc::make_mut);
        let partition = topic.and_then(|topic| topic.partitions.get_mut(index));
        change(partition.ok_or(unknown)?);
        Ok(())
    }

    /// Says which leaderships a broker may have.
    pub(super) fn set_duty(&mut self, set: SetDuty) -> Result<Outcome, Rejection> {
        let duty = Duty::try_from(set.duty).map_err(|_unknown| Rejection::NotUnderstood)?;
        let id = NodeId(set.node);
        let node = self.node(id).ok_or(Rejection::UnknownNode(id))?;
        let mut node = node.clone();
        node.duty = duty;
        self.nodes.insert(id.0, Arc::new(node));
        Ok(Outcome::Done)
    }

    /// Hides a node. Its numbers are never used again (E1), and its last epoch is remembered, because seals of its log stay
    /// (W10). One that runs, or whose log may still hold what no claim names, is refused.
    pub(super) fn unregister_node(&mut self, gone: UnregisterNode) -> Result<Outcome, Rejection> {
        let id = NodeId(gone.node);
        let node = self.node(id).ok_or(Rejection::UnknownNode(id))?;
        if let Some((epoch, _)) = node.unclosed().last() {
            return Err(Rejection::Unclosed(epoch));
        }
        let mut node = node.clone();
        node.is_unregistered = true;
        self.nodes.insert(id.0, Arc::new(node));
        Ok(Outcome::Done)
    }
}
