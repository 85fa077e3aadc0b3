//! Gives partitions whose leader's epoch is closed to live brokers, and those that no broker has ever led (E4, E5).
//!
//! A broker that starts again asks itself for what its former epochs led. This task gives away the rest: what brokers led
//! that are gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::command::{AssignLeaders, StreamEpoch};
use highwater_kraft_meta::{
    Action, EpochState, MetadataImage, MetadataStore, PartitionImage, ProposeError, TopicImage,
};
use highwater_types::{NodeEpoch, NodeId};
use tokio::time::sleep;

use crate::registration::ASSIGNED_AT_ONCE;

/// The wait before another attempt, and before another look whether this node is the active controller.
const REST: Duration = Duration::from_millis(500);

/// The partitions that each live epoch gets.
type Plan = BTreeMap<NodeEpoch, Vec<StreamEpoch>>;

/// Assigns leaders while this node is the active controller; never returns.
pub(super) async fn run(metadata: Arc<dyn MetadataStore>) {
    let mut images = metadata.watch();
    let mut seen = Arc::<MetadataImage>::default();
    loop {
        if metadata.leads().is_none() {
            sleep(REST).await;
            continue;
        }
        let image = Arc::clone(&images.borrow_and_update());
        match assign(&*metadata, plan(&image, &seen)).await {
            Ok(()) => seen = image,
            Err(error) => {
                tracing::warn!(%error, "partitions cannot be given to live brokers now; trying again");
                sleep(REST).await;
                continue;
            }
        }
        if images.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn assign(metadata: &dyn MetadataStore, plan: Plan) -> Result<(), ProposeError> {
    for (epoch, streams) in plan {
        let partitions = streams.len();
        for streams in streams.chunks(ASSIGNED_AT_ONCE) {
            let assign = AssignLeaders {
                node_epoch: epoch.0,
                streams: streams.to_vec(),
            };
            match metadata.propose(Action::AssignLeaders(assign).into()).await {
                // the epoch was fenced since; the image says so, and another one is chosen
                Ok(_) | Err(ProposeError::Rejected(_)) => {}
                Err(error) => return Err(error),
            }
        }
        tracing::info!(
            partitions,
            node_epoch = epoch.0,
            "partitions were given to a live broker"
        );
    }
    Ok(())
}

/// The leaders of the partitions that need one. The work grows with all partitions only when a node epoch has changed its
/// state, otherwise with the topics that have changed since the image `seen`.
fn plan(image: &MetadataImage, seen: &MetadataImage) -> Plan {
    let mut plan = Plan::new();
    let live: BTreeMap<NodeId, NodeEpoch> = image.live().collect();
    if live.is_empty() {
        return plan;
    }
    let mut load = None;
    let topics: Vec<Arc<TopicImage>> = match states(image) == states(seen) {
        true => image.topics_changed_since(seen),
        false => image.topics().cloned().collect(),
    };
    let partitions = topics.iter().flat_map(|topic| &topic.partitions);
    for partition in partitions.filter(|partition| needs_leader(image, partition)) {
        let mut replicas = partition.replicas.iter();
        let chosen = replicas.find_map(|replica| live.get(replica).copied());
        let load = load.get_or_insert_with(|| loads(image, &live));
        let chosen = chosen.or_else(|| {
            let least = load.iter().min_by_key(|(epoch, led)| (**led, **epoch));
            least.map(|(epoch, _)| *epoch)
        });
        if let Some(chosen) = chosen {
            *load.entry(chosen).or_default() += 1;
            plan.entry(chosen).or_default().push(StreamEpoch {
                stream: partition.stream.0,
                leader_epoch: partition.leader_epoch.0,
            });
        }
    }
    plan
}

/// The state of every epoch.
fn states(image: &MetadataImage) -> Vec<(NodeEpoch, EpochState)> {
    let epochs = image.nodes().flat_map(|(_, node)| &node.epochs);
    epochs.map(|(epoch, image)| (*epoch, image.state)).collect()
}

/// How many partitions each live epoch leads.
fn loads(image: &MetadataImage, live: &BTreeMap<NodeId, NodeEpoch>) -> BTreeMap<NodeEpoch, usize> {
    let mut loads: BTreeMap<_, _> = live.values().map(|epoch| (*epoch, 0)).collect();
    let partitions = image.topics().flat_map(|topic| &topic.partitions);
    for (_, epoch) in partitions.filter_map(|partition| partition.leader) {
        if let Some(led) = loads.get_mut(&epoch) {
            *led += 1;
        }
    }
    loads
}

/// Whether a partition has no leader and may get one: the epoch that led it is closed (E4), and its node has not started
/// again, for then the node itself asks for it.
fn needs_leader(image: &MetadataImage, partition: &PartitionImage) -> bool {
    let Some((id, epoch)) = partition.leader else {
        return true;
    };
    let Some(node) = image.node(id) else {
        return true;
    };
    let is_unclosed = node.unclosed().any(|(unclosed, _)| unclosed == epoch);
    !is_unclosed && !node.is_live()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::ImageBuilder;

    fn three() -> ImageBuilder {
        let mut images = ImageBuilder::default();
        for node in 1..=3 {
            images.register(node, &[("PLAINTEXT", "host", 9092)]);
        }
        images
    }

    /// Lets a broker die for good: its epochs are closed or fenced, and the one that led is closed.
    fn die(images: &mut ImageBuilder, node: i32) {
        images.restart(node);
        images.fence(node);
    }

    /// The number of partitions that each node gets.
    fn planned(images: &ImageBuilder, seen: &MetadataImage) -> BTreeMap<i32, usize> {
        let image = images.image();
        let node_of = |epoch: NodeEpoch| {
            let found = image.nodes().find(|(_, node)| node.epoch == epoch);
            found.map(|(id, _)| id.0).expect("is live")
        };
        let plan = plan(&image, seen).into_iter();
        plan.map(|(epoch, streams)| (node_of(epoch), streams.len()))
            .collect()
    }

    #[test]
    fn what_a_dead_broker_led_is_spread_over_the_live_ones() {
        let mut images = three();
        images.create("t", &[[2].as_slice(); 10]);
        images.create("u", &[&[1], &[1], &[3], &[3]]);
        let none = MetadataImage::default();
        images.fence(2);
        assert_eq!(
            planned(&images, &none),
            BTreeMap::new(),
            "its epoch is not closed (E4)"
        );
        let mut images = three();
        images.create("t", &[[2].as_slice(); 10]);
        images.create("u", &[&[1], &[1], &[3], &[3]]);
        die(&mut images, 2);
        assert_eq!(planned(&images, &none), BTreeMap::from([(1, 5), (3, 5)]));
    }

    #[test]
    fn the_first_live_replica_leads() {
        let mut images = three();
        images.create("t", &[&[2, 3, 1], &[2, 1, 3], &[2, 3, 1]]);
        die(&mut images, 2);
        let none = MetadataImage::default();
        assert_eq!(planned(&images, &none), BTreeMap::from([(1, 1), (3, 2)]));
    }

    #[test]
    fn a_broker_that_is_back_asks_for_its_own_partitions() {
        let mut images = three();
        images.create("t", &[&[2], &[2]]);
        images.restart(2);
        assert_eq!(planned(&images, &MetadataImage::default()), BTreeMap::new());
    }

    #[test]
    fn a_topic_that_was_created_while_no_broker_lived_gets_leaders() {
        let mut images = ImageBuilder::default();
        images.register(1, &[("PLAINTEXT", "host", 9092)]);
        images.fence(1);
        images.create("t", &[&[1], &[1]]);
        let seen = images.image();
        assert_eq!(planned(&images, &MetadataImage::default()), BTreeMap::new());
        images.register(2, &[("PLAINTEXT", "host", 9092)]);
        assert_eq!(planned(&images, &seen), BTreeMap::from([(2, 2)]));
    }

    // A commit changes the image, and must not cost a look at every partition.
    #[test]
    fn only_topics_that_have_changed_are_looked_at_while_no_epoch_changes() {
        let mut images = three();
        images.create("t", &[&[2]]);
        die(&mut images, 2);
        let seen = images.image();
        assert_eq!(planned(&images, &seen), BTreeMap::new());
        images.create("u", &[&[2]]);
        assert_eq!(planned(&images, &seen).values().sum::<usize>(), 1);
    }
}
