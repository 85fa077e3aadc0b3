//! Measures how much work each partition takes, and tells it the active controller, which balances leaderships by it (E4).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::{HEAVIEST_MAX, Load, StreamLoad};
use highwater_types::StreamId;
use tokio::time::{Instant, sleep};

use crate::broker::Broker;

/// Over about how many intervals a load is a mean; that of a partition that was just opened is one over fewer.
pub(crate) const MEAN_OVER: u32 = 6;

/// Measures in each interval; never returns. The work grows with the number of open partitions.
pub(crate) async fn run(broker: Arc<Broker>, interval: Duration) {
    let mut measured = Measured::new(Instant::now(), interval * MEAN_OVER);
    loop {
        sleep(interval).await;
        let partitions = broker.partitions.all();
        let done = partitions
            .iter()
            .filter_map(|partition| Some((partition.stream()?, partition.log.work())));
        let load = measured.look(done, Instant::now());
        broker.heartbeats.tell_load(load);
    }
}

/// What each partition has done so far, and its weight.
#[derive(Debug)]
struct Measured {
    looked: Instant,
    mean_over: Duration,
    partitions: HashMap<StreamId, Rate>,
}

/// A rate whose former parts count less and less.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    /// The work until the last look.
    done: u64,
    /// The work, in bytes, and the time, in seconds, that still count.
    work: f64,
    seconds: f64,
}

impl Rate {
    fn add(&mut self, done: u64, seconds: f64, kept: f64) {
        // a partition that was opened anew counts from zero
        let more = done.checked_sub(self.done).unwrap_or(done);
        self.done = done;
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
        let more = more as f64;
        self.work = self.work * kept + more;
        self.seconds = self.seconds * kept + seconds;
    }

    /// In a second.
    fn weight(self) -> u64 {
        let weight = self.work / self.seconds.max(0.001);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is not negative, and far below 2^64"
        )]
        let weight = weight as u64;
        weight
    }
}

impl Measured {
    fn new(now: Instant, mean_over: Duration) -> Self {
        Self {
            looked: now,
            mean_over,
            partitions: HashMap::new(),
        }
    }

    /// The load now, from what each open partition has done since it was opened.
    fn look(&mut self, done: impl Iterator<Item = (StreamId, u64)>, now: Instant) -> Load {
        let seconds = now.duration_since(self.looked).as_secs_f64();
        self.looked = now;
        let kept = (-seconds / self.mean_over.as_secs_f64().max(0.001)).exp();
        let mut before = std::mem::take(&mut self.partitions);
        let mut load = Load::default();
        for (stream, done) in done {
            let mut rate = before.remove(&stream).unwrap_or_default();
            rate.add(done, seconds, kept);
            self.partitions.insert(stream, rate);
            let weight = rate.weight();
            load.total = load.total.saturating_add(weight);
            if weight > 0 {
                let stream = stream.0;
                load.heaviest.push(StreamLoad { stream, weight });
            }
        }
        load.heaviest
            .sort_unstable_by_key(|one| (std::cmp::Reverse(one.weight), one.stream));
        load.heaviest.truncate(HEAVIEST_MAX);
        load
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    struct World {
        measured: Measured,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                measured: Measured::new(now, INTERVAL * MEAN_OVER),
                now,
            }
        }

        /// The load after one more interval: its total, and the weights of partitions.
        fn look(&mut self, done: &[(u64, u64)]) -> (u64, Vec<(u64, u64)>) {
            self.now += INTERVAL;
            let done = done.iter().map(|(stream, done)| (StreamId(*stream), *done));
            let load = self.measured.look(done, self.now);
            let heaviest = load.heaviest.iter().map(|one| (one.stream, one.weight));
            (load.total, heaviest.collect())
        }
    }

    #[test]
    fn a_steady_rate_is_told_at_once_and_the_heaviest_come_first() {
        let mut world = World::new();
        let (total, heaviest) = world.look(&[(1, 5_000), (2, 50_000), (3, 0)]);
        assert_eq!((total, heaviest), (11_000, vec![(2, 10_000), (1, 1_000)]));
        let (total, _) = world.look(&[(1, 10_000), (2, 100_000), (3, 0)]);
        assert!((10_999..=11_000).contains(&total), "{total}");
    }

    #[test]
    fn a_burst_counts_by_its_part_of_the_mean_and_is_forgotten() {
        let mut world = World::new();
        for _ in 0..20 {
            world.look(&[(1, 0)]);
        }
        let (after, _) = world.look(&[(1, 1_000_000)]);
        assert!((10_000..50_000).contains(&after), "{after}");
        for _ in 0..40 {
            world.look(&[(1, 1_000_000)]);
        }
        let (later, _) = world.look(&[(1, 1_000_000)]);
        assert!(later < 100, "{later}");
    }

    // a partition may go to another broker and come back between two looks
    #[test]
    fn a_partition_that_was_opened_anew_counts_from_zero_and_one_that_is_gone_not_at_all() {
        let mut world = World::new();
        world.look(&[(1, 50_000), (2, 50_000)]);
        let (total, heaviest) = world.look(&[(1, 5_000)]);
        assert_eq!(heaviest.len(), 1);
        assert!(total < 10_000, "{total}");
        assert_eq!(world.measured.partitions.len(), 1);
    }

    #[test]
    fn no_more_are_told_than_a_load_names() {
        let mut world = World::new();
        let many: Vec<(u64, u64)> = (1..=100).map(|stream| (stream, stream * 5)).collect();
        let (total, heaviest) = world.look(&many);
        assert_eq!(total, 5_050);
        assert_eq!(heaviest.len(), HEAVIEST_MAX);
        assert_eq!((heaviest[0], heaviest[31].1), ((100, 100), 69));
    }
}
