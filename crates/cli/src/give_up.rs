//! `highwater give-up`.

use highwater_broker::config::Config;
use highwater_broker::node::{GivingUp, Machine};

use crate::{GiveUpArgs, config, operate};

/// Says what is lost with a node's data directory, and gives it up if the operator confirms that.
pub(crate) fn run(args: &GiveUpArgs) -> anyhow::Result<()> {
    operate::run(&args.config, async |settings| give_up(args, settings).await)
}

async fn give_up(args: &GiveUpArgs, settings: Config) -> anyhow::Result<()> {
    let named = (args.node, args.epoch);
    let giving_up = GivingUp::open(&settings, &Machine::real(), named).await?;
    config::say(&giving_up.loss().to_string())?;
    let done = match args.yes {
        true => giving_up.carry_out().await,
        false => Ok(()),
    };
    giving_up.close().await?;
    done?;
    config::say(match args.yes {
        true => {
            "This is given up. The node starts with an empty data directory, or with the old one after `wal` in it is \
             deleted. Other nodes may lead its partitions.\n"
        }
        false => "Nothing was changed. To give this up for good, add --yes.\n",
    })
}
