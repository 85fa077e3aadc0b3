//! Fences the brokers whose session is over (E6), and those that alone don't reach the object store (E8). The decision is a
//! matter of liveness only: what a fenced broker had acknowledged is in its log, and the broker that seals that log finds
//! it.

use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::command::FenceEpoch;
use highwater_kraft_meta::{Action, MetadataStore};
use highwater_types::{NodeEpoch, NodeId};
use tokio::time::sleep;

/// How often the sessions are looked at, as a part of their length.
const LOOKS_IN_A_SESSION: u32 = 10;

/// Fences brokers while this node is the active controller; never returns.
pub(super) async fn run(metadata: Arc<dyn MetadataStore>, session: Duration) {
    let session_ms = u64::try_from(session.as_millis()).unwrap_or(u64::MAX);
    loop {
        sleep(session / LOOKS_IN_A_SESSION).await;
        for (node, epoch) in metadata.silent() {
            tracing::warn!(
                node_id = node.0,
                node_epoch = epoch.0,
                session_ms,
                "a broker was not heard for its session and is fenced: others take its partitions over, unless its log is on its disk"
            );
            fence(&*metadata, node, epoch).await;
        }
        for (node, epoch) in metadata.cut_from_store() {
            tracing::warn!(
                node_id = node.0,
                node_epoch = epoch.0,
                "a broker has had no answer of the object store for long, and others have: it is fenced, and others take \
                 its partitions over"
            );
            fence(&*metadata, node, epoch).await;
        }
    }
}

async fn fence(metadata: &dyn MetadataStore, node: NodeId, epoch: NodeEpoch) {
    let fence = FenceEpoch {
        node: node.0,
        epoch: epoch.0,
    };
    if let Err(error) = metadata.propose(Action::FenceEpoch(fence).into()).await {
        tracing::warn!(node_id = node.0, %error, "the broker cannot be fenced now");
    }
}
