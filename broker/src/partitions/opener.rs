//! Opens and closes partitions as the image says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::{MetadataImage, PartitionImage, TopicImage};
use highwater_partition_log::{LogContext, PartitionLog};
use highwater_runtime::{Backoff, reasons};
use highwater_s3stream::{OpenStream, OpenedStream, StreamError, StreamStore};
use highwater_types::TopicId;
use tokio::time::Instant;

use super::Partition;
use crate::broker::Broker;
use crate::log_config::log_config;
use crate::stream_metadata::label;

/// Follows the image.
#[derive(Debug)]
pub(crate) struct PartitionOpener {
    broker: Arc<Broker>,
    seen: Arc<MetadataImage>,
    /// What could not be opened.
    failed: BTreeMap<(TopicId, i32), Failed>,
}

/// One partition that could not be opened.
#[derive(Debug)]
struct Failed {
    why: String,
    backoff: Backoff,
    again_at: Instant,
}

/// Before a second attempt at opening what could not be opened, and between later ones at most: each is a command and
/// some requests to the store.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);

struct Wanted {
    topic: Arc<TopicImage>,
    index: i32,
    stream: OpenStream,
}

impl PartitionOpener {
    /// An opener that has seen nothing.
    #[must_use]
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        Self {
            broker,
            seen: Arc::default(),
            failed: BTreeMap::new(),
        }
    }

    /// Follows the image for ever.
    pub(crate) async fn run(mut self) {
        let mut images = self.broker.metadata.watch();
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            self.follow(image).await;
            let next = self.failed.values().map(|failed| failed.again_at).min();
            let changed = match next {
                // the store may answer again without anything having changed
                Some(at) => match tokio::time::timeout_at(at, images.changed()).await {
                    Ok(changed) => changed,
                    Err(_elapsed) => continue,
                },
                None => images.changed().await,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Opens what is new and what is to be tried again in one command, changes configurations, closes what is gone. Costs
    /// what changed.
    pub(crate) async fn follow(&mut self, image: Arc<MetadataImage>) {
        let mut wanted = Vec::new();
        for topic in &image.topics_changed_since(&self.seen) {
            self.look_at(topic, &mut wanted);
        }
        self.try_again(&image, &mut wanted);
        if image.has_lost_topics_of(&self.seen) {
            for partition in self.broker.partitions.retain(&image) {
                if let Some(gone) = partition.topic.partition(partition.index) {
                    self.broker.streams.forget(gone.stream);
                }
            }
        }
        for (stream, start) in image.streams_trimmed_since(&self.seen) {
            self.broker.streams.trimmed(stream, start);
        }
        self.seen = image;
        if !wanted.is_empty() {
            self.open(wanted).await;
        }
    }

    /// Adds what failed and has rested; forgets what is gone.
    fn try_again(&mut self, image: &MetadataImage, wanted: &mut Vec<Wanted>) {
        let before = self.failed.len();
        let us = Some((self.broker.config.node_id, self.broker.epoch));
        self.failed.retain(|(topic, index), _| {
            let topic = image.topic_by_id(*topic);
            let partition = topic.and_then(|topic| topic.partition(*index));
            partition.is_some_and(|partition| partition.leader == us)
        });
        if self.failed.len() < before {
            self.tell_failed();
        }
        let now = Instant::now();
        for (&(id, index), _) in self.failed.iter().filter(|(_, one)| one.again_at <= now) {
            let topic = image.topic_by_id(id);
            if let Some((topic, partition)) = topic.and_then(|t| Some((t, t.partition(index)?))) {
                self.want(topic, index, partition, wanted);
            }
        }
    }

    async fn open(&mut self, wanted: Vec<Wanted>) {
        let asked = wanted.iter().map(|wanted| wanted.stream.clone()).collect();
        let opened = self.broker.streams.open(asked).await;
        let mut partitions = Vec::with_capacity(opened.len());
        let mut has_changed = false;
        for (wanted, opened) in wanted.into_iter().zip(opened) {
            let (topic, index) = (Arc::clone(&wanted.topic), wanted.index);
            match opened.and_then(|opened| self.partition(wanted, opened)) {
                Ok(partition) => {
                    if self.failed.remove(&(topic.id, index)).is_some() {
                        tracing::info!(topic = %topic.name, partition = index, "partition is open after all");
                        has_changed = true;
                    }
                    partitions.push(partition);
                }
                Err(error) => {
                    self.fail(&topic, index, reasons(&error));
                    has_changed = true;
                }
            }
        }
        self.broker.partitions.insert(partitions);
        if has_changed {
            self.tell_failed();
        }
    }

    /// Remembers when to try again; says it once, and once more when the reason is another.
    fn fail(&mut self, topic: &TopicImage, index: i32, why: String) {
        let rng = &self.broker.rng;
        let failed = self.failed.entry((topic.id, index));
        let failed = failed.or_insert_with(|| Failed {
            why: String::new(),
            backoff: Backoff::new(REST, REST_MAX, rng.clone()),
            again_at: Instant::now(),
        });
        failed.again_at = Instant::now() + failed.backoff.next_wait();
        if failed.why != why {
            let error = &why;
            tracing::error!(topic = %topic.name, partition = index, error, "partition cannot be opened, it is tried again");
            failed.why = why;
        }
    }

    fn tell_failed(&self) {
        let keys = self.failed.keys().copied().collect();
        self.broker.partitions.set_failed(keys);
    }

    fn look_at(&self, topic: &Arc<TopicImage>, wanted: &mut Vec<Wanted>) {
        for (index, partition) in topic.partition_indexes().zip(&topic.partitions) {
            if let Ok(open) = self.broker.partitions.find(topic, index) {
                open.log
                    .set_config(log_config(&topic.configs, &self.broker.config));
                if open.leader_epoch == partition.leader_epoch {
                    continue;
                }
            }
            // what failed rests, though its own attempts change the image
            if !self.failed.contains_key(&(topic.id, index)) {
                self.want(topic, index, partition, wanted);
            }
        }
    }

    /// Adds a partition if this node leads it.
    fn want(
        &self,
        topic: &Arc<TopicImage>,
        index: i32,
        partition: &PartitionImage,
        wanted: &mut Vec<Wanted>,
    ) {
        if partition.leader == Some((self.broker.config.node_id, self.broker.epoch)) {
            wanted.push(Wanted {
                topic: Arc::clone(topic),
                index,
                stream: OpenStream {
                    id: partition.stream,
                    epoch: partition.leader_epoch,
                    label: label(topic.id, index),
                },
            });
        }
    }

    fn partition(&self, wanted: Wanted, opened: OpenedStream) -> Result<Partition, StreamError> {
        let leader_epoch = wanted.stream.epoch;
        let image = self.broker.metadata.image();
        let history = image
            .stream(wanted.stream.id)
            .map(|stream| stream.leader_epochs.clone());
        let config = log_config(&wanted.topic.configs, &self.broker.config);
        let context = LogContext {
            clock: self.broker.clock.clone(),
            seed: wanted.stream.id.0,
            producers: self.broker.producers.clone(),
            pool: self.broker.pool.clone(),
        };
        let log = PartitionLog::open(
            opened,
            leader_epoch,
            history.unwrap_or_default(),
            config,
            context,
        )?;
        let (topic, index) = (wanted.topic, wanted.index);
        Ok(Partition::new(topic, index, leader_epoch, log))
    }
}
