//! Opens partitions as the metadata image says, and closes them ([`super::closing`]).
//!
//! No opening waits for another: a request that the object store does not answer delays only its own partition, and the
//! opener goes on following the image.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use highwater_kraft_meta::{MetadataImage, PartitionImage, TopicImage};
use highwater_partition_log::{LogContext, PartitionLog};
use highwater_runtime::{Backoff, reasons, until};
use highwater_s3stream::{OpenStream, OpenedStream, StreamError, StreamStore};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::registry::Key;
use super::{Closed, Partition};
use crate::broker::Broker;
use crate::log_config::log_config;
use crate::stream_metadata::label;

/// The task that opens and closes partitions.
pub(crate) struct PartitionOpener {
    broker: Arc<Broker>,
    seen: Arc<MetadataImage>,
    /// The partitions that are being opened; there is one attempt at a time for each.
    opening: BTreeSet<Key>,
    attempts: SelectAll<BoxStream<'static, Attempt>>,
    /// The partitions that could not be opened.
    failed: BTreeMap<Key, Failed>,
    first_slots: Arc<Semaphore>,
    again_slots: Arc<Semaphore>,
}

/// One partition that could not be opened.
#[derive(Debug)]
struct Failed {
    why: String,
    backoff: Backoff,
    again_at: Instant,
}

/// The wait before the second attempt to open a partition, and the longest wait between later attempts. Each attempt is
/// a command and some requests to the store.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);
/// The most streams that are opened together for the first time, and, separately, the most that are opened again:
/// repeated failures delay only other partitions that have failed. Streams of internal topics, and those that hang, do
/// not count (F4).
const FIRST_AT_ONCE: usize = 1024;
const AGAIN_AT_ONCE: usize = 256;
/// The most openings whose end is processed together.
const NOTED_AT_ONCE: usize = 64;

#[derive(Debug, Clone)]
struct ToOpen {
    key: Key,
    stream: OpenStream,
}

type Attempt = (ToOpen, Result<OpenedStream, StreamError>);

