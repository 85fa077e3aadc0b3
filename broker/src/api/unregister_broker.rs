//! UnregisterBroker (key 64), version 0.
//! Source: schema/unregister_broker_request.kmsg; KIP-500, KIP-631; `ReplicationControlManager.unregisterBroker`.
//! Behaviour: the request is answered when this node's image no longer has the broker.
//! Deviations from Apache Kafka: only a broker that has ended for good is unregistered, because acknowledged records may be
//! in its log alone. A broker that runs is refused with DUPLICATE_BROKER_REGISTRATION; one whose partitions wait for the
//! write-ahead log on its disk, with POLICY_VIOLATION; one that others are still taking over, with REQUEST_TIMED_OUT, upon
//! which clients try again. Messages say what to do. (Kafka unregisters a broker that runs; it registers again only when it
//! restarts.) The log of a broker that has handed over all its partitions holds nothing that is needed, and is given up
//! with it (D5).

use highwater_kraft_meta::command::{GiveUpEpoch, UnregisterNode, WalKind};
use highwater_kraft_meta::{Action, MetadataImage};
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use highwater_types::NodeId;
use tokio::time::{Duration, Instant};

use super::context::RequestContext;
use super::error::Refusal;
use super::handler::{Handler, Reply};
use crate::auth::{Operation, Resource};

/// Serves UnregisterBroker.
#[derive(Debug)]
pub(crate) struct UnregisterBroker;

/// How long the controllers have for it: the request names no time.
const WITHIN: Duration = Duration::from_secs(30);

impl Handler for UnregisterBroker {
    type Request = UnregisterBrokerRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=0;

    async fn handle(
        ctx: RequestContext,
        request: UnregisterBrokerRequest,
    ) -> Reply<UnregisterBrokerResponse> {
        let refusal = unregister(&ctx, request.broker_id).await.err();
        Reply::Ready(UnregisterBrokerResponse {
            error_code: refusal.as_ref().map_or(0, |refusal| refusal.code.code()),
            error_message: refusal.and_then(|refusal| refusal.text()),
            ..Default::default()
        })
    }
}

async fn unregister(ctx: &RequestContext, node: i32) -> Result<(), Refusal> {
    if !ctx.authorize(Operation::Alter, Resource::Cluster) {
        return Err(ErrorCode::ClusterAuthorizationFailed.into());
    }
    let checked = check(&ctx.broker.metadata.image(), NodeId(node));
    if let Err(refusal) = &checked {
        // Kafka's tools print the text of the code alone
        let reason = refusal.message.as_deref();
        tracing::info!(node_id = node, reason, "broker is not unregistered");
    }
    let give_up = checked?.map(Action::GiveUpEpoch);
    let unregister = Action::UnregisterNode(UnregisterNode { node });
    let deadline = Instant::now() + WITHIN;
    for command in give_up.into_iter().chain([unregister]) {
        let done = ctx.broker.change(command, deadline).await;
        // the broker has started again since this node looked
        done.map_err(|refusal| match refusal.code {
            ErrorCode::NotLeaderOrFollower => runs(NodeId(node)),
            _ => refusal,
        })?;
    }
    tracing::info!(node_id = node, "broker unregistered");
    Ok(())
}

/// Checks that a broker is registered and has ended for good. Returns how its log is given up before, if it has one on its
/// disk; no partition waits for that log.
fn check(image: &MetadataImage, id: NodeId) -> Result<Option<GiveUpEpoch>, Refusal> {
    let Some(node) = image.node(id) else {
        let why = format!("Broker ID {id} is not currently registered");
        return Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, why));
    };
    if node.is_live() {
        return Err(runs(id));
    }
    if node
        .unclosed()
        .any(|(_, epoch)| epoch.wal == WalKind::Object)
    {
        let why =
            format!("The other brokers are still taking over what broker {id} wrote; try again.");
        return Err(Refusal::new(ErrorCode::RequestTimedOut, why));
    }
    let Some(epoch) = node.last_on_disk() else {
        return Ok(None);
    };
    if !image.held_on_disk(node).is_empty() {
        let why = format!(
            "The write-ahead log of broker {id} is on its disk, and acknowledged records may be in it alone. Start the \
             broker once more, have it hand its partitions over, and stop it; or give the log up. With the --config of a \
             node, the commands are: highwater drain {id}, and highwater give-up --node {id} --epoch {epoch}"
        );
        return Err(Refusal::new(ErrorCode::PolicyViolation, why));
    }
    Ok(Some(GiveUpEpoch {
        node: id.0,
        epoch: epoch.0,
    }))
}

fn runs(id: NodeId) -> Refusal {
    let why = format!(
        "Broker {id} runs, or has only just stopped. Stop it first; to take its partitions from it before that: highwater \
         drain {id}"
    );
    Refusal::new(ErrorCode::DuplicateBrokerRegistration, why)
}

#[cfg(test)]
mod tests {
    use highwater_types::NodeEpoch;

    use super::*;
    use crate::fixture::ImageBuilder;

    fn log_of(images: &ImageBuilder, id: i32) -> Option<NodeEpoch> {
        let checked = check(&images.image(), NodeId(id)).expect("may be unregistered");
        checked.map(|give_up| NodeEpoch(give_up.epoch))
    }

    fn refused(images: &ImageBuilder, id: i32) -> Option<(ErrorCode, String)> {
        let refusal = check(&images.image(), NodeId(id)).err()?;
        Some((refusal.code, refusal.message.expect("is told")))
    }

    // E1, D5: what only the log of a broker has must not be forgotten
    #[test]
    fn only_a_broker_that_has_ended_for_good_is_unregistered() {
        let mut images = ImageBuilder::default();
        let epoch = images.register(1, &[("PLAINTEXT", "host", 9092)]);
        images.create("t", &[&[1]]);
        images.open_led(1);
        let (code, _) = refused(&images, 2).expect("is unknown");
        assert_eq!(code, ErrorCode::BrokerIdNotRegistered);
        let (code, why) = refused(&images, 1).expect("runs");
        assert_eq!(code, ErrorCode::DuplicateBrokerRegistration);
        assert!(why.contains("highwater drain 1"), "{why}");
        images.fence(1);
        let (code, why) = refused(&images, 1).expect("has its log");
        assert_eq!(code, ErrorCode::PolicyViolation);
        let way_out = format!("highwater give-up --node 1 --epoch {epoch}");
        assert!(why.ends_with(&way_out), "{why}");
        images.give_up(1, epoch);
        assert_eq!(log_of(&images, 1), None);
    }

    // D5: no partition waits for the log
    #[test]
    fn the_log_of_a_broker_that_holds_no_partition_is_given_up_with_it() {
        let mut images = ImageBuilder::default();
        let epoch = images.register(1, &[("PLAINTEXT", "host", 9092)]);
        images.create("t", &[&[1]]);
        images.fence(1);
        assert_eq!(log_of(&images, 1), Some(epoch));
    }
}
