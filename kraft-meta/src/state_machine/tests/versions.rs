//! The version of the metadata (Kafka's `metadata.version`).

use super::*;
use crate::MetadataVersion;
use crate::command::SetMetadataVersion;

const FIRST: MetadataVersion = MetadataVersion::FIRST;
const NEXT: MetadataVersion = MetadataVersion(FIRST.0 + 1);

fn register(log: &mut Log, node: i32, metadata_version: i32) -> Result<Outcome, Rejection> {
    let before = log.image.node(NodeId(node));
    let after = before.map_or(0, |before| before.epoch.0);
    let register = RegisterNode {
        node,
        incarnation: after.to_be_bytes().to_vec(),
        wal: WalKind::Object.into(),
        after,
        metadata_version,
        ..RegisterNode::default()
    };
    log.apply(Action::RegisterNode(register).into())
}

fn raise(log: &mut Log, version: MetadataVersion) -> Result<Outcome, Rejection> {
    let version = version.record();
    log.apply(Action::SetMetadataVersion(SetMetadataVersion { version }).into())
}

#[test]
fn it_is_raised_once_every_registered_node_knows_it_and_never_falls() {
    let mut log = Log {
        image: MetadataImage::default(),
        at: 0,
    };
    register(&mut log, 1, NEXT.record()).expect("is registered");
    register(&mut log, 2, 0).expect("is registered");
    let older = Rejection::OlderNode {
        node: NodeId(2),
        newest: Some(FIRST),
    };
    assert_eq!(raise(&mut log, NEXT), Err(older.clone()));
    assert_eq!(log.image.older_than(NEXT), Some(older.clone()));
    assert_eq!(log.image.older_than(FIRST), None);
    let fence = FenceEpoch {
        node: 2,
        epoch: log.image.nodes[&2].epoch.0,
    };
    log.apply(Action::FenceEpoch(fence).into())
        .expect("is fenced");
    assert_eq!(raise(&mut log, NEXT), Err(older), "it may come back");
    assert_eq!(log.image.metadata_version(), FIRST);
    register(&mut log, 2, NEXT.record()).expect("is started with a newer program");
    for _ in 0..2 {
        raise(&mut log, NEXT).expect("every node knows it");
    }
    assert_eq!(log.image.metadata_version(), NEXT);
    assert_eq!(raise(&mut log, FIRST), Err(Rejection::Changed));
    assert_eq!(register(&mut log, 3, 0), Err(Rejection::OldProgram(NEXT)));
    register(&mut log, 3, NEXT.record()).expect("knows it");
}
