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

/// The committed offsets of every group, by group, topic and partition. Whatever kind a group is of, they stay what they are
/// when it becomes another.
#[derive(Debug, Default)]
pub(crate) struct Offsets(BTreeMap<String, OfGroup>);

type OfGroup = BTreeMap<String, BTreeMap<i32, CommittedOffset>>;

impl Offsets {
    /// Whether a group has any.
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
        let of_group = entry(&mut self.0, group);
        entry(of_group, topic).insert(partition, offset);
    }

    pub(crate) fn remove(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Option<CommittedOffset> {
        let of_group = self.0.get_mut(group)?;
        let of_topic = of_group.get_mut(topic)?;
        let removed = of_topic.remove(&partition);
        if of_topic.is_empty() {
            of_group.remove(topic);
        }
        if of_group.is_empty() {
            self.0.remove(group);
        }
        removed
    }

    /// Removes all of a group's: their topics and partitions.
    pub(crate) fn remove_group(&mut self, group: &str) -> Vec<(String, i32)> {
        let removed = self.0.remove(group).unwrap_or_default();
        let of_topic = |(topic, partitions): (String, BTreeMap<i32, CommittedOffset>)| {
            let partitions = partitions.into_keys();
            partitions.map(move |partition| (topic.clone(), partition))
        };
        removed.into_iter().flat_map(of_topic).collect()
    }

    /// Those of a group: topic, partition, offset.
    pub(crate) fn of(&self, group: &str) -> impl Iterator<Item = (&str, i32, &CommittedOffset)> {
        let topics = self.0.get(group).into_iter().flatten();
        topics.flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(partition, offset)| (topic.as_str(), *partition, offset))
        })
    }

    /// The groups that have any.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// What is at a key, which is copied only where nothing is there yet.
fn entry<'a, V: Default>(map: &'a mut BTreeMap<String, V>, key: &str) -> &'a mut V {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), V::default());
    }
    map.get_mut(key).expect("it is there or was just inserted")
}
