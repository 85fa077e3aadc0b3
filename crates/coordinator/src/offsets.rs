//! Committed offsets of one group. Source: `OffsetMetadataManager`, `OffsetAndMetadata`.

use std::collections::BTreeMap;

use highwater_types::TopicId;

/// One committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to be read.
    pub offset: i64,
    /// The leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: String,
    /// Milliseconds since 1970.
    pub commit_timestamp: i64,
    /// When it goes, where the client said so (OffsetCommit 2 to 4); milliseconds since 1970.
    pub expire_timestamp: Option<i64>,
    /// The id of the topic it was committed for, so that a later topic of the same name does not get it; zero where the
    /// record does not say.
    pub topic_id: TopicId,
}

impl CommittedOffset {
    /// Whether it was committed for the topic that has this id now; a zero on either side says nothing against it.
    #[must_use]
    pub fn is_of(&self, topic: TopicId) -> bool {
        self.topic_id == topic || self.topic_id == TopicId::ZERO || topic == TopicId::ZERO
    }
}

/// One offset to be committed.
#[derive(Debug, Clone)]
pub struct OffsetCommit {
    /// The topic.
    pub topic: String,
    /// Its id.
    pub topic_id: TopicId,
    /// Its partition.
    pub partition: i32,
    /// The next offset to be read.
    pub offset: i64,
    /// The leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: String,
    /// How long it is kept, or -1 for the broker's retention; milliseconds.
    pub retention_ms: i64,
}

/// The committed offsets of a group, by topic and partition.
#[derive(Debug, Default)]
pub(crate) struct Offsets(BTreeMap<String, BTreeMap<i32, CommittedOffset>>);

impl Offsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.0.get(topic)?.get(&partition)
    }

    pub(crate) fn set(&mut self, topic: &str, partition: i32, offset: CommittedOffset) {
        match self.0.get_mut(topic) {
            Some(partitions) => {
                partitions.insert(partition, offset);
            }
            None => {
                let partitions = BTreeMap::from([(partition, offset)]);
                self.0.insert(topic.to_owned(), partitions);
            }
        }
    }

    pub(crate) fn remove(&mut self, topic: &str, partition: i32) -> Option<CommittedOffset> {
        let partitions = self.0.get_mut(topic)?;
        let removed = partitions.remove(&partition);
        if partitions.is_empty() {
            self.0.remove(topic);
        }
        removed
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, i32, &CommittedOffset)> {
        self.0.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(partition, offset)| (topic.as_str(), *partition, offset))
        })
    }
}
