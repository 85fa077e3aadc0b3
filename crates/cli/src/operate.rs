//! What the commands of an operator share.

use anyhow::Context;
use highwater_broker::config::Config;
use highwater_broker::telemetry;

use crate::{ConfigArgs, config};

/// Runs a command on a runtime of its own.
pub(crate) fn run(
    args: &ConfigArgs,
    command: impl AsyncFnOnce(Config) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let settings = config::load(args)?;
    telemetry::init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(command(settings));
    runtime.shutdown_background();
    outcome
}
