//! Spreads the load: heavy partitions move from the broker whose partitions weigh most to the one whose weigh least.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_kraft_meta::{Heard, PartitionImage};
use highwater_types::NodeId;
use tokio::time::Instant;

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
    /// The weights, if every trusted broker has told its load within two intervals and they are uneven.
    pub(super) fn of(
        brokers: &Brokers,
        heard: &Heard,
        (now, interval): (Instant, Duration),
    ) -> Option<Self> {
        let mut loads = Vec::with_capacity(brokers.trusted.len());
        for id in &brokers.trusted {
            let (load, at) = heard.load(*brokers.serving.get(id)?)?;
            if now.duration_since(at) > interval * 2 {
                return None;
            }
            loads.push((*id, load));
        }
        let totals = loads.iter().map(|(id, load)| (*id, load.total)).collect();
        let mut weights = Self {
            mean: mean(&totals),
            totals,
            heaviest: BTreeMap::new(),
        };
        let (_, most) = weights.most()?;
        if !weights.is_above(most, UNEVEN_PERCENT) {
            return None;
        }
        let heaviest = loads.into_iter().map(|(id, load)| {
            let of_broker = load.heaviest.iter().map(|one| (one.stream, one.weight));
            (id, of_broker.collect())
        });
        weights.heaviest = heaviest.collect();
        Some(weights)
    }

    fn is_above(&self, weight: u64, percent: u64) -> bool {
        let above = weight.saturating_sub(self.mean);
        above >= UNEVEN_MIN && above > (self.mean / 100).saturating_mul(percent)
    }

    /// Forgets a broker that no move to the lightest one relieves: the others are compared among themselves.
    fn leave_out(&mut self, id: NodeId) {
        self.totals.remove(&id);
        self.mean = mean(&self.totals);
    }

    fn most(&self) -> Option<(NodeId, u64)> {
        let totals = self.totals.iter();
        let most = totals.max_by_key(|(id, weight)| (**weight, **id));
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

fn mean(totals: &BTreeMap<NodeId, u64>) -> u64 {
    let sum = totals
        .values()
        .fold(0, |sum: u64, one| sum.saturating_add(*one));
    sum.checked_div(totals.len() as u64).unwrap_or(0)
}

/// The partitions of each broker that may move, by their streams, with their weights.
type Led<'a> = BTreeMap<NodeId, BTreeMap<u64, (u64, &'a PartitionImage)>>;

/// A partition with its weight.
type Weighed<'a> = (&'a PartitionImage, u64);

impl<'a> Plan<'a> {
    /// Moves heavy partitions, as long as a broker's load is above the mean and a move makes the two brokers more even. The
    /// numbers of partitions stay even: where they would not, a light partition goes the other way.
    pub(super) fn level(&mut self, mut weights: Weights, percentage: usize) {
        let mut led = self.led(&weights);
        let allowed = allowed(self.counts.values().sum(), weights.totals.len(), percentage);
        let near = u64::try_from(percentage).unwrap_or(u64::MAX);
        let (mut moves, mut bound) = (0, near);
        while moves < MOVES_MAX {
            let (Some((from, most)), Some((to, least))) = (weights.most(), weights.least()) else {
                return;
            };
            if from == to || !weights.is_above(most, bound) {
                return;
            }
            let Some((heavy, light)) =
                self.pair(&led, (from, to), most.saturating_sub(least), allowed)
            else {
                weights.leave_out(from);
                // the others are uneven by themselves, or not at all
                bound = UNEVEN_PERCENT;
                continue;
            };
            self.go(heavy, (from, to), (&mut weights, &mut led));
            if let Some(light) = light {
                self.go(light, (to, from), (&mut weights, &mut led));
            }
            moves += 1;
            bound = near;
        }
    }

    /// The partition that goes from one broker to another, and the one that goes the other way, if one has to. The loads of
    /// the brokers are so far apart as `gap` says.
    fn pair(
        &self,
        led: &Led<'a>,
        (from, to): (NodeId, NodeId),
        gap: u64,
        allowed: usize,
    ) -> Option<(Weighed<'a>, Option<Weighed<'a>>)> {
        let heavy = best(led, from, gap)?;
        if self.counts.get(&to).is_some_and(|count| *count < allowed) {
            return Some((heavy, None));
        }
        let light = lightest(led, to)?;
        (light.1 <= heavy.1 / 2).then_some((heavy, Some(light)))
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
        let mut led = Led::new();
        let told: BTreeMap<NodeId, BTreeMap<u64, u64>> = weights
            .heaviest
            .iter()
            .map(|(id, heaviest)| (*id, heaviest.iter().copied().collect()))
            .collect();
        for (_, partition) in partitions(self.image) {
            if let Some((leader, _)) = self.image.live_leader(partition)
                && let Some(heaviest) = told.get(&leader)
                && self.may_spread(partition)
            {
                let stream = partition.stream.0;
                let weight = heaviest.get(&stream).copied();
                let weight = weight.unwrap_or_else(|| self.weight_of_rest(weights, leader));
                let of_broker = led.entry(leader).or_default();
                of_broker.insert(stream, (weight, partition));
            }
        }
        led
    }

    /// What each partition of a broker weighs that is not among its heaviest: an equal part of what is left.
    fn weight_of_rest(&self, weights: &Weights, id: NodeId) -> u64 {
        let heaviest = weights.heaviest.get(&id).map_or(&[][..], Vec::as_slice);
        let listed = heaviest
            .iter()
            .fold(0, |sum: u64, (_, one)| sum.saturating_add(*one));
        let total = weights.totals.get(&id).copied().unwrap_or(0);
        let led = self.counts.get(&id).copied().unwrap_or(0);
        let rest = u64::try_from(led.saturating_sub(heaviest.len())).unwrap_or(u64::MAX);
        total.saturating_sub(listed).checked_div(rest).unwrap_or(0)
    }
}

/// The partition of a broker that makes two brokers most even whose loads are so far apart. One that weighs as much as the
/// gap, or nearly, would only change places; one that weighs next to nothing is not worth a move.
fn best<'a>(led: &Led<'a>, from: NodeId, gap: u64) -> Option<Weighed<'a>> {
    let is_worth = |weight: u64| weight >= gap / 10 && weight > 0 && weight < gap / 10 * 9;
    let candidates = led.get(&from)?.values();
    let worth = candidates.filter(|(weight, _)| is_worth(*weight));
    let best = worth.min_by_key(|(weight, _)| weight.abs_diff(gap / 2))?;
    Some((best.1, best.0))
}

fn lightest<'a>(led: &Led<'a>, of: NodeId) -> Option<Weighed<'a>> {
    let lightest = led.get(&of)?.values().min_by_key(|(weight, _)| *weight)?;
    Some((lightest.1, lightest.0))
}
