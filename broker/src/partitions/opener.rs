//! Opens and closes partitions as the image says.

use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::{MetadataImage, TopicImage};
use highwater_partition_log::{LogContext, PartitionLog};
use highwater_s3stream::{OpenStream, OpenedStream, StreamError, StreamStore};

use super::Partition;
use crate::broker::Broker;
use crate::log_config::log_config;
use crate::stream_metadata::label;

/// Follows the image.
#[derive(Debug)]
pub(crate) struct PartitionOpener {
    broker: Arc<Broker>,
    seen: Arc<MetadataImage>,
    /// Whether a partition could not be opened: it is tried again.
    failed: bool,
}

/// Between two attempts at opening what could not be opened.
const REST: Duration = Duration::from_secs(1);

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
            failed: false,
        }
    }

    /// Follows the image for ever.
    pub(crate) async fn run(mut self) {
        let mut images = self.broker.metadata.watch();
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            self.follow(image).await;
            if self.failed {
                // the store may answer again without anything having changed
                if let Ok(Err(_gone)) = tokio::time::timeout(REST, images.changed()).await {
                    return;
                }
            } else if images.changed().await.is_err() {
                return;
            }
        }
    }

    /// Opens what is new in one command, changes configurations, closes what is gone. Costs what changed.
    pub(crate) async fn follow(&mut self, image: Arc<MetadataImage>) {
        let again = std::mem::take(&mut self.failed);
        let before = match again {
            true => Arc::default(),
            false => Arc::clone(&self.seen),
        };
        let changed = image.topics_changed_since(&before);
        let mut wanted = Vec::new();
        for topic in &changed {
            self.look_at(topic, &mut wanted);
        }
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
        if wanted.is_empty() {
            return;
        }
        let asked = wanted.iter().map(|wanted| wanted.stream.clone()).collect();
        let opened = self.broker.streams.open(asked).await;
        let mut partitions = Vec::with_capacity(opened.len());
        for (wanted, opened) in wanted.into_iter().zip(opened) {
            let (topic, index) = (Arc::clone(&wanted.topic), wanted.index);
            match opened.and_then(|opened| self.partition(wanted, opened)) {
                Ok(partition) => partitions.push(partition),
                Err(error) => {
                    self.failed = true;
                    tracing::error!(topic = %topic.name, partition = index, %error, "partition cannot be opened");
                }
            }
        }
        self.broker.partitions.insert(partitions);
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
