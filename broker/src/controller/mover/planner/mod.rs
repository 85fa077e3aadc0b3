//! Which partitions move, and where to. Pure.

mod level;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::command::{Duty, PartitionMove, Replicas};
use highwater_kraft_meta::{Heard, MetadataImage, NodeImage, PartitionImage, TopicImage};
use highwater_types::{NodeEpoch, NodeId, TopicId};
use tokio::time::Instant;

use self::level::Weights;
use crate::load::MEAN_OVER;

/// The wait after a plan, in which changes gather.
pub(super) const GATHER: Duration = Duration::from_millis(20);
/// The most moves that are under way at once, so that a thousand of them don't stall the cluster.
const UNDER_WAY_MAX: usize = 500;
/// The most of them that only spread the load: each choice looks at all topics of a broker, and a broker that stops must
/// not wait for them.
const SPREAD_MAX: usize = 200;
/// How long a broker has to serve before it gets leaderships of others to spread the load: one that dies soon after each
/// start gets none.
const PROBATION: Duration = Duration::from_secs(10);

/// How leaderships are spread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Balance {
    /// Whether they are (`auto.leader.rebalance.enable`). Brokers that stop hand theirs over in any case.
    pub(crate) is_on: bool,
    /// How often it is looked at.
    pub(crate) interval: Duration,
    /// By how much a broker may lead more than its share, in percent.
    pub(crate) percentage: usize,
}

/// Plans while this node is the active controller in one term.
#[derive(Debug)]
pub(super) struct Planner {
    balance: Balance,
    /// Until then nothing moves while a live broker was not heard in this term.
    heard_by: Instant,
    /// Since when each epoch serves.
    serving_since: BTreeMap<NodeEpoch, Instant>,
    /// When a broker stopped serving last: leaderships are not spread for a while, because it may be back soon.
    left: Option<Instant>,
    /// When leaderships were last spread.
    balanced: Option<Instant>,
    /// When moves were last asked for or under way, for whatever reason, or the load was last spread or could not be. Each
    /// broker's load is a mean, and shows only after a while what was moved.
    moved: Instant,
    /// Whether moves were under way at the last plan.
    is_under_way: bool,
    /// Whether the last spreading found nothing to move, and nothing has changed since.
    is_balanced: bool,
    /// The image and the brokers of the last plan, if it had no moves, so that a change of something else costs nothing.
    seen: Option<(Arc<MetadataImage>, Brokers)>,
}

/// The brokers, by what they may lead.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Brokers {
    /// They may get leaderships.
    serving: BTreeMap<NodeId, NodeEpoch>,
    /// They hand theirs over.
    leaving: BTreeSet<NodeId>,
    /// They may get leaderships so that the load spreads.
    trusted: BTreeSet<NodeId>,
    /// The epochs that are open, without which a move is never carried out.
    open: BTreeSet<NodeEpoch>,
}

/// How many partitions each broker leads, with those that are on the way to it.
type Counts = BTreeMap<NodeId, usize>;

impl Planner {
    /// Begins a term; by `heard_by` all brokers that live should be heard.
    pub(super) fn new(balance: Balance, heard_by: Instant) -> Self {
        Self {
            balance,
            heard_by,
            serving_since: BTreeMap::new(),
            left: None,
            balanced: None,
            moved: heard_by,
            is_under_way: false,
            is_balanced: false,
            seen: None,
        }
    }

