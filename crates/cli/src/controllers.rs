//! `highwater add-controller` and `highwater remove-controller`.

use highwater_broker::node::Machine;
use highwater_broker::voters::Voters;

use crate::duty::run;
use crate::{ControllerArgs, config};

/// Gives a controller a vote.
pub(crate) fn add(args: &ControllerArgs) -> anyhow::Result<()> {
    let node = args.node;
    run(&args.config, async |settings| {
        let voters = Voters::open(&settings, &Machine::real()).await?;
        let done = voters.add(node).await;
        voters.close().await?;
        done?;
        config::say(&format!("Controller {node} has a vote.\n"))
    })
}

/// Takes the vote of a controller.
pub(crate) fn remove(args: &ControllerArgs) -> anyhow::Result<()> {
    let node = args.node;
    run(&args.config, async |settings| {
        let voters = Voters::open(&settings, &Machine::real()).await?;
        let done = voters.remove(node).await;
        voters.close().await?;
        done?;
        config::say(&format!("Controller {node} has no vote any more.\n"))
    })
}
