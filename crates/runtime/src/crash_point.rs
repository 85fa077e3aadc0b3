//! Named places at which a test can crash the process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Plan {
    name: String,
    left: AtomicU64,
}

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

/// Aborts the process here if the environment's `HIGHWATER_CRASH_AT` names this place: `wal-after-sync`, or
/// `wal-after-sync:5` for the fifth time.
pub fn crash_point(name: &str) {
    let plan = PLAN.get_or_init(|| {
        let text = std::env::var("HIGHWATER_CRASH_AT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        let left = AtomicU64::new(count.parse().unwrap_or(1));
        Some(Plan {
            name: name.to_owned(),
            left,
        })
    });
    if let Some(plan) = plan
        && plan.name == name
        && plan.left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}
