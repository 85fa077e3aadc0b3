//! Spreads the load: heavy partitions move from the broker whose partitions weigh most to the one whose weigh least.

use std::collections::BTreeMap;

use highwater_kraft_meta::{Heard, PartitionImage};
use highwater_types::NodeId;

use super::{Brokers, Plan, allowed, partitions, replaced};

/// The moves that one plan makes at most, not counting those that keep the numbers of partitions even.
const MOVES_MAX: usize = 8;
/// By how much a broker's load is above the mean, in percent, before any partition moves because of it. Moves go on until
/// it is as near to the mean as its number of partitions has to be to its share.
const UNEVEN_PERCENT: u64 = 25;
/// The least weight above the mean, in bytes per second, because of which a partition moves.
const UNEVEN_MIN: u64 = 1 << 20;

/// What the partitions weigh that each trusted broker leads, and the heaviest of them.
#[derive(Debug)]
pub(super) struct Weights {
    totals: BTreeMap<NodeId, u64>,
    heaviest: BTreeMap<NodeId, Vec<(u64, u64)>>,
    mean: u64,
}

impl Weights {
    /// The weights, if every trusted broker has told its load and they are uneven.
    pub(super) fn of(brokers: &Brokers, heard: &Heard) -> Option<Self> {
        let (mut totals, mut heaviest) = (BTreeMap::new(), BTreeMap::new());
        for id in &brokers.trusted {
            let load = heard.load(*brokers.serving.get(id)?)?;
            totals.insert(*id, load.total);
            let of_broker = load.heaviest.iter().map(|one| (one.stream, one.weight));
            heaviest.insert(*id, of_broker.collect());
        }
        let sum = totals
            .values()
            .fold(0, |sum: u64, one| sum.saturating_add(*one));
        let mean = sum.checked_div(totals.len() as u64)?;
        let weights = Self {
            totals,
            heaviest,
            mean,
        };
        let (_, most) = weights.most()?;
        weights.is_above(most, UNEVEN_PERCENT).then_some(weights)
    }

    fn is_above(&self, weight: u64, percent: u64) -> bool {
        let above = weight.saturating_sub(self.mean);
        above >= UNEVEN_MIN && above > self.mean / 100 * percent
    }

    fn most(&self) -> Option<(NodeId, u64)> {
        let most = self
            .totals
            .iter()
            .max_by_key(|(id, weight)| (**weight, **id));
        most.map(|(id, weight)| (*id, *weight))
    }

    fn least(&self) -> Option<(NodeId, u64)> {
        let least = self
            .totals
            .iter()
            .min_by_key(|(id, weight)| (**weight, **id));
        least.map(|(id, weight)| (*id, *weight))
    }

    fn moved(&mut self, from: NodeId, to: NodeId, weight: u64) {
        if let Some(total) = self.totals.get_mut(&from) {
            *total = total.saturating_sub(weight);
        }
        if let Some(total) = self.totals.get_mut(&to) {
            *total = total.saturating_add(weight);
        }
    }
}

/// The partitions of each broker that may move, by their streams, with their weights; those that are not among the
/// heaviest weigh nothing.
type Led<'a> = BTreeMap<NodeId, BTreeMap<u64, (u64, &'a PartitionImage)>>;

impl<'a> Plan<'a> {
    /// Moves heavy partitions, as long as a broker's load is above the mean and a move makes the two brokers more even. The
    /// numbers of partitions stay even: where they would not, a light partition goes the other way.
    pub(super) fn level(&mut self, mut weights: Weights, percentage: usize) {
        let mut led = self.led(&weights);
        let allowed = allowed(self.counts.values().sum(), weights.totals.len(), percentage);
        let near = u64::try_from(percentage).unwrap_or(u64::MAX);
        for _ in 0..MOVES_MAX {
            let (Some((from, most)), Some((to, least))) = (weights.most(), weights.least()) else {
                return;
            };
            if !weights.is_above(most, near) {
                return;
            }
            let gap = most.saturating_sub(least);
            let Some((heavy, weight)) = best(&led, from, gap) else {
                return;
            };
            let has_room = self.counts.get(&to).is_some_and(|count| *count < allowed);
            let back = if has_room { None } else { lightest(&led, to) };
            let back_weight = back.map_or(0, |(_, weight)| weight);
            if !has_room && (back.is_none() || back_weight > weight / 2) {
                return;
            }
            self.go((heavy, weight), (from, to), (&mut weights, &mut led));
            if let Some(light) = back {
                self.go(light, (to, from), (&mut weights, &mut led));
            }
        }
    }

    fn go(
        &mut self,
        (partition, weight): (&'a PartitionImage, u64),
        (from, to): (NodeId, NodeId),
        (weights, led): (&mut Weights, &mut Led<'a>),
    ) {
        weights.moved(from, to, weight);
        // it moves once in a plan
        if let Some(of_broker) = led.get_mut(&from) {
            of_broker.remove(&partition.stream.0);
        }
        let replicas = replaced(self.image, partition, from, to);
        self.push(partition, to, Some(replicas));
    }

    fn led(&self, weights: &Weights) -> Led<'a> {
        let heaviest = weights.heaviest.iter();
        let told: BTreeMap<(NodeId, u64), u64> = heaviest
            .flat_map(|(id, of_broker)| of_broker.iter().map(|(stream, it)| ((*id, *stream), *it)))
            .collect();
        let mut led = Led::new();
        for (_, partition) in partitions(self.image) {
            if let Some((leader, _)) = self.image.live_leader(partition)
                && weights.totals.contains_key(&leader)
                && self.may_spread(partition)
            {
                let stream = partition.stream.0;
                let weight = told.get(&(leader, stream)).copied().unwrap_or(0);
                let of_broker = led.entry(leader).or_default();
                of_broker.insert(stream, (weight, partition));
            }
        }
        led
    }
}

/// The partition of a broker that makes two brokers most even whose loads are so far apart. One that weighs as much as the
/// gap, or nearly, would only change places; one that weighs next to nothing is not worth a move.
fn best<'a>(led: &Led<'a>, from: NodeId, gap: u64) -> Option<(&'a PartitionImage, u64)> {
    let is_worth = |weight: u64| weight >= gap / 20 && weight > 0 && weight < gap / 10 * 9;
    let candidates = led.get(&from)?.values();
    let worth = candidates.filter(|(weight, _)| is_worth(*weight));
    let best = worth.min_by_key(|(weight, _)| weight.abs_diff(gap / 2))?;
    Some((best.1, best.0))
}

fn lightest<'a>(led: &Led<'a>, of: NodeId) -> Option<(&'a PartitionImage, u64)> {
    let lightest = led.get(&of)?.values().min_by_key(|(weight, _)| *weight)?;
    Some((lightest.1, lightest.0))
}
