//! Every key in the bucket, one function for each kind of object. All lie under the cluster's prefix.

use highwater_types::{ClusterId, ObjectId};

use crate::ObjectKey;

/// The prefix of a cluster in its bucket: keys below are relative to it.
#[must_use]
pub fn cluster_prefix(cluster: ClusterId) -> String {
    format!("highwater-{cluster}")
}

/// A data object (rule U2): `data/<hash>/<node>/<node epoch>/<u or r>/<n>`; the hash spreads keys over the store.
#[must_use]
pub fn data_object(id: ObjectId) -> ObjectKey {
    let name = id.to_string();
    // FNV-1a: any even spread will do, as long as it never changes
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ObjectKey::new(format!("data/{:02x}/{name}", hash >> 56))
}

#[cfg(test)]
mod tests {
    use highwater_types::{NodeEpoch, NodeId};

    use super::*;

    #[test]
    fn keys_never_change() {
        let id = ObjectId { node: NodeId(1), epoch: NodeEpoch(7), rewrite: false, number: 42 };
        let key = data_object(id);
        assert!(key.as_str().starts_with("data/"));
        assert!(key.as_str().ends_with("/1/7/u/42"));
        assert_eq!(key, data_object(id));
    }
}
