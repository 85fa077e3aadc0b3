//! Registration and epochs (rules E).

use std::sync::Arc;

use highwater_types::limits::UPLOADS_IN_FLIGHT_MAX;
use highwater_types::{
    LeaderEpoch, LogIndex, NodeEpoch, NodeId, ObjectId, ObjectKind, WalPosition,
};

use crate::command::{CloseEpoch, Outcome, RegisterNode, Rejection};
use crate::image::{MetadataImage, NodeImage, TopicImage};

impl MetadataImage {
    /// E1: the epoch is the log index. E2: idempotent by incarnation; fences every earlier epoch.
    pub(super) fn register_node(&mut self, at: LogIndex, register: RegisterNode) -> Outcome {
        let before = self.nodes.get(&register.node).cloned();
        if let Some(node) = before
            .as_ref()
            .filter(|node| node.incarnation == register.incarnation)
        {
            return registered(node);
        }
        let epoch = NodeEpoch(at.0);
        let before = before.as_deref();
        if let Some(fenced) = before {
            self.condemn_in_flight(NodeId(register.node), fenced);
        }
        let node = NodeImage {
            epoch,
            incarnation: register.incarnation,
            closed_below: before.map_or(epoch, |node| node.closed_below),
            endpoints: register.endpoints,
            floor: before.map_or(0, |node| node.floor),
            confirmed: before.map_or(0, |node| node.confirmed),
            last_upload: before.and_then(|node| node.last_upload.clone()),
        };
        let outcome = registered(&node);
        self.nodes.insert(register.node, Arc::new(node));
        outcome
    }

    /// U5: what a fenced epoch had in flight can never be committed any more; it is swept by name.
    fn condemn_in_flight(&mut self, node: NodeId, fenced: &NodeImage) {
        let last = fenced.last_upload_number();
        for number in last + 1..=last + UPLOADS_IN_FLIGHT_MAX as u64 {
            self.condemn(ObjectId {
                node,
                epoch: fenced.epoch,
                kind: ObjectKind::Upload,
                number,
            });
        }
    }

    /// E3: recovered by its own node. Then E5: what it led gets a new leader epoch of the live one.
    pub(super) fn close_epoch(&mut self, close: &CloseEpoch) -> Result<Outcome, Rejection> {
        let below = NodeEpoch(close.below);
        let node = self
            .nodes
            .get(&close.node)
            .ok_or(Rejection::Fenced(below))?;
        if node.epoch != below {
            return Err(Rejection::Fenced(below));
        }
        let mut node = (**node).clone();
        node.closed_below = below;
        self.nodes.insert(close.node, Arc::new(node));
        let id = NodeId(close.node);
        let led: Vec<Arc<TopicImage>> = self
            .topics
            .values()
            .filter(|topic| {
                topic
                    .partitions
                    .iter()
                    .any(|p| leads_below(p.leader, id, below))
            })
            .cloned()
            .collect();
        for topic in led {
            let mut topic = (*topic).clone();
            for partition in &mut topic.partitions {
                if leads_below(partition.leader, id, below) {
                    partition.leader = Some((id, below));
                    partition.leader_epoch = LeaderEpoch(partition.leader_epoch.0 + 1);
                }
            }
            self.topics.insert(Arc::clone(&topic.name), Arc::new(topic));
        }
        Ok(Outcome::Done)
    }

    /// The live node of an epoch (E6).
    pub(super) fn open_epoch(&self, epoch: NodeEpoch) -> Result<(i32, &Arc<NodeImage>), Rejection> {
        let found = self.nodes.iter().find(|(_, node)| node.epoch == epoch);
        found
            .map(|(id, node)| (*id, node))
            .ok_or(Rejection::Fenced(epoch))
    }
}

fn leads_below(leader: Option<(NodeId, NodeEpoch)>, node: NodeId, below: NodeEpoch) -> bool {
    leader.is_none_or(|(leader, epoch)| leader == node && epoch < below)
}

fn registered(node: &NodeImage) -> Outcome {
    Outcome::Registered {
        epoch: node.epoch,
        floor: WalPosition {
            epoch: node.epoch,
            at: node.floor,
        },
        confirmed: node.confirmed,
    }
}