    /// The moves to ask for now. The work grows with all partitions only when topics or brokers have changed, or when
    /// leaderships are to be spread.
    pub(super) fn plan(
        &mut self,
        image: &Arc<MetadataImage>,
        heard: &Heard,
        now: Instant,
    ) -> Vec<PartitionMove> {
        let is_unheard = image.live().any(|(_, epoch)| !heard.has(epoch));
        if is_unheard && now < self.heard_by {
            return Vec::new();
        }
        let brokers = self.look(image, heard, now);
        let is_same = self.seen.as_ref().is_some_and(|(seen, known)| {
            *known == brokers && image.topics_changed_since(seen).is_empty()
        });
        self.is_balanced &= is_same;
        let is_due = self.is_due(now);
        let uneven = match self.may_level(now) {
            true => Weights::of(&brokers, heard, (now, self.balance.interval)),
            false => None,
        };
        if (is_same && !is_due && uneven.is_none()) || brokers.serving.is_empty() {
            // an older image would keep all that has changed since in memory
            self.seen = Some((Arc::clone(image), brokers));
            return Vec::new();
        }
        let mut plan = Plan::new(image, &brokers);
        plan.evacuate();
        if is_due && plan.moves.is_empty() && plan.under_way == 0 {
            self.balanced = Some(now);
            plan.prefer();
            plan.spread(self.balance.percentage);
            self.is_balanced = plan.moves.is_empty();
        }
        let was_under_way = std::mem::replace(&mut self.is_under_way, plan.under_way > 0);
        if let Some(weights) = uneven
            && plan.moves.is_empty()
            && plan.under_way == 0
            && !was_under_way
        {
            self.moved = now;
            plan.level(weights, self.balance.percentage);
        }
        if !plan.moves.is_empty() || plan.under_way > 0 || was_under_way {
            self.moved = now;
        }
        let moves = plan.moves;
        // moves that were planned may be refused
        self.seen = moves.is_empty().then(|| (Arc::clone(image), brokers));
        moves
    }

    /// Whether leaderships are to be spread.
    fn is_due(&self, now: Instant) -> bool {
        let has_rested = is_past(now, self.balanced, self.balance.interval);
        self.balance.is_on && !self.is_balanced && has_rested && is_past(now, self.left, PROBATION)
    }

    /// Whether the load may be spread.
    fn may_level(&self, now: Instant) -> bool {
        let settled = self.balance.interval * MEAN_OVER;
        self.balance.is_on
            && now.duration_since(self.moved) >= settled
            && is_past(now, self.left, PROBATION)
    }

    fn look(&mut self, image: &MetadataImage, heard: &Heard, now: Instant) -> Brokers {
        let mut brokers = Brokers::default();
        for (id, node) in image.nodes().filter(|(_, node)| node.is_live()) {
            brokers.open.insert(node.epoch);
            if heard.leaves(node.epoch) || node.duty == Duty::Draining {
                brokers.leaving.insert(id);
            } else if heard.serves(node.epoch) && node.may_lead() {
                brokers.serving.insert(id, node.epoch);
            }
        }
        let epochs: BTreeSet<NodeEpoch> = brokers.serving.values().copied().collect();
        let before = self.serving_since.len();
        self.serving_since.retain(|epoch, _| epochs.contains(epoch));
        if self.serving_since.len() < before {
            self.left = Some(now);
        }
        for (id, epoch) in &brokers.serving {
            let since = *self.serving_since.entry(*epoch).or_insert(now);
            // those that were there when this controller became active are known to be sound
            if now.duration_since(since) >= PROBATION || since <= self.heard_by {
                brokers.trusted.insert(*id);
            }
        }
        brokers
    }
}

fn is_past(now: Instant, since: Option<Instant>, within: Duration) -> bool {
    since.is_none_or(|since| now.duration_since(since) >= within)
}

/// A plan that is being made.
struct Plan<'a> {
    image: &'a MetadataImage,
    brokers: &'a Brokers,
    counts: Counts,
    /// The moves that were asked for before, of partitions with a live leader.
    under_way: usize,
    moves: Vec<PartitionMove>,
}

impl<'a> Plan<'a> {
    fn new(image: &'a MetadataImage, brokers: &'a Brokers) -> Self {
        let mut counts: Counts = brokers.serving.keys().map(|id| (*id, 0)).collect();
        let mut under_way = 0;
        for partition in image.partitions() {
            let is_led = partition
                .leader
                .is_some_and(|(_, epoch)| brokers.open.contains(&epoch));
            under_way += usize::from(partition.moving.is_some() && is_led);
            let leader = partition.leader.map(|(node, _)| node);
            let to = partition.moving.as_ref().map(|moving| moving.to);
            if let Some(led) = to.or(leader).and_then(|id| counts.get_mut(&id)) {
                *led += 1;
            }
        }
        Self {
            image,
            brokers,
            counts,
            under_way,
            moves: Vec::new(),
        }
    }

    fn is_full(&self, max: usize) -> bool {
        self.under_way + self.moves.len() >= max
    }

