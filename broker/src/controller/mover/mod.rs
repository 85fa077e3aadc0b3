//! Asks leaders to hand partitions over: those of brokers that stop or are drained, and as many of the others as spread the
//! leaderships and their load over all brokers (E4, C1).

mod planner;

use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::command::{MovePartitions, PartitionMove};
use highwater_kraft_meta::{Action, MetadataStore, Outcome, ProposeError};
use tokio::time::{Instant, sleep, timeout};

pub(crate) use self::planner::Balance;
use self::planner::Planner;
use super::InTerm;
use crate::config::Config;

/// The wait before another attempt, and before another look whether this node is the active controller.
const REST: Duration = Duration::from_millis(500);

impl Balance {
    pub(crate) fn new(config: &Config) -> Self {
        let seconds = config.int("leader.imbalance.check.interval.seconds");
        let percentage = config.int("leader.imbalance.per.broker.percentage");
        Self {
            is_on: config.bool("auto.leader.rebalance.enable"),
            interval: Duration::from_secs(u64::try_from(seconds).unwrap_or(1)),
            percentage: usize::try_from(percentage).unwrap_or_default(),
        }
    }
}

/// Moves partitions while this node is the active controller; never returns. It looks at once when brokers come, stop or go
/// and when moves end, and otherwise at the interval of balancing.
pub(crate) async fn run(metadata: Arc<dyn MetadataStore>, balance: Balance, session: Duration) {
    let (mut images, mut heard) = (metadata.watch(), metadata.heard());
    let mut leading = InTerm::new();
    loop {
        // brokers that live are heard again within a session
        let begin = || Planner::new(balance, Instant::now() + session);
        let term = metadata.leads();
        let Some(planner) = leading.of(term, begin) else {
            sleep(REST).await;
            continue;
        };
        let image = Arc::clone(&images.borrow_and_update());
        let told = heard.borrow_and_update().in_term(term);
        let moves = planner.plan(&image, &told, Instant::now());
        if let Err(error) = propose(&*metadata, moves).await {
            tracing::warn!(%error, "partitions cannot be moved now; trying again");
            sleep(REST).await;
            continue;
        }
        // all arms are cancellation safe
        let changed = async {
            tokio::select! {
                changed = images.changed() => changed.is_ok(),
                changed = heard.changed() => changed.is_ok(),
            }
        };
        if timeout(balance.interval, changed).await == Ok(false) {
            return std::future::pending().await;
        }
        // moves end in groups, and each of them changes the image
        sleep(planner::GATHER).await;
    }
}

async fn propose(
    metadata: &dyn MetadataStore,
    moves: Vec<PartitionMove>,
) -> Result<(), ProposeError> {
    if moves.is_empty() {
        return Ok(());
    }
    let asked = moves.len();
    let command = Action::MovePartitions(MovePartitions { moves });
    // a partition that is refused was moved, deleted or given away since
    if let (_, Outcome::Moved(moved)) = metadata.propose(command.into()).await? {
        let partitions = moved.iter().filter(|one| one.is_ok()).count();
        tracing::info!(partitions, asked, "partitions are moved to other brokers");
    }
    Ok(())
}
