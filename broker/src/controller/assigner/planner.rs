//! Which partitions need a leader, and which broker each of them gets. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::command::{Duty, StreamEpoch};
use highwater_kraft_meta::{EpochState, Heard, MetadataImage, PartitionImage, TopicImage};
use highwater_types::{NodeEpoch, NodeId};
use tokio::time::Instant;

/// The partitions that each epoch gets.
pub(super) type Plan = BTreeMap<NodeEpoch, Vec<StreamEpoch>>;

/// How long the partitions of a broker wait for it once it has registered again, in all its starts together until it has
/// served for as long: a broker that dies in every start, or soon after it, must not keep them.
const RETURN: Duration = Duration::from_secs(30);

/// Plans while this node is the active controller in one term.
#[derive(Debug)]
pub(super) struct Planner {
    /// Until then no partition is given away while a live broker was not heard in this term, because the first one that
    /// is heard would get them all.
    heard_by: Instant,
    /// The last image whose plan was carried out.
    seen: Arc<MetadataImage>,
    /// The brokers when it was made.
    seen_brokers: Option<Brokers>,
    /// The brokers of the last plan.
    brokers: Option<Brokers>,
    /// The nodes that are back, and have not served for long since.
    back: BTreeMap<NodeId, Back>,
}

/// A node that is back, also in several starts.
#[derive(Debug, Clone, Copy)]
struct Back {
    /// Since when.
    since: Instant,
    /// Since when its present start serves.
    serves_since: Option<Instant>,
}

/// All that a plan depends on beside the topics.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Brokers {
    /// The state of every epoch.
    states: Vec<(NodeEpoch, EpochState)>,
    /// The epochs that get leaderships: those that serve, with the best duty of all.
    serving: BTreeMap<NodeId, NodeEpoch>,
    /// The nodes that are back and may still serve in time.
    returning: BTreeSet<NodeId>,
}

impl Planner {
    /// Begins a term; by `heard_by` all brokers that live should be heard.
    pub(super) fn new(heard_by: Instant) -> Self {
        Self {
            heard_by,
            seen: Arc::default(),
            seen_brokers: None,
            brokers: None,
            back: BTreeMap::new(),
        }
    }

    /// The leaders of the partitions that need one, and the time at which another plan may differ although neither the
    /// image nor what is heard has changed. The work grows with all partitions only when brokers come or go, otherwise
    /// with the topics that have changed since the last plan that was carried out.
    pub(super) fn plan(
        &mut self,
        image: &MetadataImage,
        heard: &Heard,
        now: Instant,
    ) -> (Plan, Option<Instant>) {
        let is_unheard = image.live().any(|(_, epoch)| !heard.has(epoch));
        if is_unheard && now < self.heard_by {
            self.brokers = None;
            return (Plan::new(), Some(self.heard_by));
        }
        let (brokers, again) = self.look(image, heard, now);
        let topics: Vec<Arc<TopicImage>> = match self.seen_brokers.as_ref() == Some(&brokers) {
            true => image.topics_changed_since(&self.seen),
            false => image.topics().cloned().collect(),
        };
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        let leaderless = partitions.filter(|partition| needs_leader(image, &brokers, partition));
        let plan = spread(image, &brokers.serving, leaderless);
        self.brokers = Some(brokers);
        (plan, again)
    }

    /// Notes that the last plan, which was made from this image, was carried out.
    pub(super) fn done(&mut self, image: Arc<MetadataImage>) {
        self.seen_brokers = self.brokers.take();
        self.seen = image;
    }

