//! `highwater add-controller` and `highwater remove-controller`.

use highwater_broker::node::{Machine, NodeError};
use highwater_broker::voters::Voters;

use crate::operate::run;
use crate::{ControllerArgs, config};

/// Gives a controller a vote.
pub(crate) fn add(args: &ControllerArgs) -> anyhow::Result<()> {
    change(args, Voters::add, "has a vote")
}

/// Takes the vote of a controller.
pub(crate) fn remove(args: &ControllerArgs) -> anyhow::Result<()> {
    change(args, Voters::remove, "has no vote any more")
}

fn change(
    args: &ControllerArgs,
    change: impl AsyncFnOnce(&Voters, i32) -> Result<(), NodeError>,
    told: &str,
) -> anyhow::Result<()> {
    let node = args.node;
    run(&args.config, async |settings| {
        let voters = Voters::open(&settings, &Machine::real()).await?;
        let done = change(&voters, node).await;
        voters.close().await?;
        done?;
        config::say(&format!("Controller {node} {told}.\n"))
    })
}
