//! What a command may change in an image.

use super::*;

/// Checks the values that must never go back.
pub(super) fn nothing_goes_back(before: &MetadataImage, after: &MetadataImage) {
    for (id, stream) in &before.streams {
        let Some(now) = after.streams.get(id) else {
            continue;
        };
        let partition =
            |image: &MetadataImage| image.partition_of(*id).expect("is of a partition").clone();
        let (was, is) = (partition(before), partition(after));
        assert!(is.leader_epoch >= was.leader_epoch, "E5");
        if let Some(leader) = was.leader.filter(|leader| is.leader != Some(*leader)) {
            assert!(is.leader_epoch > was.leader_epoch, "E5");
            let is_closed = !before
                .node(leader.0)
                .is_some_and(|node| node.is_unclosed(leader.1));
            let has_closed = stream.held_by == Some(leader.1) && now.held_by.is_none();
            assert!(is_closed || has_closed, "E4: {leader:?} holds {id}");
        }
        assert!(now.committed_end >= stream.committed_end, "I4");
        assert!(now.start >= stream.start, "U4");
        assert!(now.leader_epoch >= stream.leader_epoch, "E5");
    }
    for (id, node) in &before.nodes {
        let Some(now) = after.nodes.get(id) else {
            assert!(node.unclosed().next().is_none(), "E3: {id} is unregistered");
            continue;
        };
        assert!(now.epoch >= node.epoch, "E1");
        for (epoch, now) in &now.epochs {
            let Some(before) = node.epochs.get(epoch) else {
                assert!(*epoch > node.epoch, "E3: {epoch} was done with");
                continue;
            };
            let forth = |state| match state {
                EpochState::Open => 0,
                EpochState::Fenced => 1,
                EpochState::Closed(_) => 2,
            };
            assert!(forth(now.state) >= forth(before.state), "E3");
            assert!(now.floor >= before.floor, "W6");
            assert_eq!(now.wal, before.wal, "D4");
        }
    }
    assert!(after.next_stream >= before.next_stream);
    assert!(after.next_producer >= before.next_producer);
    let condemned: BTreeSet<&ObjectId> = before.condemned.keys().collect();
    assert!(
        after.objects.keys().all(|id| !condemned.contains(id)),
        "G1: condemned for good"
    );
}

/// Takes out of an image what the refusal of a closing does to the index that its sealer has put (W8).
pub(super) fn without_refused_index(
    image: &mut MetadataImage,
    before: &MetadataImage,
    command: &Command,
) {
    let Some(Action::CloseEpoch(CloseEpoch {
        by,
        how: Some(Closing::Sealed(Sealed { index, .. })),
        ..
    })) = &command.action
    else {
        return;
    };
    let index = index.and_then(|index| ObjectId::try_from(index).ok());
    let is_new = |index: &ObjectId| {
        image.condemned.contains_key(index) && !before.condemned.contains_key(index)
    };
    let Some(index) = index.filter(is_new) else {
        return;
    };
    let sealer = &image.nodes[&index.node.0];
    assert_eq!(sealer.epochs[&NodeEpoch(*by)].last_index, index.number);
    image.condemned = before.condemned.clone();
    image.nodes = before.nodes.clone();
}