impl PartitionOpener {
    /// Makes an opener that has seen no image.
    #[must_use]
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        Self {
            broker,
            seen: Arc::default(),
            opening: BTreeSet::new(),
            attempts: SelectAll::new(),
            failed: BTreeMap::new(),
            first_slots: Arc::new(Semaphore::new(FIRST_AT_ONCE)),
            again_slots: Arc::new(Semaphore::new(AGAIN_AT_ONCE)),
        }
    }

    /// Follows the image; never returns.
    pub(crate) async fn run(mut self) {
        let mut images = self.broker.metadata.watch();
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            self.follow(image);
            self.try_again();
            let resting = self.failed.iter();
            let resting = resting.filter(|(key, _)| !self.opening.contains(key));
            let next = resting.map(|(_, failed)| failed.again_at).min();
            let mut ended = (&mut self.attempts).ready_chunks(NOTED_AT_ONCE);
            // Cancellation safe: the attempts live outside, and none is removed before it is returned.
            tokio::select! {
                changed = images.changed() => if changed.is_err() {
                    return;
                },
                Some(ended) = ended.next() => self.note(ended),
                // The store may answer again although the metadata has not changed.
                () = until(next) => {}
            }
        }
    }

    /// Closes the partitions that this node no longer leads, begins to open new ones, and changes configurations. The
    /// work is proportional to the change.
    pub(crate) fn follow(&mut self, image: Arc<MetadataImage>) {
        if Arc::ptr_eq(&image, &self.seen) {
            return;
        }
        self.close(&image);
        let changed = image.topics_changed_since(&self.seen);
        let tells = !changed.is_empty() || image.topics_lost_since(&self.seen).next().is_some();
        let mut wanted = Vec::new();
        for topic in &changed {
            self.look_at(topic, &mut wanted);
        }
        for (stream, start) in image.streams_trimmed_since(&self.seen) {
            self.broker.streams.trimmed(stream, start);
        }
        self.seen = image;
        let broker = &self.broker;
        self.failed.retain(|key, _| {
            let is_led = leads(broker, &self.seen, *key).is_some();
            if !is_led {
                broker.partitions.forget(*key);
            }
            is_led
        });
        self.open(wanted, &Arc::clone(&self.first_slots));
        if tells {
            // Requests that wait for a partition look at the image again, and the coordinators of closed partitions
            // end.
            self.broker.partitions.tell();
        }
    }

    /// Closes the partitions that an image no longer gives to this node. Each is marked as closed before the waiters at its
    /// tail are woken. A stream whose topic lives on stays with the uploads, because its batches may be acknowledged and
    /// not uploaded (C2); the stream of a deleted topic is forgotten.
    fn close(&self, image: &MetadataImage) {
        let closed = self.broker.partitions.close(&self.seen, image);
        for (partition, why) in &closed {
            let Some(opened) = partition.topic.partition(partition.index) else {
                continue;
            };
            match why {
                Closed::Deleted => self.broker.streams.forget(opened.stream),
                Closed::LedElsewhere | Closed::NewerEpoch => {
                    self.broker.streams.wake(opened.stream)
                }
            }
        }
        let moved = closed.iter().filter(|(_, why)| *why != Closed::Deleted);
        let partitions = moved.count();
        if partitions > 0 {
            tracing::info!(partitions, "partitions closed: their leadership has moved");
        }
    }

    /// Begins to open partitions that failed and have waited long enough.
    fn try_again(&mut self) {
        let now = Instant::now();
        let rested = self.failed.iter().filter(|(_, one)| one.again_at <= now);
        let keys = rested
            .map(|(key, _)| *key)
            .filter(|key| !self.opening.contains(key));
        let wanted = keys.filter_map(|key| {
            let (topic, partition) = leads(&self.broker, &self.seen, key)?;
            Some(ToOpen::new(key, topic, partition))
        });
        let wanted = wanted.collect();
        self.open(wanted, &Arc::clone(&self.again_slots));
    }

    /// Begins to open partitions, with one command for all of them.
    fn open(&mut self, wanted: Vec<ToOpen>, slots: &Arc<Semaphore>) {
        if wanted.is_empty() {
            return;
        }
        self.opening.extend(wanted.iter().map(|wanted| wanted.key));
        self.broker
            .partitions
            .want(wanted.iter().map(|wanted| wanted.key));
        let asked = wanted.iter().map(|wanted| wanted.stream.clone()).collect();
        let opening = self.broker.streams.open(asked, slots);
        let attempts = opening.map(move |(at, opened)| (wanted[at].clone(), opened));
        self.attempts.push(attempts.boxed());
    }

    /// Processes attempts that have ended. An attempt that the image has overtaken is thrown away.
    fn note(&mut self, ended: Vec<Attempt>) {
        let mut partitions = Vec::with_capacity(ended.len());
        let mut wanted = Vec::new();
        for (attempt, opened) in ended {
            let key = attempt.key;
            self.opening.remove(&key);
            let led = leads(&self.broker, &self.seen, key);
            let led = led.map(|(topic, now)| (Arc::clone(topic), ToOpen::new(key, topic, now)));
            let opened = match led {
                Some((topic, now)) if now.stream.epoch == attempt.stream.epoch => {
                    opened.and_then(|opened| self.partition(topic, &attempt, opened))
                }
                led => {
                    if self.seen.stream(attempt.stream.id).is_none() {
                        self.broker.streams.forget(attempt.stream.id);
                    }
                    match led {
                        Some((_, now)) => wanted.push(now),
                        None => self.broker.partitions.forget(key),
                    }
                    continue;
                }
            };
            match opened {
                Ok(partition) => partitions.push(partition),
                Err(error) => self.fail(key, reasons(&error)),
            }
        }
        for partition in &partitions {
            let (topic, index) = (&partition.topic, partition.index);
            if self.failed.remove(&(topic.id, index)).is_some() {
                tracing::info!(topic = %topic.name, partition = index, "partition is open after earlier failures");
            }
        }
        self.broker.partitions.insert(partitions);
        self.open(wanted, &Arc::clone(&self.first_slots));
    }

    /// Remembers when to try again. Logs the failure once, and again when its reason changes.
    fn fail(&mut self, key: Key, why: String) {
        let rng = &self.broker.rng;
        let failed = self.failed.entry(key).or_insert_with(|| Failed {
            why: String::new(),
            backoff: Backoff::new(REST, REST_MAX, rng.clone()),
            again_at: Instant::now(),
        });
        failed.again_at = Instant::now() + failed.backoff.next_wait();
        if failed.why != why {
            let topic = self.seen.topic_by_id(key.0);
            let topic = topic.map_or("", |topic| &*topic.name);
            let error = &why;
            tracing::error!(topic = %topic, partition = key.1, error, "partition cannot be opened; trying again later");
            failed.why = why;
        }
        self.broker.partitions.set_failed(key);
    }

    fn look_at(&self, topic: &Arc<TopicImage>, wanted: &mut Vec<ToOpen>) {
        let config = log_config(&topic.configs, &self.broker.config);
        for (index, partition) in topic.partition_indexes().zip(&topic.partitions) {
            let key = (topic.id, index);
            if let Some(open) = self.broker.partitions.find(topic, index) {
                open.log.set_config(config.clone());
                continue;
            }
            // A failed partition waits for its next attempt, even though its own attempts change the image. A partition
            // that is being opened is looked at when that is done.
            let is_new = !self.failed.contains_key(&key) && !self.opening.contains(&key);
            if is_new && is_led(&self.broker, partition) {
                wanted.push(ToOpen::new(key, topic, partition));
            }
        }
    }

    fn partition(
        &self,
        topic: Arc<TopicImage>,
        attempt: &ToOpen,
        opened: OpenedStream,
    ) -> Result<Partition, StreamError> {
        let (id, leader_epoch) = (attempt.stream.id, attempt.stream.epoch);
        let history = self.broker.metadata.image();
        let history = history
            .stream(id)
            .map(|stream| stream.leader_epochs.clone());
        let context = LogContext {
            clock: self.broker.clock.clone(),
            seed: id.0,
            producers: self.broker.producers.clone(),
            pool: self.broker.pool.clone(),
        };
        let log = PartitionLog::open(
            opened,
            leader_epoch,
            history.unwrap_or_default(),
            log_config(&topic.configs, &self.broker.config),
            context,
        )?;
        // A trim may have come while the partition was being opened.
        if let Some(stream) = self.seen.stream(id) {
            self.broker.streams.trimmed(id, stream.start);
        }
        Ok(Partition::new(topic, attempt.key.1, leader_epoch, log))
    }
}

