//! Gives partitions whose leader's epoch is closed to brokers that serve, and those that no broker has ever led (E4, E5).
//! A broker gets back what it led itself, if it is back in time.

mod planner;

use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::command::AssignLeaders;
use highwater_kraft_meta::{Action, MetadataStore, Outcome, ProposeError};
use highwater_runtime::until;
use highwater_types::Term;
use tokio::time::{Instant, sleep};

use self::planner::{Plan, Planner};

/// The wait before another attempt, and before another look whether this node is the active controller.
const REST: Duration = Duration::from_millis(500);
/// The most partitions in one command; such a command has some 30 KB.
const ASSIGNED_AT_ONCE: usize = 2000;

/// Assigns leaders while this node is the active controller; never returns.
pub(crate) async fn run(metadata: Arc<dyn MetadataStore>, session: Duration) {
    let (mut images, mut heard) = (metadata.watch(), metadata.heard());
    // no image is kept while another node leads
    let mut leading: Option<(Term, Planner)> = None;
    loop {
        let Some(term) = metadata.leads() else {
            leading = None;
            sleep(REST).await;
            continue;
        };
        let planner = match &mut leading {
            Some((of, planner)) if *of == term => planner,
            // brokers that live are heard again within a session
            _ => {
                &mut leading
                    .insert((term, Planner::new(Instant::now() + session)))
                    .1
            }
        };
        let image = Arc::clone(&images.borrow_and_update());
        let told = heard.borrow_and_update().clone();
        let (plan, again) = planner.plan(&image, &told, Instant::now());
        match assign(&*metadata, plan).await {
            Ok(()) => planner.done(image),
            Err(error) => {
                tracing::warn!(%error, "partitions cannot be given to brokers now; trying again");
                sleep(REST).await;
                continue;
            }
        }
        // all arms are cancellation safe
        let is_alive = tokio::select! {
            changed = images.changed() => changed.is_ok(),
            changed = heard.changed() => changed.is_ok(),
            () = until(again) => true,
        };
        if !is_alive {
            return std::future::pending().await;
        }
    }
}

async fn assign(metadata: &dyn MetadataStore, plan: Plan) -> Result<(), ProposeError> {
    for (epoch, streams) in plan {
        let mut partitions = 0;
        for streams in streams.chunks(ASSIGNED_AT_ONCE) {
            let assign = AssignLeaders {
                node_epoch: epoch.0,
                streams: streams.to_vec(),
            };
            match metadata.propose(Action::AssignLeaders(assign).into()).await {
                // a partition that is refused was deleted or given away since
                Ok((_, Outcome::Assigned(given))) => {
                    partitions += given.iter().filter(|one| one.is_ok()).count();
                }
                Ok(_) => {}
                // the epoch was fenced since; the image says so, and others get the rest
                Err(ProposeError::Rejected(_)) => break,
                Err(error) => return Err(error),
            }
        }
        if partitions > 0 {
            let node_epoch = epoch.0;
            tracing::info!(partitions, node_epoch, "partitions were given to a broker");
        }
    }
    Ok(())
}
