//! Decides which open partitions close as the metadata image changes, and why.
//!
//! A partition closes in the same way whether its topic was deleted or its leadership moved. It leaves the registry and is
//! marked with the reason. Then the fetches that wait at the tail of its stream are woken, and the coordinator that is
//! replicated through it ends. From then on no batch of it is acknowledged: a request that waits is answered with the
//! reason. Batches that were acknowledged before are uploaded as ever, unless the topic was deleted (C2).

use std::sync::{Arc, OnceLock};

use highwater_kraft_meta::{MetadataImage, PartitionImage};
use highwater_protocol::ErrorCode;
use highwater_types::{LeaderEpoch, NodeEpoch, NodeId, TopicId};

/// Why a partition that was open here is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Its topic is deleted.
    Deleted,
    /// Another node epoch leads it, or no epoch does.
    LedElsewhere,
    /// This node leads it again, under a newer leader epoch, so it is opened again.
    NewerEpoch,
}

impl Closed {
    /// The error for a client whose request waits for the partition.
    #[must_use]
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::Deleted => ErrorCode::UnknownTopicOrPartition,
            Self::LedElsewhere | Self::NewerEpoch => ErrorCode::NotLeaderOrFollower,
        }
    }
}

/// Whether a partition is closed, and why; shared by everything that answers requests for the partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClosedMark(Arc<OnceLock<Closed>>);

impl ClosedMark {
    /// Why the partition is closed; `None` while it is open.
    #[must_use]
    pub(crate) fn get(&self) -> Option<Closed> {
        self.0.get().copied()
    }

    /// Marks the partition as closed, for good. The first reason is kept.
    pub(crate) fn set(&self, why: Closed) {
        let _first = self.0.get_or_init(|| why);
    }
}

/// The open partitions that close as one image follows another: topic, index and reason of each. `open_in` names the open partitions
/// of a topic, each with the leader epoch that it was opened under. The work is proportional to the change.
pub(super) fn closing<I: IntoIterator<Item = (i32, LeaderEpoch)>>(
    (before, image): (&MetadataImage, &MetadataImage),
    own: (NodeId, NodeEpoch),
    open_in: impl Fn(TopicId) -> I,
) -> Vec<(TopicId, i32, Closed)> {
    let changed = image.topics_changed_since(before);
    let changed = changed.iter().map(|topic| topic.id);
    let mut closing = Vec::new();
    for id in changed.chain(image.topics_lost_since(before)) {
        let topic = image.topic_by_id(id);
        for (index, opened_under) in open_in(id) {
            let partition = topic.and_then(|topic| topic.partition(index));
            if let Some(why) = why(partition, own, opened_under) {
                closing.push((id, index, why));
            }
        }
    }
    closing
}

/// The reason why a partition can't stay open under a leader epoch; `None` if it can.
fn why(
    partition: Option<&PartitionImage>,
    own: (NodeId, NodeEpoch),
    opened_under: LeaderEpoch,
) -> Option<Closed> {
    match partition {
        None => Some(Closed::Deleted),
        Some(now) if now.leader != Some(own) => Some(Closed::LedElsewhere),
        Some(now) if now.leader_epoch != opened_under => Some(Closed::NewerEpoch),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use highwater_types::StreamId;

    use super::*;
    use crate::fixture::ImageBuilder;

    const A: (NodeId, NodeEpoch) = (NodeId(1), NodeEpoch(1));
    const B: (NodeId, NodeEpoch) = (NodeId(2), NodeEpoch(2));

    fn led(leader: (NodeId, NodeEpoch), leader_epoch: i32) -> PartitionImage {
        PartitionImage {
            leader: Some(leader),
            leader_epoch: LeaderEpoch(leader_epoch),
            ..PartitionImage::new(StreamId(7), vec![A.0, B.0])
        }
    }

    // E4, E5: one image may be several changes ahead of the one before.
    #[test]
    fn a_partition_that_went_to_another_and_came_back_is_opened_anew() {
        let opened_under = LeaderEpoch(0);
        for (image, closes) in [
            (Some(led(A, 0)), None),
            (Some(led(B, 1)), Some(Closed::LedElsewhere)),
            (Some(led(A, 2)), Some(Closed::NewerEpoch)),
            // This node's next epoch is another leader.
            (
                Some(led((A.0, NodeEpoch(3)), 2)),
                Some(Closed::LedElsewhere),
            ),
            (None, Some(Closed::Deleted)),
        ] {
            assert_eq!(why(image.as_ref(), A, opened_under), closes, "{image:?}");
        }
        assert_eq!(why(Some(&led(A, 2)), A, LeaderEpoch(2)), None);
    }

    #[test]
    fn of_what_is_open_closes_what_the_image_no_longer_gives_to_this_node() {
        let mut images = ImageBuilder::default();
        let own = (NodeId(1), images.register(1, &[]));
        images.register(2, &[]);
        let moves = images.create("moves", &[&[1], &[2], &[1]]);
        let goes = images.create("goes", &[&[1]]);
        let stays = images.create("stays", &[&[1]]);
        let before = images.image();
        // The partitions that this node was given, all under their first leader epoch.
        let open_in = |id: TopicId| {
            let indexes: &[i32] = if id == moves { &[0, 2] } else { &[0] };
            indexes.iter().map(|index| (*index, LeaderEpoch(0)))
        };
        let closes = |images: &ImageBuilder| closing((&before, &images.image()), own, open_in);
        assert_eq!(closes(&images), []);
        images.delete("goes");
        assert_eq!(closes(&images), [(goes, 0, Closed::Deleted)]);
        // A topic that is created again is another topic.
        images.create("goes", &[&[1]]);
        assert!(closes(&images).contains(&(goes, 0, Closed::Deleted)));
        images.restart(1);
        images.lead(2, "moves", 0);
        let away = Closed::LedElsewhere;
        let closing = closes(&images);
        assert!(closing.contains(&(moves, 0, away)), "{closing:?}");
        assert!(
            !closing
                .iter()
                .any(|(id, index, _)| (*id, *index) == (moves, 2)),
            "not given away yet"
        );
        assert!(!closing.iter().any(|(id, ..)| *id == stays), "{closing:?}");
    }
}
