//! How a broker learns that its node epoch was fenced: by its own image of the metadata. It also learns that by a put
//! that meets a seal and by a refused command, which end the log themselves (W11).

use std::convert::Infallible;
use std::sync::Arc;

use highwater_kraft_meta::{EpochState, MetadataImage};
use highwater_types::{NodeEpoch, NodeId};

use crate::broker::Broker;

/// Ends the log of a broker once its node epoch is not open any more, as far as the broker can see. Cancellation safe.
pub(crate) async fn watch(broker: &Arc<Broker>) -> Infallible {
    let (node, epoch) = (broker.config.node_id, broker.epoch);
    let mut images = broker.metadata.watch();
    let fenced = images.wait_for(|image| !is_open(image, node, epoch)).await;
    // an error means that the metadata has ended, which ends the node too
    if let Ok(image) = fenced {
        broker.streams.fence(&reason(&image, node, epoch));
    }
    std::future::pending().await
}

fn is_open(image: &MetadataImage, node: NodeId, epoch: NodeEpoch) -> bool {
    let own = image.node(node).and_then(|own| own.epochs.get(&epoch));
    own.is_some_and(|own| own.state == EpochState::Open)
}

fn reason(image: &MetadataImage, node: NodeId, epoch: NodeEpoch) -> String {
    match image.node(node) {
        Some(own) if own.epoch > epoch => format!(
            "another start of node {node} has registered as epoch {}",
            own.epoch
        ),
        _ => "the controllers did not hear from this node in time".to_owned(),
    }
}
