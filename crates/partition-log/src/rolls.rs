//! When a log rolls, as Kafka's log begins a new segment (F6). Pure.

use highwater_runtime::SeededRng;
use highwater_s3stream::Roll;
use highwater_types::StreamOffset;

use crate::LogConfig;

/// Whether Kafka's log would begin a new segment before a batch: `LogSegment.shouldRoll` of Apache Kafka 4.0. `next`
/// is the roll that the batch alone would make. The jitter is drawn from `seed`, which each log has.
pub(crate) fn rolls_before(
    active: Option<&Roll>,
    next: &Roll,
    config: &LogConfig,
    seed: u64,
) -> bool {
    let Some(active) = active else { return true };
    let bytes = active.bytes.saturating_add(next.bytes);
    let full = i64::try_from(bytes).unwrap_or(i64::MAX) > config.segment_bytes;
    // Kafka's index stores offsets as distances of 32 bits from the segment's base offset
    let far = next.end.saturating_sub(1).saturating_sub(active.base) > i64::from(i32::MAX);
    let waited = match active.first_timestamp {
        since if since >= 0 => next.max_timestamp.saturating_sub(since),
        _ => next.first_append.saturating_sub(active.first_append),
    };
    let old = waited > roll_ms(config).saturating_sub(jitter_ms(config, seed, active.base));
    full || far || old
}

/// The longest time that a roll is appended to, before jitter: `LogConfig.maxSegmentMs`.
fn roll_ms(config: &LogConfig) -> i64 {
    match config.compact && config.max_compaction_lag_ms > 0 {
        true => config.segment_ms.min(config.max_compaction_lag_ms),
        false => config.segment_ms,
    }
}

/// The jitter of a roll, below `segment.jitter.ms`. It is derived from the seed and the roll's base offset, so a
/// restart doesn't change it.
fn jitter_ms(config: &LogConfig, seed: u64, base: StreamOffset) -> i64 {
    let most = u64::try_from(config.segment_jitter_ms.min(config.segment_ms)).unwrap_or(0);
    if most == 0 {
        return 0;
    }
    let roll = u64::from_be_bytes(base.to_be_bytes());
    let drawn = SeededRng::from_seed(seed.rotate_left(32) ^ roll).below(most);
    i64::try_from(drawn).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{config, roll};

    #[test]
    fn a_log_rolls_by_bytes_by_time_and_before_an_offset_that_is_too_far() {
        let active = roll(10, 600, 20_000);
        let rolls = |next: &Roll| rolls_before(Some(&active), next, &config(), 1);
        assert!(
            rolls_before(None, &active, &config(), 1),
            "the first of all"
        );
        assert!(!rolls(&roll(11, 400, 25_000)));
        assert!(rolls(&roll(11, 401, 25_000)));
        assert!(rolls(&roll(11, 400, 25_001)));
        assert!(!rolls(&roll(11, 400, -1)), "without a time it is not late");
        let far = i64::from(i32::MAX) + 10;
        assert!(!rolls(&roll(far, 1, 20_000)));
        assert!(rolls(&roll(far + 1, 1, 20_000)));
    }

    // Kafka measures from the timestamp of the segment's first batch, not from the largest one: later batches don't
    // postpone the roll.
    #[test]
    fn time_is_counted_from_the_first_batch_and_without_one_from_its_append() {
        let mut active = roll(10, 100, 20_000);
        active.max_timestamp = 24_000;
        assert!(rolls_before(
            Some(&active),
            &roll(12, 100, 25_001),
            &config(),
            1
        ));
        let timeless = roll(10, 100, -1);
        let next = |after: i64| roll(10 + after, 1, 7);
        assert!(!rolls_before(Some(&timeless), &next(5000), &config(), 1));
        assert!(rolls_before(Some(&timeless), &next(5001), &config(), 1));
    }

    #[test]
    fn compaction_lag_shortens_the_time_of_a_compacted_log_only() {
        let mut config = config();
        config.max_compaction_lag_ms = 100;
        let active = roll(0, 1, 20_000);
        let next = roll(1, 1, 20_101);
        assert!(!rolls_before(Some(&active), &next, &config, 1));
        config.compact = true;
        assert!(rolls_before(Some(&active), &next, &config, 1));
    }

    #[test]
    fn jitter_stays_below_its_bound_differs_and_is_drawn_once() {
        let mut config = config();
        config.segment_jitter_ms = 1000;
        let drawn: Vec<i64> = (0..100).map(|base| jitter_ms(&config, 1, base)).collect();
        assert!(drawn.iter().all(|jitter| (0..1000).contains(jitter)));
        let mut distinct = drawn.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 80, "{distinct:?}");
        assert_ne!(drawn[0], jitter_ms(&config, 2, 0), "streams differ");
        assert_eq!(drawn[7], jitter_ms(&config, 1, 7));
        let active = roll(7, 1, 20_000);
        let early = roll(8, 1, 25_001 - drawn[7]);
        assert!(rolls_before(Some(&active), &early, &config, 1));
        config.segment_jitter_ms = i64::MAX;
        assert!(jitter_ms(&config, 1, 7) < config.segment_ms);
    }
}
