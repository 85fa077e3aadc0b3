//! Gives partitions to brokers that serve: new ones, and those whose leader's epoch is closed (E4, E5).
//! A broker gets back what it led itself, if it is back in time.

mod planner;

use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::command::AssignLeaders;
use highwater_kraft_meta::{Action, MetadataStore, Outcome, ProposeError};
use highwater_runtime::until;
use tokio::time::{Instant, sleep};

use self::planner::{Plan, Planner};
use super::InTerm;

/// The wait before another attempt, and before another look whether this node is the active controller.
const REST: Duration = Duration::from_millis(500);
/// The most partitions in one command; such a command has some 30 KB.
const ASSIGNED_AT_ONCE: usize = 2000;

/// Assigns leaders while this node is the active controller; never returns.
pub(crate) async fn run(metadata: Arc<dyn MetadataStore>, session: Duration) {
    let (mut images, mut heard) = (metadata.watch(), metadata.heard());
    let mut leading = InTerm::new();
    loop {
        // brokers that live are heard again within a session
        let begin = || Planner::new(Instant::now() + session);
        let term = metadata.leads();
        let Some(planner) = leading.of(term, begin) else {
            sleep(REST).await;
            continue;
        };
        let image = Arc::clone(&images.borrow_and_update());
        let told = heard.borrow_and_update().in_term(term);
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

#[cfg(test)]
mod tests {
    use highwater_kraft_meta::command::{
        CloseEpoch, Closing, CreateTopic, FenceEpoch, RegisterNode, Replicas, Sealed, StreamEpoch,
        WalKind,
    };
    use highwater_kraft_meta::{Heard, Standing};
    use highwater_types::{NodeEpoch, Term, WalPosition};

    use super::super::reaper::tests::Led;
    use super::*;

    const PARTITIONS: usize = 3 * ASSIGNED_AT_ONCE;

    /// Three brokers, the epoch of the third of which is closed, with all partitions.
    fn died() -> (Arc<Led>, Vec<NodeEpoch>) {
        let metadata = Led::new(Some(Term(1)));
        let apply = |action| metadata.apply(action).expect("is taken").0;
        let register = |node| RegisterNode {
            node,
            incarnation: vec![1],
            wal: WalKind::Object.into(),
            ..RegisterNode::default()
        };
        let registered = (1..=3).map(|node| apply(Action::RegisterNode(register(node))));
        let epochs: Vec<NodeEpoch> = registered.map(|at| NodeEpoch(at.0)).collect();
        apply(Action::CreateTopic(CreateTopic {
            name: "t".to_owned(),
            id: vec![1; 16],
            partitions: vec![Replicas { nodes: vec![3] }; PARTITIONS],
            ..CreateTopic::default()
        }));
        let streams = 0..u64::try_from(PARTITIONS).expect("is small");
        apply(Action::AssignLeaders(AssignLeaders {
            node_epoch: epochs[2].0,
            streams: streams
                .map(|stream| StreamEpoch {
                    stream,
                    leader_epoch: -1,
                })
                .collect(),
        }));
        fence(&metadata, 3, epochs[2]);
        let at = WalPosition {
            epoch: epochs[2],
            at: 0,
        };
        apply(Action::CloseEpoch(CloseEpoch {
            node: 3,
            epoch: epochs[2].0,
            by: epochs[0].0,
            how: Some(Closing::Sealed(Sealed {
                at: Some(at.into()),
                ..Sealed::default()
            })),
        }));
        (metadata, epochs)
    }

    fn fence(metadata: &Led, node: i32, epoch: NodeEpoch) {
        let epoch = epoch.0;
        let fenced = metadata.apply(Action::FenceEpoch(FenceEpoch { node, epoch }));
        fenced.expect("is fenced");
    }

    // E4: thousands of partitions take several commands, and a broker may be fenced before it has got its share
    #[tokio::test]
    async fn the_share_of_a_broker_that_is_fenced_meanwhile_goes_to_the_others() {
        let (metadata, epochs) = died();
        let heard: Heard = epochs
            .iter()
            .map(|epoch| (*epoch, Standing::Serving))
            .collect();
        let now = Instant::now();
        let mut planner = Planner::new(now);
        let image = metadata.image();
        let (plan, _) = planner.plan(&image, &heard, now);
        let shares: Vec<usize> = plan.values().map(Vec::len).collect();
        assert_eq!(shares, [PARTITIONS / 2; 2]);
        fence(&metadata, 2, epochs[1]);
        assign(&*metadata, plan).await.expect("is decided");
        planner.done(image);
        let (plan, _) = planner.plan(&metadata.image(), &heard, now);
        assert_eq!(plan.keys().collect::<Vec<_>>(), [&epochs[0]]);
        assign(&*metadata, plan).await.expect("is decided");
        let image = metadata.image();
        let partitions = image.partitions();
        let leaders = partitions.filter_map(|partition| partition.leader);
        let led = leaders.filter(|(_, epoch)| *epoch == epochs[0]).count();
        assert_eq!(led, PARTITIONS);
    }
}