    /// Moves what brokers that stop or are drained lead, and what is on the way to a broker that gets nothing any more: to
    /// the replica that leads least of those that serve, else to the broker that leads least. The replicas stay, because the
    /// broker may be back soon. A move that waits for a leader without an open epoch is cancelled.
    fn evacuate(&mut self) {
        for partition in self.image.partitions() {
            let moving = partition.moving.as_ref();
            let Some((leader, _)) = self.image.live_leader(partition) else {
                if moving.is_some() {
                    self.moves.push(of(partition, None, None));
                }
                continue;
            };
            let serves = |id: &NodeId| self.brokers.serving.get(id).copied();
            let is_lost = moving.is_some_and(|moving| serves(&moving.to) != Some(moving.epoch));
            let is_leaving = self.brokers.leaving.contains(&leader);
            if is_leaving && (moving.is_none() || is_lost) && !self.is_full(UNDER_WAY_MAX) {
                let serving = partition.replicas.iter().filter(|id| serves(id).is_some());
                let best = serving.min_by_key(|id| self.counts.get(id).copied());
                if let Some(to) = best.copied().or_else(|| self.least()) {
                    self.push(partition, to, None);
                }
            } else if is_lost && !is_leaving {
                self.moves.push(of(partition, None, None));
            }
        }
    }

    fn least(&self) -> Option<NodeId> {
        let least = self.counts.iter().min_by_key(|(id, led)| (**led, **id));
        least.map(|(id, _)| *id)
    }

    fn push(&mut self, partition: &PartitionImage, to: NodeId, replicas: Option<Vec<NodeId>>) {
        if let Some((leader, _)) = partition.leader
            && let Some(led) = self.counts.get_mut(&leader)
        {
            *led = led.saturating_sub(1);
        }
        *self.counts.entry(to).or_default() += 1;
        self.moves.push(of(partition, Some(to), replicas));
    }

    /// Gives partitions whose replicas an operator chose to their preferred leaders.
    fn prefer(&mut self) {
        for partition in self.image.partitions().filter(|one| one.is_chosen) {
            let (Some((leader, _)), Some(preferred)) = (
                self.image.live_leader(partition),
                partition.replicas.first().copied(),
            ) else {
                continue;
            };
            if preferred != leader
                && self.brokers.trusted.contains(&preferred)
                && !self.is_full(SPREAD_MAX)
            {
                self.push(partition, preferred, None);
            }
        }
    }

    /// Spreads the leaderships, if a broker leads more than its share by more than some percent. Only partitions move
    /// whose replicas no operator chose, and those on whose list no broker is left.
    fn spread(&mut self, percentage: usize) {
        let trusted = |(id, _): &(&NodeId, &usize)| self.brokers.trusted.contains(id);
        let total: usize = self.counts.values().sum();
        let brokers = self.counts.iter().filter(trusted).count();
        if brokers < 2 {
            return;
        }
        if self
            .counts
            .values()
            .all(|led| *led <= allowed(total, brokers, percentage))
        {
            return;
        }
        let mut movable = self.movable();
        while !self.is_full(SPREAD_MAX) {
            let movable_from = self.counts.iter().filter(|(id, _)| movable.has(**id));
            let most = movable_from.max_by_key(|(id, led)| (**led, **id));
            let least = self.counts.iter().filter(trusted_of(self.brokers));
            let least = least.min_by_key(|(id, led)| (**led, **id));
            let (Some((most, more)), Some((least, less))) = (most, least) else {
                return;
            };
            let (most, least) = (*most, *least);
            if *more <= less + 1 {
                return;
            }
            let Some(partition) = movable.take(most, least) else {
                return;
            };
            let replicas = replaced(self.image, partition, most, least);
            self.push(partition, least, Some(replicas));
        }
    }

    /// Whether a partition may move so that load spreads: no operator chose its replicas, or none of them lives, and it is
    /// not moving already.
    fn may_spread(&self, partition: &PartitionImage) -> bool {
        let lives = |id: &NodeId| self.image.live_epoch(*id).is_some();
        let is_held = partition.is_chosen && partition.replicas.iter().any(lives);
        !is_held && partition.moving.is_none()
    }

    /// The partitions that may move so that load spreads.
    fn movable(&self) -> Movable<'a> {
        let planned: BTreeSet<u64> = self.moves.iter().map(|one| one.stream).collect();
        let mut movable = Movable::default();
        for (topic, partition) in partitions(self.image) {
            let Some((leader, _)) = self.image.live_leader(partition) else {
                continue;
            };
            *movable.led.entry((topic.id, leader)).or_default() += 1;
            if self.may_spread(partition) && !planned.contains(&partition.stream.0) {
                movable.add(leader, topic.id, partition);
            }
        }
        movable
    }
}

