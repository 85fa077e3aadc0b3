//! What a cluster gets once: its id, and the id of its store.

use super::*;
use crate::command::{ClaimStore, Format};

// D2: founders may be configured with two stores
#[test]
fn the_first_id_of_the_cluster_and_of_its_store_stay() {
    let mut log = Log {
        image: MetadataImage::default(),
        at: 0,
    };
    for [cluster, store] in [[1, 3], [2, 4]] {
        let format = Format {
            cluster_id: vec![cluster; 16],
        };
        let claim = ClaimStore {
            store: vec![store; 16],
        };
        for action in [Action::Format(format), Action::ClaimStore(claim)] {
            log.apply(action.into()).expect("is taken");
        }
        assert_eq!(log.image.cluster().0, [1; 16]);
        assert_eq!(log.image.store().0, [3; 16]);
    }
}
