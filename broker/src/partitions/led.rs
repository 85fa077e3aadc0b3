//! Looks up the partitions that this node leads, and waits for those that it is still opening (A4).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::{MetadataImage, TopicImage};
use highwater_protocol::ErrorCode;
use highwater_types::TopicId;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::registry::{Key, Partition, Partitions};
use crate::api::error::Refusal;

/// How long a request without a time limit of its own waits for a partition that is being opened. Later requests of its
/// connection wait too (A3), so it is not long.
pub(crate) const OPENING_WAIT: Duration = Duration::from_secs(2);

/// A partition that a request names, and the leader epoch that its client knows; -1 for none.
#[derive(Debug, Clone, Copy)]
struct Asked {
    key: Key,
    known: i32,
}

/// A partition that this node leads.
#[derive(Debug)]
pub(crate) enum Led {
    /// It is open.
    Here(Arc<Partition>),
    /// It is being opened.
    Opening(Opening),
}

impl Led {
    /// The partition; waits while it is being opened (A4), as [`Opening::wait`] does.
    ///
    /// # Errors
    /// As [`Partitions::led`]; `NOT_LEADER_OR_FOLLOWER` if the partition is not open at the deadline.
    pub(crate) async fn open(self, deadline: Instant) -> Result<Arc<Partition>, Refusal> {
        match self {
            Self::Here(partition) => Ok(partition),
            Self::Opening(opening) => opening.wait(deadline).await,
        }
    }
}

/// A waiter for a partition that is being opened here (A4). It is cheap, and no task runs for it.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    partitions: Arc<Partitions>,
    asked: Asked,
}

impl Opening {
    /// A watch that changes when this partition may be open, or will not be opened here any more. It has seen every change
    /// before this call, so the caller looks afterwards.
    #[must_use]
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.partitions.subscribe()
    }

    /// The partition in the present image, or a waiter again.
    ///
    /// # Errors
    /// As [`Partitions::led`].
    pub(crate) fn look_again(&self) -> Result<Option<Arc<Partition>>, Refusal> {
        let image = self.partitions.metadata.image();
        let topic = image.topic_by_id(self.asked.key.0);
        let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        self.partitions.look(topic, self.asked)
    }

    /// Waits until the partition is open. The wait ends when the image gives the partition to another broker, or when its
    /// topic is deleted. Cancellation safe.
    ///
    /// # Errors
    /// As [`Partitions::led`]; `NOT_LEADER_OR_FOLLOWER` at the deadline.
    pub(crate) async fn wait(&self, deadline: Instant) -> Result<Arc<Partition>, Refusal> {
        let mut changes = self.watch();
        loop {
            if let Some(open) = self.look_again()? {
                return Ok(open);
            }
            let waited = timeout_at(deadline, changes.changed()).await;
            if !matches!(waited, Ok(Ok(()))) {
                return Err(ErrorCode::NotLeaderOrFollower.into());
            }
        }
    }
}

impl Partitions {
    /// The partition, or a waiter for it if it is being opened here. `known` is the leader epoch that the client knows, or
    /// -1 (KIP-320). As in Kafka's `Partition.getLocalLog` it is compared before the leader is, also where the partition is
    /// not led.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION` if the partition does not exist; `KAFKA_STORAGE_ERROR` if it can't be opened;
    /// `FENCED_LEADER_EPOCH` if `known` is below its leader epoch, `UNKNOWN_LEADER_EPOCH` if it is above;
    /// `NOT_LEADER_OR_FOLLOWER` if another broker leads it, or none.
    pub(crate) fn led(
        self: &Arc<Self>,
        topic: &TopicImage,
        index: i32,
        known: i32,
    ) -> Result<Led, Refusal> {
        let asked = Asked {
            key: (topic.id, index),
            known,
        };
        Ok(match self.look(topic, asked)? {
            Some(open) => Led::Here(open),
            None => Led::Opening(Opening {
                partitions: Arc::clone(self),
                asked,
            }),
        })
    }

    /// The partition, which the image gives to this node; `None` while it is being opened.
    fn look(&self, topic: &TopicImage, asked: Asked) -> Result<Option<Arc<Partition>>, Refusal> {
        let Asked { key, known } = asked;
        let partition = topic.partition(key.1);
        let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let epoch = partition.leader_epoch;
        let is_led = partition.leader == Some(self.own);
        // A partition that is open under another epoch is about to be closed or was opened after the image.
        let open = self.get(key).filter(|open| open.leader_epoch == epoch);
        if is_led && open.is_none() && self.has_failed(key) {
            return Err(ErrorCode::KafkaStorageError.into());
        }
        match known {
            known if known >= 0 && known < epoch.0 => Err(ErrorCode::FencedLeaderEpoch.into()),
            known if known > epoch.0 => Err(ErrorCode::UnknownLeaderEpoch.into()),
            _ if is_led => Ok(open),
            _ => Err(ErrorCode::NotLeaderOrFollower.into()),
        }
    }

    /// Waits until each of these partitions of a topic, which were just created, has a leader (E4), and until those that
    /// this node leads are open or could not be opened. The wait is over at the deadline in any case, because the
    /// partitions exist: they are led and opened later. Cancellation safe.
    pub(crate) async fn wait_created(
        self: &Arc<Self>,
        id: TopicId,
        indexes: Range<i32>,
        deadline: Instant,
    ) {
        let mut images = self.metadata.watch();
        let mut leaderless = indexes.clone();
        let are_led = |image: &Arc<MetadataImage>| {
            let topic = image.topic_by_id(id);
            let lacks_leader = |index: i32| {
                let partition = topic.and_then(|topic| topic.partition(index));
                partition.is_some_and(|partition| partition.leader.is_none())
            };
            // no partition is looked at again once it is led
            while leaderless.start < leaderless.end && !lacks_leader(leaderless.start) {
                leaderless.start += 1;
            }
            leaderless.is_empty()
        };
        // an error means that the metadata has ended, which ends the node too
        drop(timeout_at(deadline, images.wait_for(are_led)).await);
        let image = self.metadata.image();
        let Some(topic) = image.topic_by_id(id) else {
            return;
        };
        for index in indexes {
            if let Ok(Led::Opening(opening)) = self.led(topic, index, -1) {
                drop(opening.wait(deadline).await);
            }
        }
    }
}
