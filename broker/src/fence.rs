//! How a broker learns that its node epoch was fenced: by its own image of the metadata, by the answer to a heartbeat,
//! and while it is cut off, by a look at the next sequence of its log. It also learns that by a put that meets a seal and
//! by a refused command, which end the log themselves (W11). The look tells whether the store is there, too (E8).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use highwater_kraft_meta::{MetadataImage, ProposeError, Rejection};
use highwater_runtime::reasons;
use highwater_s3stream::{ObjectStreamStore, StreamError};
use highwater_types::{NodeEpoch, NodeId};
use highwater_wal::WalError;
use tokio::time::{MissedTickBehavior, interval};

use crate::broker::Broker;
use crate::heartbeats::Heartbeats;
use crate::node_error::NodeError;

/// How often a broker looks at the next sequence of its log, while it is cut off from the controllers or while some broker
/// may not reach the store.
const LOOK: Duration = Duration::from_secs(1);

/// The reason with which a log ends when a heartbeat is answered so.
const FENCED_ANSWER: &str = "the active controller answers heartbeats that the epoch is not open";

/// Ends the log of a broker once its node epoch is not open any more, as far as the broker can see by these heartbeats and
/// otherwise. Cancellation safe.
pub(crate) async fn watch(broker: &Arc<Broker>, heartbeats: &Heartbeats) -> Infallible {
    // all arms are cancellation safe
    tokio::select! {
        never = watch_image(broker) => never,
        never = watch_heartbeats(heartbeats, &broker.streams) => never,
        never = look_at_log(broker, heartbeats) => never,
    }
}

/// Ends the log of a broker that is fenced before its start is over, because the next start opens the same files (W11).
/// Returns the error of the start.
pub(crate) async fn end_start(broker: &Broker) -> NodeError {
    match end_log(&broker.streams).await {
        Ok(()) => ProposeError::Rejected(Rejection::Fenced(broker.epoch)).into(),
        Err(error) => error,
    }
}

/// Ends the log of a start that was fenced, and waits for as long as anything writes to its files.
///
/// # Errors
/// See [`log_ended`].
pub(crate) async fn end_log(streams: &ObjectStreamStore) -> Result<(), NodeError> {
    streams.fence(FENCED_ANSWER);
    log_ended(streams.shutdown(None).await)
}

/// Looks at how the log of a fenced epoch has ended. What it has acknowledged is in it all the same, so that the next
/// start of the broker finds it.
///
/// # Errors
/// The machine failed to write or to sync the log, and not for want of room. What is on the disk is not known then, so that
/// no start of this process may open the files again (D3).
pub(crate) fn log_ended(how: Result<(), StreamError>) -> Result<(), NodeError> {
    match how {
        Err(StreamError::Wal(error @ WalError::Damaged { .. })) => Err(error.into()),
        Err(StreamError::Wal(WalError::Io { path, source })) if !highwater_io::is_full(&source) => {
            Err(WalError::Io { path, source }.into())
        }
        Err(error) => {
            let error = reasons(&error);
            tracing::debug!(error, "the log of the fenced epoch has ended");
            Ok(())
        }
        Ok(()) => Ok(()),
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

/// The active controller may be reached again before the own image goes on.
async fn watch_heartbeats(heartbeats: &Heartbeats, streams: &ObjectStreamStore) -> Infallible {
    heartbeats.fenced().await;
    streams.fence(FENCED_ANSWER);
    std::future::pending().await
}

/// A broker that is cut off doesn't learn of its fence by its image, and by a put only if it has something to put. No
/// request is sent while the controllers are reached and all brokers reach the store.
async fn look_at_log(broker: &Arc<Broker>, heartbeats: &Heartbeats) -> Infallible {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = FuturesUnordered::new();
    heartbeats.begin_looking();
    loop {
        // both arms are cancellation safe
        tokio::select! {
            _tick = ticks.tick() => {}
            Some(()) = looks.next() => continue,
        }
        // one that has no answer ends at its deadline, and the next ones find the store that is back
        if heartbeats.is_cut_off() || heartbeats.must_look_at_store() {
            looks.push(broker.streams.look_for_seal());
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
        _ => "the controllers did not hear from this node in time, or heard that it alone does not reach the object store".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use highwater_runtime::Tasks;

    use super::*;
    use crate::fixture::TestNode;
    use crate::node::NodeEnd;

    // W11: the image of this node says nothing of the end
    #[tokio::test(flavor = "multi_thread")]
    async fn a_heartbeat_that_is_answered_as_fenced_ends_the_log_at_once() {
        let node = TestNode::start(&[]).await;
        let broker = node.broker();
        let metadata = Arc::clone(&broker.metadata);
        let tasks = Tasks::default();
        // no node has registered with this id and this epoch
        let (other, times) = ((NodeId(7), NodeEpoch(1)), (LOOK, 3 * LOOK));
        let heartbeats = Heartbeats::begin(metadata, other, times, None, &tasks);
        let ended = async {
            tokio::select! {
                never = watch(broker, &heartbeats) => match never {},
                end = node.node.ended() => end,
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), ended);
        let end = ended.await.expect("it ends");
        assert!(matches!(end, NodeEnd::Fenced(_)), "{end}");
        tasks.stop().await;
    }
}
