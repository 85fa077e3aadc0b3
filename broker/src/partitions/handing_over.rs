//! Hands the partitions over that the active controller wants to move (C1, C2): the leader's side of a planned move.
//!
//! The image names the move. Appends to the partitions are stopped, their streams are closed, and the command that commits
//! their last claims gives them to the other brokers. Until then consumers read here; then the opener closes the partitions
//! as it closes any that another broker leads. A producer waits meanwhile, and is told the new leader. The move is put off
//! if the log or the store is slow, and begun again a second later.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::{MetadataImage, PartitionImage};
use highwater_runtime::{Backoff, reasons};
use highwater_s3stream::StreamError;
use highwater_types::StreamId;
use tokio::time::{Instant, sleep};

use super::opener::is_led;
use super::registry::{Key, Partition};
use crate::broker::Broker;

/// The wait after a hand-over that was put off, and the longest wait after several.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);
/// How long a stop hands partitions over, and how long it waits for the next partitions to be handed over.
const STOP_MAX: Duration = Duration::from_secs(5);
const STOP_PATIENCE: Duration = Duration::from_secs(4);
/// How long it serves on when it leads nothing any more.
const STOP_LINGER: Duration = Duration::from_millis(300);
/// How often a stop looks whether all are handed over.
const STOP_LOOK: Duration = Duration::from_millis(20);
/// The most partitions that are handed over together.
const AT_ONCE: usize = 500;

/// Hands partitions over; never returns.
pub(crate) async fn run(broker: Arc<Broker>) {
    let mut images = broker.metadata.watch();
    let mut opened = broker.partitions.subscribe();
    let mut seen: Arc<MetadataImage> = Arc::default();
    // the partitions that are to move, so that no change costs a look at all
    let mut wanted: BTreeSet<Key> = BTreeSet::new();
    let mut rests: Option<Backoff> = None;
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        opened.mark_unchanged();
        for topic in image.topics_changed_since(&seen) {
            let all = topic.partition_indexes().zip(&topic.partitions);
            let leaving = all.filter(|(_, partition)| is_leaving(&broker, &image, partition));
            wanted.extend(leaving.map(|(index, _)| (topic.id, index)));
        }
        wanted.retain(|key| find(&broker, &image, *key).is_some());
        let leaving = wanted.iter().filter_map(|key| open(&broker, &image, *key));
        let leaving: Vec<_> = leaving.take(AT_ONCE).collect();
        seen = image;
        if !leaving.is_empty() {
            let partitions = leaving.len();
            let begun = Instant::now();
            match hand_over(&broker, leaving).await {
                Ok(waited) => {
                    let elapsed_ms = millis(begun.elapsed());
                    let stopped_ms = millis(waited);
                    tracing::info!(partitions, elapsed_ms, stopped_ms, "partitions handed over");
                    rests = None;
                }
                Err(error) => {
                    let error = reasons(&error);
                    match rests {
                        Some(_) => tracing::debug!(error, "partitions cannot be handed over now"),
                        None => tracing::warn!(error, "partitions cannot be handed over now"),
                    }
                    let new = || Backoff::new(REST, REST_MAX, broker.rng.clone());
                    // each attempt may keep writers waiting
                    sleep(rests.get_or_insert_with(new).next_wait()).await;
                }
            }
            continue;
        }
        // all arms are cancellation safe
        let changed = tokio::select! {
            changed = images.changed() => changed.is_ok(),
            changed = opened.changed(), if !wanted.is_empty() => changed.is_ok(),
        };
        if !changed {
            return std::future::pending().await;
        }
    }
}

/// Says that this broker stops, and waits until it leads nothing any more, as long as partitions go on being handed over and
/// other brokers live; at most for 5 s (A5).
pub(crate) async fn leave(broker: &Broker) {
    broker.heartbeats.leave();
    let own = (broker.config.node_id, broker.epoch);
    let deadline = Instant::now() + STOP_MAX;
    let (mut least, mut since) = (usize::MAX, Instant::now());
    loop {
        let image = broker.metadata.image();
        let are_others = image.live().any(|(node, _)| node != own.0);
        let is_open = image.node(own.0).is_some_and(|node| node.is_open(own.1));
        if !are_others || !is_open || broker.streams.check_wal().is_err() {
            return;
        }
        let partitions = image.partitions();
        let led = partitions.filter(|one| is_led(broker, one)).count();
        if led != least {
            (least, since) = (led, Instant::now());
        }
        // clients are told the next leaders, and a move to this broker that was under way comes to light
        let patience = if led == 0 { STOP_LINGER } else { STOP_PATIENCE };
        if since.elapsed() >= patience || Instant::now() >= deadline {
            if led > 0 {
                tracing::info!(
                    partitions = led,
                    "partitions are not handed over before the stop"
                );
            }
            return;
        }
        // a look costs a pass over all partitions, so that not every change of the image is looked at
        sleep(STOP_LOOK).await;
    }
}

/// Partitions whose appends are stopped. When this is dropped, they are taken again, unless the streams were closed.
struct Stopped<'a> {
    broker: &'a Broker,
    partitions: &'a [Arc<Partition>],
    are_closed: bool,
}

impl<'a> Stopped<'a> {
    fn stop(broker: &'a Broker, partitions: &'a [Arc<Partition>]) -> Self {
        for partition in partitions {
            partition.log.stop_appends();
        }
        Self {
            broker,
            partitions,
            are_closed: false,
        }
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        if !self.are_closed {
            for partition in self.partitions {
                partition.log.go_on();
            }
            self.broker.partitions.tell();
        }
    }
}

/// Hands partitions over; returns for how long their appends were stopped.
async fn hand_over(
    broker: &Broker,
    partitions: Vec<(Arc<Partition>, StreamId)>,
) -> Result<Duration, StreamError> {
    let (partitions, streams): (Vec<_>, Vec<_>) = partitions.into_iter().unzip();
    let handing_over = broker.streams.begin_hand_over(&streams).await?;
    let begun = Instant::now();
    let mut stopped = Stopped::stop(broker, &partitions);
    let finished = handing_over.finish().await;
    // after any other error the node epoch ends, and nothing is appended any more
    stopped.are_closed = !matches!(finished, Err(StreamError::Unavailable { .. }));
    finished?;
    Ok(begun.elapsed())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether this node leads a partition and is to hand it over to a live broker.
fn is_leaving(broker: &Broker, image: &MetadataImage, partition: &PartitionImage) -> bool {
    let moving = partition.moving.as_ref();
    is_led(broker, partition)
        && moving.is_some_and(|moving| image.live_epoch(moving.to) == Some(moving.epoch))
}

/// A partition that is to be handed over.
fn find<'a>(
    broker: &Broker,
    image: &'a MetadataImage,
    (topic, index): Key,
) -> Option<&'a PartitionImage> {
    let partition = image.topic_by_id(topic)?.partition(index)?;
    is_leaving(broker, image, partition).then_some(partition)
}

/// The same, if it is open here under the leader epoch that it has.
fn open(broker: &Broker, image: &MetadataImage, key: Key) -> Option<(Arc<Partition>, StreamId)> {
    let partition = find(broker, image, key)?;
    let open = broker.partitions.get(key)?;
    let is_same = open.leader_epoch == partition.leader_epoch && open.closed().get().is_none();
    is_same.then_some((open, partition.stream))
}