fn trusted_of(brokers: &Brokers) -> impl Fn(&(&NodeId, &usize)) -> bool + '_ {
    |(id, _)| brokers.trusted.contains(id)
}

/// The most partitions that a broker leads before its share is spread.
fn allowed(total: usize, brokers: usize, percentage: usize) -> usize {
    let share = total.div_ceil(brokers.max(1));
    share + share * percentage / 100
}

/// The partitions that may move, by their leader.
#[derive(Default)]
struct Movable<'a> {
    of: BTreeMap<NodeId, BTreeMap<TopicId, Vec<&'a PartitionImage>>>,
    /// How many partitions of each topic each broker leads.
    led: BTreeMap<(TopicId, NodeId), usize>,
}

impl<'a> Movable<'a> {
    fn add(&mut self, leader: NodeId, topic: TopicId, partition: &'a PartitionImage) {
        let of_leader = self.of.entry(leader).or_default();
        of_leader.entry(topic).or_default().push(partition);
    }

    /// Whether a broker leads a partition that may move.
    fn has(&self, from: NodeId) -> bool {
        self.of.get(&from).is_some_and(|of| !of.is_empty())
    }

    /// Takes the partition that best moves from one broker to another: one of the topic that is spread worst between them,
    /// if possible one that the other broker is the preferred leader of.
    fn take(&mut self, from: NodeId, to: NodeId) -> Option<&'a PartitionImage> {
        let led = &self.led;
        let count = |topic: TopicId, node| led.get(&(topic, node)).copied().unwrap_or(0);
        let topics = self.of.get_mut(&from)?;
        let is_home = |one: &PartitionImage| one.replicas.first() == Some(&to);
        let (topic, _) = topics.iter().max_by_key(|(topic, of_topic)| {
            let unevenness = count(**topic, from).saturating_sub(count(**topic, to));
            (of_topic.last().is_some_and(|one| is_home(one)), unevenness)
        })?;
        let topic = *topic;
        let of_topic = topics.get_mut(&topic)?;
        let best = of_topic.iter().rposition(|one| is_home(one));
        let partition = of_topic.swap_remove(best.unwrap_or(of_topic.len() - 1));
        if of_topic.is_empty() {
            topics.remove(&topic);
        }
        *self.led.entry((topic, from)).or_default() -= 1;
        *self.led.entry((topic, to)).or_default() += 1;
        Some(partition)
    }
}

/// The replicas of a partition once another broker leads it: that broker comes first. If it was not among them, it takes the
/// place of one in its rack, else of the former leader, so that there are as many, in as many racks.
fn replaced(
    image: &MetadataImage,
    partition: &PartitionImage,
    from: NodeId,
    to: NodeId,
) -> Vec<NodeId> {
    let mut others = partition.replicas.clone();
    if let Some(at) = others.iter().position(|id| *id == to) {
        others.remove(at);
    } else {
        let rack = |id: NodeId| image.node(id).map_or("", |node: &NodeImage| &node.rack);
        let is_same_rack = |id: &NodeId| !rack(to).is_empty() && rack(*id) == rack(to);
        let at = others.iter().position(is_same_rack);
        let at = at.or_else(|| others.iter().position(|id| *id == from));
        others.remove(at.unwrap_or(0).min(others.len().saturating_sub(1)));
    }
    std::iter::once(to).chain(others).collect()
}

/// Every partition, with its topic.
fn partitions(image: &MetadataImage) -> impl Iterator<Item = (&Arc<TopicImage>, &PartitionImage)> {
    let topics = image.topics();
    topics.flat_map(|topic| {
        topic
            .partitions
            .iter()
            .map(move |partition| (topic, partition))
    })
}

/// The command that changes a partition.
fn of(
    partition: &PartitionImage,
    to: Option<NodeId>,
    replicas: Option<Vec<NodeId>>,
) -> PartitionMove {
    PartitionMove {
        replicas: replicas.map(|nodes| Replicas {
            nodes: nodes.into_iter().map(|node| node.0).collect(),
        }),
        to: to.map(|to| to.0),
        ..PartitionMove::of(partition)
    }
}

#[cfg(test)]
mod tests;