    /// The brokers, and when the next one of them that is back is not waited for any more.
    fn look(
        &mut self,
        image: &MetadataImage,
        heard: &Heard,
        now: Instant,
    ) -> (Brokers, Option<Instant>) {
        let live = image.live().filter(|(_, epoch)| !heard.leaves(*epoch));
        let (mut serving, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            live.partition(|(_, epoch)| heard.serves(*epoch));
        self.back.retain(|node, back| {
            let serves = serving.contains_key(node);
            let since = back.serves_since.or(serves.then_some(now));
            back.serves_since = since.filter(|_| serves);
            since.is_none_or(|since| now.duration_since(since) < RETURN)
        });
        for node in others.keys() {
            self.back.entry(*node).or_insert(Back {
                since: now,
                serves_since: None,
            });
        }
        let ends = others
            .keys()
            .filter_map(|node| Some((*node, self.back.get(node)?.since + RETURN)));
        let duty = |id: &NodeId| image.node(*id).map(|node| node.duty);
        let is_full = |id: &NodeId| duty(id) == Some(Duty::Full);
        let returning = ends.filter(|(id, end)| now < *end && is_full(id));
        let returning: BTreeMap<_, _> = returning.collect();
        // a cordoned broker gets something only if no other serves, and one that is drained comes last
        let best = serving.keys().filter_map(duty).min();
        serving.retain(|id, _| duty(id) == best);
        let epochs = image.nodes().flat_map(|(_, node)| &node.epochs);
        let brokers = Brokers {
            states: epochs.map(|(epoch, image)| (*epoch, image.state)).collect(),
            serving,
            returning: returning.keys().copied().collect(),
        };
        (brokers, returning.values().min().copied())
    }
}

/// Gives each partition to the node that led it, else to the first of its replicas, else to the broker that leads least;
/// only those that serve get any.
fn spread<'a>(
    image: &MetadataImage,
    serving: &BTreeMap<NodeId, NodeEpoch>,
    leaderless: impl Iterator<Item = &'a PartitionImage>,
) -> Plan {
    let mut plan = Plan::new();
    // counted only if it matters, because a new topic must not cost a look at every partition
    let mut loads = None;
    for partition in leaderless {
        let former = partition.leader.map(|(node, _)| node);
        let mut first = former.iter().chain(&partition.replicas);
        let chosen = first.find_map(|node| serving.get(node).copied());
        let mut least = || {
            let loads = loads.get_or_insert_with(|| loads_of(image, serving));
            let planned = |epoch: &NodeEpoch| plan.get(epoch).map_or(0, Vec::len);
            let least = loads
                .iter()
                .min_by_key(|(epoch, led)| (**led + planned(epoch), **epoch));
            least.map(|(epoch, _)| *epoch)
        };
        let Some(chosen) = chosen.or_else(&mut least) else {
            // no broker serves
            return Plan::new();
        };
        plan.entry(chosen).or_default().push(StreamEpoch {
            stream: partition.stream.0,
            leader_epoch: partition.leader_epoch.0,
        });
    }
    plan
}

/// How many partitions each of these epochs leads.
fn loads_of(
    image: &MetadataImage,
    serving: &BTreeMap<NodeId, NodeEpoch>,
) -> BTreeMap<NodeEpoch, usize> {
    let mut loads: BTreeMap<_, _> = serving.values().map(|epoch| (*epoch, 0)).collect();
    let partitions = image.partitions();
    for (_, epoch) in partitions.filter_map(|partition| partition.leader) {
        if let Some(led) = loads.get_mut(&epoch) {
            *led += 1;
        }
    }
    loads
}

/// Whether a partition has no leader and may get one: the epoch that led it is closed (E4), and its node is not about to
/// serve again.
fn needs_leader(image: &MetadataImage, brokers: &Brokers, partition: &PartitionImage) -> bool {
    let Some((id, epoch)) = partition.leader else {
        return true;
    };
    let Some(node) = image.node(id) else {
        return true;
    };
    !node.is_unclosed(epoch) && !brokers.returning.contains(&id)
}

#[cfg(test)]
mod tests {
    use highwater_kraft_meta::Standing;

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

    /// What is heard when all live brokers serve but these.
    fn heard_but(images: &ImageBuilder, starting: &[i32]) -> Heard {
        heard_as(images, |node| match starting.contains(&node) {
            true => Standing::Starting,
            false => Standing::Serving,
        })
    }

    /// What is heard when each live broker has this standing.
    fn heard_as(images: &ImageBuilder, standing: impl Fn(i32) -> Standing) -> Heard {
        let image = images.image();
        let live = image.live();
        live.map(|(node, epoch)| (epoch, standing(node.0)))
            .collect()
    }

