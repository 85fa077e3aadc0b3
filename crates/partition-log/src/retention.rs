//! The retention plan: which rolls a log gives up (F6). Pure.

use highwater_s3stream::Roll;
use highwater_types::{StreamOffset, Timestamp};

use crate::LogConfig;

/// Returns where the log starts once retention has removed whole rolls, from the oldest up to the first that must
/// stay, as `UnifiedLog.deleteOldSegments` does; `None` if no roll is removed. A roll without timestamps is as old as
/// its last append.
pub(crate) fn start_after_retention(
    rolls: &[Roll],
    config: &LogConfig,
    now: Timestamp,
) -> Option<StreamOffset> {
    let size = |roll: &Roll| i64::try_from(roll.bytes).unwrap_or(i64::MAX);
    let all = rolls.iter().map(size);
    let mut left = all.fold(0, i64::saturating_add);
    let mut start = None;
    for roll in rolls {
        let time = match roll.max_timestamp {
            largest if largest >= 0 => largest,
            _ => roll.last_append,
        };
        let expired = config.retention_ms >= 0 && now.saturating_sub(time) > config.retention_ms;
        let without = left.saturating_sub(size(roll));
        let over = config.retention_bytes >= 0 && without >= config.retention_bytes;
        if !(expired || over) {
            break;
        }
        left = without;
        start = Some(roll.end);
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{config, roll};

    #[test]
    fn retention_takes_the_oldest_rolls_up_to_the_first_that_stays() {
        let rolls = [roll(0, 10, 100), roll(1, 10, 300), roll(2, 10, 200)];
        let start = |retention_ms, retention_bytes, now| {
            let config = LogConfig {
                retention_ms,
                retention_bytes,
                ..config()
            };
            start_after_retention(&rolls, &config, now)
        };
        assert_eq!(start(-1, -1, 1_000_000), None);
        assert_eq!(start(1000, -1, 1100), None);
        assert_eq!(start(1000, -1, 1101), Some(1));
        assert_eq!(start(1000, -1, 1300), Some(1), "300 stays, and so 200");
        assert_eq!(
            start(1000, -1, 1301),
            Some(3),
            "the active one has expired too"
        );
        assert_eq!(start(-1, 20, 0), Some(1));
        assert_eq!(start(-1, 21, 0), None);
        assert_eq!(start(-1, 1, 0), Some(2), "the active one stays");
        assert_eq!(start(-1, 0, 0), Some(3), "unless nothing may");
    }

    #[test]
    fn a_roll_without_times_expires_by_its_last_append() {
        let mut roll = roll(0, 10, -1);
        roll.last_append = 1_000_500;
        let config = LogConfig {
            retention_ms: 4000,
            ..config()
        };
        assert_eq!(start_after_retention(&[roll], &config, 1_004_500), None);
        assert_eq!(start_after_retention(&[roll], &config, 1_004_501), Some(1));
    }
}
