//! How a broker learns that its node epoch was fenced: by its own image of the metadata, and while it is cut off, by a
//! look at the next sequence of its log. It also learns that by a put that meets a seal and by a refused command, which
//! end the log themselves (W11).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::MetadataImage;
use highwater_types::{NodeEpoch, NodeId};
use tokio::time::sleep;

use crate::broker::Broker;

/// How often a broker that is cut off looks whether its log is sealed.
const LOOK: Duration = Duration::from_secs(1);

/// Ends the log of a broker once its node epoch is not open any more, as far as the broker can see. Cancellation safe.
pub(crate) async fn watch(broker: &Arc<Broker>) -> Infallible {
    // both arms are cancellation safe
    tokio::select! {
        never = watch_image(broker) => never,
        never = look_while_cut_off(broker) => never,
    }
}

async fn watch_image(broker: &Arc<Broker>) -> Infallible {
    let (node, epoch) = (broker.config.node_id, broker.epoch);
    let mut images = broker.metadata.watch();
    let is_fenced = |image: &Arc<MetadataImage>| !is_open(image, node, epoch);
    let fenced = images.wait_for(is_fenced).await;
    // the image is not borrowed any longer than this; an error means that the metadata has ended, which ends the node too
    let why = fenced.ok().map(|image| reason(&image, node, epoch));
    if let Some(why) = why {
        broker.streams.fence(&why);
    }
    std::future::pending().await
}

/// A broker that is cut off doesn't learn of its fence by its image, and by a put only if it has something to put. No
/// request is sent while the controllers are reached.
async fn look_while_cut_off(broker: &Arc<Broker>) -> Infallible {
    loop {
        sleep(LOOK).await;
        if broker.heartbeats.is_cut_off() {
            broker.streams.look_for_seal().await;
        }
    }
}

fn is_open(image: &MetadataImage, node: NodeId, epoch: NodeEpoch) -> bool {
    image.node(node).is_some_and(|own| own.is_open(epoch))
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
