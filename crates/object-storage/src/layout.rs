//! Every key in the bucket, one function for each kind of object. All but the claim lie under the cluster's prefix.
//!
//! | prefix | what | rule |
//! |---|---|---|
//! | `highwater-cluster`, beside the clusters' prefixes | the claim of the cluster that has the store | |
//! | `data/` | data objects | U2 |
//! | `wal/` | reserved: WAL objects and seals, `wal/<node>/<node epoch>/<sequence>` | W1, W7 |
//! | `index/` | reserved: index objects | W9, G3 |
//! | `probe/` | what a start asks the store with; gone when it ends | |
//! | `topics/`, `meta/` | reserved: what `restore` reads | R1 |

use highwater_types::{ClusterId, ObjectId};

use crate::ObjectKey;

const CLUSTER: &str = "highwater-";

/// The prefix of a cluster in its bucket: keys below are relative to it.
#[must_use]
pub fn cluster_prefix(cluster: ClusterId) -> String {
    format!("{CLUSTER}{cluster}")
}

/// The claim of the cluster that has the store; beside the clusters' prefixes, so that all look at the same one.
#[must_use]
pub fn claim() -> ObjectKey {
    ObjectKey::new("highwater-cluster")
}

/// A data object (rule U2): `data/<hash>/<node>/<node epoch>/<u or r>/<n>`; the hash spreads keys over the store.
#[must_use]
pub fn data_object(id: ObjectId) -> ObjectKey {
    let name = id.to_string();
    // FNV-1a, folded (its high bits hardly differ between neighbours): any even spread will do, if it never changes
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ObjectKey::new(format!("data/{:02x}/{name}", (hash ^ (hash >> 32)) & 0xff))
}

/// Below which the probes of starts lie.
#[must_use]
pub fn probes() -> ObjectKey {
    ObjectKey::new("probe")
}

/// A probe, by a number that nobody used.
#[must_use]
pub fn probe(number: u128) -> ObjectKey {
    ObjectKey::new(format!("probe/{number:032x}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use highwater_types::{NodeEpoch, NodeId};

    use super::*;

    fn key(number: u64) -> ObjectKey {
        let id = ObjectId {
            node: NodeId(1),
            epoch: NodeEpoch(7),
            rewrite: false,
            number,
        };
        data_object(id)
    }

    #[test]
    fn keys_never_change() {
        assert_eq!(key(42).as_str(), "data/7c/1/7/u/42");
    }

    #[test]
    fn neighbours_are_spread_over_prefixes() {
        let prefixes: BTreeSet<String> = (1..=100)
            .map(|number| key(number).as_str()[..7].to_owned())
            .collect();
        assert!(prefixes.len() > 64, "{}", prefixes.len());
    }
}
