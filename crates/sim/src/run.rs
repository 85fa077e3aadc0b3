//! Runs one seed, in the world that its options ask for.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cluster::ClusterWorld;
use crate::world::World;
use crate::{Failed, Options, Outcome};

/// Runs one seed.
///
/// # Errors
/// [`Failed`]: an invariant is broken, the node does not start, or a client is stuck.
pub fn run(options: &Options) -> Result<Outcome, Failed> {
    let failed = |what| Failed::new(options, what);
    let ran = catch_unwind(AssertUnwindSafe(|| match options.cluster {
        true => ClusterWorld::new(options).run(),
        false => World::new(options, 1).run(),
    }));
    match ran {
        Ok(outcome) => outcome.map_err(failed),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(failed(format!("panic: {}", text.unwrap_or("unknown"))))
        }
    }
}
