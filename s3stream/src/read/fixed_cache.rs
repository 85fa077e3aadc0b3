//! Caches that evict the same wherever a run is repeated: hasher and shards are fixed.

use std::hash::{BuildHasherDefault, DefaultHasher, Hash};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

const SHARDS: usize = 16;

type FixedHasher = BuildHasherDefault<DefaultHasher>;

/// A cache of at most some weight.
pub(super) type FixedCache<K, V, W> = Cache<K, V, W, FixedHasher>;

/// A cache of at most `weight`, made for about `items`.
pub(super) fn fixed_cache<K, V, W>(items: usize, weight: u64, weighter: W) -> FixedCache<K, V, W>
where
    K: Eq + Hash,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    let options = OptionsBuilder::new()
        .shards(SHARDS)
        .estimated_items_capacity(items)
        .weight_capacity(weight)
        .build()
        .expect("both capacities are given");
    let lifecycle = DefaultLifecycle::default();
    Cache::with_options(options, weighter, FixedHasher::default(), lifecycle)
}
