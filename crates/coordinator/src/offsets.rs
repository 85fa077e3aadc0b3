//! The committed offsets of groups. Source: `OffsetMetadataManager`, `OffsetAndMetadata`.

use std::collections::BTreeMap;

use highwater_types::TopicId;

/// One committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// The metadata that the client committed with the offset.
    pub metadata: String,
    /// The time of the commit, in milliseconds since 1970.
    pub commit_timestamp: i64,
    /// When the offset expires, if the client gave a retention time (OffsetCommit 2 to 4); milliseconds since 1970.
    pub expire_timestamp: Option<i64>,
    /// The id of the topic for which the offset was committed, so that it doesn't apply to a later topic of the same
    /// name. Zero if the record has none.
    pub topic_id: TopicId,
}

impl CommittedOffset {
    /// Whether the offset was committed for the topic with this id. A zero on either side matches any id.
    #[must_use]
    pub fn is_of(&self, topic: TopicId) -> bool {
        self.topic_id == topic || self.topic_id == TopicId::ZERO || topic == TopicId::ZERO
    }
}

/// One offset to be committed.
#[derive(Debug, Clone)]
pub struct OffsetCommit {
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition's index.
    pub partition: i32,
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// The metadata that the client commits with the offset.
    pub metadata: String,
    /// How long the offset is kept, in milliseconds; -1 for the broker's retention.
    pub retention_ms: i64,
}

/// The committed offsets of every group, by group, topic and partition. They are independent of the kinds of groups,
/// so they stay when a group changes its kind.
#[derive(Debug, Default)]
pub(crate) struct Offsets(BTreeMap<String, GroupOffsets>);

type GroupOffsets = BTreeMap<String, BTreeMap<i32, CommittedOffset>>;

impl Offsets {
    /// Whether a group has committed offsets.
    pub(crate) fn has(&self, group: &str) -> bool {
        self.0.contains_key(group)
    }

    pub(crate) fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.0.get(group)?.get(topic)?.get(&partition)
    }

    pub(crate) fn set(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: CommittedOffset,
    ) {
        let group_offsets = entry(&mut self.0, group);
        entry(group_offsets, topic).insert(partition, offset);
    }

    pub(crate) fn remove(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Option<CommittedOffset> {
        let group_offsets = self.0.get_mut(group)?;
        let of_topic = group_offsets.get_mut(topic)?;
        let removed = of_topic.remove(&partition);
        if of_topic.is_empty() {
            group_offsets.remove(topic);
        }
        if group_offsets.is_empty() {
            self.0.remove(group);
        }
        removed
    }

    /// Removes all offsets of a group, and returns their topics and partitions.
    pub(crate) fn remove_group(&mut self, group: &str) -> Vec<(String, i32)> {
        let removed = self.0.remove(group).unwrap_or_default();
        let of_topic = |(topic, partitions): (String, BTreeMap<i32, CommittedOffset>)| {
            let partitions = partitions.into_keys();
            partitions.map(move |partition| (topic.clone(), partition))
        };
        removed.into_iter().flat_map(of_topic).collect()
    }

    /// The offsets of a group, each with its topic and partition.
    pub(crate) fn of(&self, group: &str) -> impl Iterator<Item = (&str, i32, &CommittedOffset)> {
        let topics = self.0.get(group).into_iter().flatten();
        topics.flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(partition, offset)| (topic.as_str(), *partition, offset))
        })
    }

    /// The groups that have committed offsets.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The value at a key. The key is copied only if it is new.
fn entry<'a, V: Default>(map: &'a mut BTreeMap<String, V>, key: &str) -> &'a mut V {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), V::default());
    }
    map.get_mut(key)
        .expect("the key was there or has just been inserted")
}
