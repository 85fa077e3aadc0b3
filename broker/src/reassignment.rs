//! A reassignment of a partition that is under way, as Kafka tells it (pure). Source: KIP-455,
//! `PartitionReassignmentReplicas`.

use std::collections::BTreeSet;

use highwater_kraft_meta::PartitionImage;
use highwater_types::NodeId;

/// The replicas of a partition that is being reassigned. Its new list holds already; the move of its leadership is under
/// way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reassignment {
    /// The new list, then the brokers that leave it.
    pub(crate) replicas: Vec<NodeId>,
    /// The brokers that the former list lacked, by id.
    pub(crate) adding: Vec<NodeId>,
    /// The brokers that the new list lacks, by id.
    pub(crate) removing: Vec<NodeId>,
}

impl Reassignment {
    /// The reassignment of a partition; `None` if none is under way, or only the order of its list changes.
    #[must_use]
    pub(crate) fn of(partition: &PartitionImage) -> Option<Self> {
        let before = partition.moving.as_ref()?.before.as_ref()?;
        let (former, now) = (set(before), set(&partition.replicas));
        let adding: Vec<_> = now.difference(&former).copied().collect();
        let removing: Vec<_> = former.difference(&now).copied().collect();
        let is_reassigned = !adding.is_empty() || !removing.is_empty();
        is_reassigned.then(|| Self {
            replicas: [partition.replicas.clone(), removing.clone()].concat(),
            adding,
            removing,
        })
    }
}

fn set(nodes: &[NodeId]) -> BTreeSet<NodeId> {
    nodes.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use highwater_kraft_meta::Moving;
    use highwater_types::{NodeEpoch, StreamId};

    use super::*;

    fn nodes(ids: &[i32]) -> Vec<NodeId> {
        ids.iter().map(|id| NodeId(*id)).collect()
    }

    fn told(before: Option<&[i32]>, now: &[i32]) -> Option<Reassignment> {
        let mut partition = PartitionImage::new(StreamId(1), nodes(now));
        partition.moving = Some(Moving {
            to: NodeId(now[0]),
            epoch: NodeEpoch(1),
            before: before.map(nodes),
        });
        Reassignment::of(&partition)
    }

    #[test]
    fn replicas_are_the_new_list_and_then_those_that_leave() {
        let expected = Reassignment {
            replicas: nodes(&[5, 4, 1, 2, 3]),
            adding: nodes(&[4, 5]),
            removing: nodes(&[2, 3]),
        };
        assert_eq!(told(Some(&[3, 2, 1]), &[5, 4, 1]), Some(expected));
    }

    #[test]
    fn a_move_that_changes_no_members_is_no_reassignment() {
        assert_eq!(told(None, &[2, 1]), None);
        assert_eq!(told(Some(&[1, 2]), &[2, 1]), None);
        let still = PartitionImage::new(StreamId(1), nodes(&[1]));
        assert_eq!(Reassignment::of(&still), None);
    }
}