impl ToOpen {
    fn new(key: Key, topic: &TopicImage, partition: &PartitionImage) -> Self {
        Self {
            key,
            stream: OpenStream {
                id: partition.stream,
                epoch: partition.leader_epoch,
                label: label(key.0, key.1),
                // All groups wait for the partitions of their offsets.
                is_urgent: topic.internal,
            },
        }
    }
}

/// Whether this node leads a partition.
pub(super) fn is_led(broker: &Broker, partition: &PartitionImage) -> bool {
    partition.leader == Some((broker.config.node_id, broker.epoch))
}

/// The partition and its topic, if there is one and this node leads it.
fn leads<'a>(
    broker: &Broker,
    image: &'a MetadataImage,
    key: Key,
) -> Option<(&'a Arc<TopicImage>, &'a PartitionImage)> {
    let topic = image.topic_by_id(key.0)?;
    let partition = topic.partition(key.1)?;
    is_led(broker, partition).then_some((topic, partition))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use highwater_types::{LogIndex, StreamId, Uuid};

    use super::*;

    // F4
    #[test]
    fn what_groups_wait_for_is_urgent_and_nothing_else() {
        let partition = PartitionImage::new(StreamId(7), Vec::new());
        for internal in [true, false] {
            let topic = TopicImage {
                id: Uuid([1; 16]),
                name: "t".into(),
                internal,
                configs: BTreeMap::new(),
                configs_at: LogIndex::default(),
                partitions: vec![partition.clone()],
            };
            let wanted = ToOpen::new((topic.id, 0), &topic, &partition);
            assert_eq!(wanted.stream.is_urgent, internal);
        }
    }
}
