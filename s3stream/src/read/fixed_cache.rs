//! Caches with a fixed hasher and fixed shards, so that a repeated run evicts the same entries.

use std::hash::{BuildHasherDefault, DefaultHasher, Hash};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

const SHARDS: usize = 16;
/// The share of a queue's weight that is for entries which were looked up again before their eviction.
const ASKED_AGAIN: f64 = 0.25;

type FixedHasher = BuildHasherDefault<DefaultHasher>;

/// A cache that holds entries up to a weight.
pub(super) type FixedCache<K, V, W> = Cache<K, V, W, FixedHasher>;

/// A cache of at most `weight`, sized for about `items` entries.
pub(super) fn fixed_cache<K, V, W>(items: usize, weight: u64, weighter: W) -> FixedCache<K, V, W>
where
    K: Eq + Hash,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    built(
        OptionsBuilder::new().shards(SHARDS),
        items,
        weight,
        weighter,
    )
}

/// A cache for values that are inserted before a reader looks them up. Three quarters of it are a queue, in which a new
/// value outlives the values inserted before it. (In the other kind of cache, values that were looked up fill all but a
/// little of the room, so that a value that is read ahead would be evicted before its reader comes.) There is one
/// shard, because a few large values that spread unevenly over several shards would be evicted early too.
pub(super) fn fixed_queue<K, V, W>(items: usize, weight: u64, weighter: W) -> FixedCache<K, V, W>
where
    K: Eq + Hash,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    let mut options = OptionsBuilder::new();
    let options = options.shards(1).hot_allocation(ASKED_AGAIN);
    built(options, items, weight, weighter)
}

fn built<K, V, W>(
    options: &mut OptionsBuilder,
    items: usize,
    weight: u64,
    weighter: W,
) -> FixedCache<K, V, W>
where
    K: Eq + Hash,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    let options = options
        .estimated_items_capacity(items)
        .weight_capacity(weight)
        .build()
        .expect("both capacities are given");
    let lifecycle = DefaultLifecycle::default();
    Cache::with_options(options, weighter, FixedHasher::default(), lifecycle)
}

#[cfg(test)]
mod tests {
    use quick_cache::UnitWeighter;

    use super::*;

    #[test]
    fn what_is_read_ahead_outlives_what_was_read_before_it() {
        let cache = fixed_queue(96, 96, UnitWeighter);
        let (ahead, mut lost) = (64, 0);
        for block in 0..1000 {
            // the reader is `ahead` blocks behind the load
            cache.insert(block + ahead, ());
            lost += usize::from(block >= ahead && cache.get(&block).is_none());
        }
        assert_eq!(lost, 0);
    }
}