    /// A planner, and its clock.
    struct World {
        planner: Planner,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                planner: Planner::new(now),
                now,
            }
        }

        /// The number of partitions that each node gets. The plan is not carried out.
        fn planned(&mut self, images: &ImageBuilder, heard: &Heard) -> BTreeMap<i32, usize> {
            let image = images.image();
            let node_of = |epoch: NodeEpoch| {
                let found = image.nodes().find(|(_, node)| node.epoch == epoch);
                found.map(|(id, _)| id.0).expect("is live")
            };
            let (plan, _) = self.planner.plan(&image, heard, self.now);
            let plan = plan.into_iter();
            plan.map(|(epoch, streams)| (node_of(epoch), streams.len()))
                .collect()
        }

        /// When the planner wants to look again.
        fn again(&mut self, images: &ImageBuilder, heard: &Heard) -> Option<Duration> {
            let (_, again) = self.planner.plan(&images.image(), heard, self.now);
            again.map(|at| at - self.now)
        }
    }

    fn planned(images: &ImageBuilder, starting: &[i32]) -> BTreeMap<i32, usize> {
        World::new().planned(images, &heard_but(images, starting))
    }

    #[test]
    fn what_a_dead_broker_led_is_spread_over_the_live_ones() {
        let mut images = three();
        images.create("t", &[[2].as_slice(); 10]);
        images.create("u", &[&[1], &[1], &[3], &[3]]);
        images.fence(2);
        let none = BTreeMap::new();
        assert_eq!(planned(&images, &[]), none, "its epoch is not closed (E4)");
        let mut images = three();
        images.create("t", &[[2].as_slice(); 10]);
        images.create("u", &[&[1], &[1], &[3], &[3]]);
        die(&mut images, 2);
        assert_eq!(planned(&images, &[]), BTreeMap::from([(1, 5), (3, 5)]));
    }

    #[test]
    fn the_first_serving_replica_leads() {
        let mut images = three();
        images.create("t", &[&[2, 3, 1], &[2, 1, 3], &[2, 3, 1]]);
        die(&mut images, 2);
        assert_eq!(planned(&images, &[]), BTreeMap::from([(1, 1), (3, 2)]));
        assert_eq!(planned(&images, &[3]), BTreeMap::from([(1, 3)]));
    }

    // E4: a broker that has registered may never serve
    #[test]
    fn a_new_partition_goes_to_its_first_replica_that_serves() {
        let mut images = three();
        images.add("t", &[&[1], &[2], &[2, 3], &[3]]);
        assert_eq!(planned(&images, &[2]), BTreeMap::from([(1, 1), (3, 3)]));
        let all = BTreeMap::from([(1, 1), (2, 2), (3, 1)]);
        assert_eq!(planned(&images, &[]), all);
        assert_eq!(planned(&images, &[1, 2, 3]), BTreeMap::new());
    }

    // A broker that has registered may die before it has recovered, and again in its next start.
    #[test]
    fn a_broker_that_does_not_serve_yet_gets_nothing_but_keeps_its_own_for_a_while() {
        let mut images = three();
        images.create("t", &[&[2], &[2]]);
        images.create("u", &[&[3], &[3]]);
        die(&mut images, 3);
        images.restart(2);
        let mut world = World::new();
        let starting = heard_but(&images, &[2]);
        assert_eq!(world.planned(&images, &starting), BTreeMap::from([(1, 2)]));
        let serving = heard_but(&images, &[]);
        let both = BTreeMap::from([(1, 2), (2, 2)]);
        assert_eq!(world.planned(&images, &serving), both, "it gets its own");
    }

    #[test]
    fn a_broker_that_dies_in_every_start_keeps_nothing() {
        let mut images = three();
        images.create("t", &[&[2], &[2]]);
        let mut world = World::new();
        for _ in 0..3 {
            images.restart(2);
            let heard = heard_but(&images, &[2]);
            assert_eq!(world.planned(&images, &heard), BTreeMap::new());
            world.now += RETURN / 3;
        }
        images.restart(2);
        let heard = heard_but(&images, &[2]);
        assert_eq!(
            world.planned(&images, &heard),
            BTreeMap::from([(1, 1), (3, 1)])
        );
        // once it has served for long it is waited for again
        world.planned(&images, &heard_but(&images, &[]));
        world.now += RETURN;
        images.restart(2);
        let heard = heard_but(&images, &[2]);
        assert_eq!(world.planned(&images, &heard), BTreeMap::new());
        assert_eq!(world.again(&images, &heard), Some(RETURN));
    }

    #[test]
    fn a_broker_that_dies_soon_after_every_start_keeps_nothing() {
        let mut images = three();
        images.create("t", &[&[2], &[2]]);
        let mut world = World::new();
        for _ in 0..3 {
            images.restart(2);
            let starting = heard_but(&images, &[2]);
            assert_eq!(world.planned(&images, &starting), BTreeMap::new());
            let serving = heard_but(&images, &[]);
            let own = BTreeMap::from([(2, 2)]);
            assert_eq!(world.planned(&images, &serving), own, "it may be sound");
            world.now += RETURN / 3;
        }
        images.restart(2);
        let starting = heard_but(&images, &[2]);
        let others = BTreeMap::from([(1, 1), (3, 1)]);
        assert_eq!(world.planned(&images, &starting), others);
    }

    #[test]
    fn a_topic_that_was_created_while_no_broker_served_gets_leaders() {
        let mut images = ImageBuilder::default();
        images.register(1, &[("PLAINTEXT", "host", 9092)]);
        images.fence(1);
        images.create("t", &[&[1], &[1]]);
        let mut world = World::new();
        assert_eq!(world.planned(&images, &Heard::default()), BTreeMap::new());
        world.planner.done(images.image());
        images.register(2, &[("PLAINTEXT", "host", 9092)]);
        let heard = heard_but(&images, &[2]);
        assert_eq!(world.planned(&images, &heard), BTreeMap::new());
        world.planner.done(images.image());
        // the image is the same
        let heard = heard_but(&images, &[]);
        assert_eq!(world.planned(&images, &heard), BTreeMap::from([(2, 2)]));
    }

    // E4: it is not taken for one that is back, either
    #[test]
    fn a_broker_that_stops_gets_nothing_and_is_not_waited_for() {
        let mut images = three();
        images.create("t", &[[2].as_slice(); 10]);
        die(&mut images, 2);
        images.restart(2);
        let heard = heard_as(&images, |node| match node {
            2 => Standing::Leaving,
            _ => Standing::Serving,
        });
        let mut world = World::new();
        let spread = BTreeMap::from([(1, 5), (3, 5)]);
        assert_eq!(world.planned(&images, &heard), spread);
        assert_eq!(world.again(&images, &heard), None);
    }

    // A broker that an operator has cordoned or drains gets nothing, unless nobody would lead.
    #[test]
    fn cordoned_brokers_come_after_all_others() {
        let mut images = three();
        images.create("t", &[[2].as_slice(); 4]);
        die(&mut images, 2);
        images.set_duty(1, Duty::Cordoned);
        assert_eq!(planned(&images, &[]), BTreeMap::from([(3, 4)]));
        assert_eq!(planned(&images, &[3]), BTreeMap::from([(1, 4)]), "3 starts");
        images.set_duty(3, Duty::Draining);
        assert_eq!(planned(&images, &[]), BTreeMap::from([(1, 4)]));
        // the change of a duty is a reason to look again
        let mut world = World::new();
        world.planned(&images, &heard_but(&images, &[]));
        world.planner.done(images.image());
        images.set_duty(3, Duty::Full);
        let heard = heard_but(&images, &[]);
        assert_eq!(world.planned(&images, &heard), BTreeMap::from([(3, 4)]));
    }

    #[test]
    fn a_cordoned_broker_that_is_back_is_not_waited_for() {
        let mut images = three();
        images.create("t", &[&[2], &[2]]);
        images.restart(2);
        assert_eq!(planned(&images, &[2]), BTreeMap::new());
        images.set_duty(2, Duty::Cordoned);
        let others = BTreeMap::from([(1, 1), (3, 1)]);
        assert_eq!(planned(&images, &[2]), others);
        assert_eq!(planned(&images, &[]), others, "nor is it when it serves");
    }

    // A controller that has just started has heard nobody, and the first broker that it hears must not get everything.
    #[test]
    fn a_new_active_controller_hears_the_live_brokers_before_it_gives_anything_away() {
        let mut images = three();
        images.create("t", &[[2].as_slice(); 10]);
        die(&mut images, 2);
        let session = Duration::from_secs(3);
        let mut world = World::new();
        world.planner = Planner::new(world.now + session);
        let image = images.image();
        let first: Heard = image
            .live()
            .take(1)
            .map(|(_, epoch)| (epoch, Standing::Serving))
            .collect();
        assert_eq!(world.planned(&images, &first), BTreeMap::new());
        assert_eq!(world.again(&images, &first), Some(session));
        let all = heard_but(&images, &[]);
        let spread = BTreeMap::from([(1, 5), (3, 5)]);
        assert_eq!(world.planned(&images, &all), spread);
        // one that is silent for a session is not waited for, even if nobody fences it
        world.now += session;
        assert_eq!(world.planned(&images, &first), BTreeMap::from([(1, 10)]));
    }

    // A commit changes the image, and must not cost a look at every partition.
    #[test]
    fn only_topics_that_have_changed_are_looked_at_while_brokers_stay() {
        let mut images = three();
        images.create("t", &[&[2]]);
        die(&mut images, 2);
        let (mut world, heard) = (World::new(), heard_but(&images, &[]));
        assert_eq!(world.planned(&images, &heard).values().sum::<usize>(), 1);
        world.planner.done(images.image());
        assert_eq!(world.planned(&images, &heard), BTreeMap::new());
        images.create("u", &[&[2]]);
        assert_eq!(world.planned(&images, &heard).values().sum::<usize>(), 1);
    }
}
