//! Every key in the bucket, one function for each kind of object. All but the first two lie under the cluster's prefix.
//!
//! | prefix | what | rule |
//! |---|---|---|
//! | `highwater-cluster`, beside the clusters' prefixes | the claim of the cluster that has the store | |
//! | `highwater-machine`, beside the claim in a local directory | the machine that the directory belongs to | L1 |
//! | `data/` | data objects | U2 |
//! | `wal/` | WAL objects and seals, `wal/<node>/<node epoch>/<sequence>` | W1, W7 |
//! | `index/` | index objects, `index/<hash>/<node>/<node epoch>/<n>` | W9, G3 |
//! | `probe/<node>/` | the objects with which a start of a node probes the store; deleted before the start goes on | |
//! | `topics/`, `meta/` | reserved: the objects that `restore` reads | R1 |

use highwater_types::{ClusterId, NodeEpoch, NodeId, ObjectId, ObjectKind};

use crate::ObjectKey;

const CLUSTER: &str = "highwater-";

/// The prefix of a cluster in its bucket. Object keys are relative to it.
#[must_use]
pub fn cluster_prefix(cluster: ClusterId) -> String {
    format!("{CLUSTER}{cluster}")
}

/// The key of the claim of the cluster that has the store. It is beside the clusters' prefixes, so that every cluster
/// looks at the same claim.
#[must_use]
pub fn claim() -> ObjectKey {
    ObjectKey::new("highwater-cluster")
}

/// The key of the object that says which machine a local directory belongs to (L1). It is beside the claim.
#[must_use]
pub fn machine() -> ObjectKey {
    ObjectKey::new("highwater-machine")
}

/// The key of an object of any kind. A data object has `data/<hash>/<node>/<node epoch>/<u or r>/<n>` (rule U2), where
/// the hash spreads the keys over the store. The keys of a WAL lie together, so that they can be listed (W12).
#[must_use]
pub fn object(id: ObjectId) -> ObjectKey {
    let (node, epoch, number) = (id.node, id.epoch, id.number);
    let name = id.to_string();
    // FNV-1a, folded since its high bits hardly differ between neighbours. Any hash that spreads evenly and never
    // changes will do.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let spread = (hash ^ (hash >> 32)) & 0xff;
    ObjectKey::new(match id.kind {
        ObjectKind::Upload | ObjectKind::Rewrite => format!("data/{spread:02x}/{name}"),
        ObjectKind::Wal => format!("wal/{node}/{epoch}/{number}"),
        ObjectKind::Index => format!("index/{spread:02x}/{node}/{epoch}/{number}"),
    })
}

/// The prefix of the object WAL of one node epoch.
#[must_use]
pub fn wal(node: NodeId, epoch: NodeEpoch) -> ObjectKey {
    ObjectKey::new(format!("wal/{node}/{epoch}"))
}

/// The prefix of the object WALs of all epochs of one node.
#[must_use]
pub fn wals(node: NodeId) -> ObjectKey {
    ObjectKey::new(format!("wal/{node}"))
}

/// The prefix of the probes that a node's starts write. A node deletes the probes of its own killed starts, and never
/// those of another node that starts at the same time.
#[must_use]
pub fn probes(node: NodeId) -> ObjectKey {
    ObjectKey::new(format!("probe/{node}"))
}

/// The key of one probe. `number` is random, so that no earlier start of the node has used it.
#[must_use]
pub fn probe(node: NodeId, number: u128) -> ObjectKey {
    ObjectKey::new(format!("probe/{node}/{number:032x}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn key(kind: ObjectKind, number: u64) -> ObjectKey {
        object(ObjectId {
            node: NodeId(1),
            epoch: NodeEpoch(7),
            kind,
            number,
        })
    }

    #[test]
    fn keys_never_change() {
        let keys = ObjectKind::ALL.map(|kind| key(kind, 42));
        let keys = keys.each_ref().map(ObjectKey::as_str);
        let expected = [
            "data/7c/1/7/u/42",
            "data/e3/1/7/r/42",
            "wal/1/7/42",
            "index/23/1/7/42",
        ];
        assert_eq!(keys, expected);
        assert_eq!(wal(NodeId(1), NodeEpoch(7)).as_str(), "wal/1/7");
    }

    #[test]
    fn neighbours_are_spread_over_prefixes() {
        let prefixes: BTreeSet<String> = (1..=100)
            .map(|number| key(ObjectKind::Upload, number).as_str()[..7].to_owned())
            .collect();
        assert!(prefixes.len() > 64, "{}", prefixes.len());
    }
}
