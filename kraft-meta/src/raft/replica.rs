//! The replicas of the metadata's log. A replica is a node together with the id of its data directory, as in Kafka
//! (KIP-853): a node that lost its directory comes back as another replica, with another id in Raft, and so never votes
//! in place of the former one.

use highwater_types::{NodeId, Uuid};

use super::types::Membership;
use crate::command::Endpoint;

/// What the membership in the log says of a replica beside its id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Replica {
    /// Its data directory; none if it was a voter from the beginning and the membership has not changed since. Each
    /// voter then has its directory in its own log.
    pub(crate) directory: Option<Uuid>,
    /// The addresses of its listeners for calls between nodes; none if they are in the configuration alone.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// Bits of a node's id, which is never negative.
const NODE_BITS: u32 = 31;

/// The id in Raft of a replica that joins a quorum. Its upper half comes from the directory and is never 0. The voters
/// that form a quorum have the ids of their nodes alone, because each of them has to know the ids of all others before it
/// knows their directories.
pub(super) fn joining_id(node: u64, directory: Uuid) -> u64 {
    let mark = u64::from(crc32fast::hash(&directory.0)).max(1);
    mark << NODE_BITS | node
}

/// The id in Raft of a node that forms a quorum; `None` if the node has none.
pub(super) fn founder_id(node: NodeId) -> Option<u64> {
    u64::try_from(node.0).ok()
}

/// Whether a replica was one of those that formed the quorum.
pub(super) fn is_founder(id: u64) -> bool {
    id >> NODE_BITS == 0
}

/// The node of a replica.
pub(super) fn node_id(id: u64) -> NodeId {
    let node = id & ((1 << NODE_BITS) - 1);
    NodeId(i32::try_from(node).expect("31 bits are a positive number"))
}

/// Whether a replica may have this directory.
pub(super) fn may_have(id: u64, directory: Uuid) -> bool {
    is_founder(id) || joining_id(id & ((1 << NODE_BITS) - 1), directory) == id
}

/// The addresses of all replicas in a membership.
pub(super) fn addresses(membership: &Membership) -> impl Iterator<Item = (NodeId, &[Endpoint])> {
    // of several replicas of a node the one with a vote comes last, and counts
    let has_vote = |id: &u64| membership.voter_ids().any(|voter| voter == *id);
    let (voters, others): (Vec<_>, Vec<_>) = membership.nodes().partition(|(id, _)| has_vote(id));
    let replicas = others.into_iter().chain(voters);
    replicas
        .filter(|(_, replica)| !replica.endpoints.is_empty())
        .map(|(id, replica)| (node_id(*id), &replica.endpoints[..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_makes_another_replica_of_a_node() {
        let (first, second) = (Uuid([1; 16]), Uuid(*b"anotherdirectory"));
        let ids = [7, joining_id(7, first), joining_id(7, second)];
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
        assert!(ids.iter().all(|id| node_id(*id) == NodeId(7)));
        assert_eq!(ids.map(is_founder), [true, false, false]);
        assert!(may_have(ids[2], second) && !may_have(ids[2], first));
        assert!(may_have(7, first) && may_have(7, second));
        let last = u64::try_from(i32::MAX).expect("is positive");
        assert_eq!(node_id(joining_id(last, second)), NodeId(i32::MAX));
    }
}
