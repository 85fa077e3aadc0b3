//! Topics and partitions.

use std::sync::Arc;

use highwater_types::{LeaderEpoch, LogIndex, NodeEpoch, NodeId, StreamId, TopicId};
use imbl::OrdMap;

use crate::command::{
    CreatePartitions, CreateTopic, DeleteTopic, Outcome, Rejection, Replicas, SetTopicConfigs, uuid,
};
use crate::image::{MetadataImage, PartitionImage, StreamImage, TopicImage};

impl MetadataImage {
    pub(super) fn create_topic(
        &mut self,
        at: LogIndex,
        create: CreateTopic,
    ) -> Result<Outcome, Rejection> {
        let id = uuid(&create.id);
        if id.is_zero() {
            return Err(Rejection::NotUnderstood);
        }
        if self.topics.contains_key(create.name.as_str()) || self.topic_names.contains_key(&id) {
            return Err(Rejection::TopicExists);
        }
        let name: Arc<str> = create.name.into();
        let mut topic = TopicImage {
            id,
            name: Arc::clone(&name),
            internal: create.internal,
            configs: create.configs,
            configs_at: at,
            partitions: Vec::new(),
        };
        for replicas in &create.partitions {
            self.add_partition(&mut topic, replicas, create.is_chosen);
        }
        self.topic_names.insert(id, Arc::clone(&name));
        self.topics.insert(name, Arc::new(topic));
        Ok(Outcome::Done)
    }

    /// Adds a partition that has no leader until the active controller gives it to a broker that serves (E4).
    fn add_partition(&mut self, topic: &mut TopicImage, replicas: &Replicas, is_chosen: bool) {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        let index = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        self.streams
            .insert(stream, Arc::new(new_stream(topic.id, index)));
        let replicas = replicas.nodes.iter().copied().map(NodeId).collect();
        topic.partitions.push(PartitionImage {
            is_chosen,
            ..PartitionImage::new(stream, replicas)
        });
    }

    pub(super) fn create_partitions(
        &mut self,
        create: &CreatePartitions,
    ) -> Result<Outcome, Rejection> {
        let topic = self
            .topic_by_id(uuid(&create.topic))
            .ok_or(Rejection::UnknownTopic)?;
        let mut topic = (**topic).clone();
        if u32::try_from(topic.partitions.len()) != Ok(create.existing) {
            return Err(Rejection::Changed);
        }
        for replicas in &create.added {
            self.add_partition(&mut topic, replicas, create.is_chosen);
        }
        self.topics.insert(Arc::clone(&topic.name), Arc::new(topic));
        Ok(Outcome::Done)
    }

    /// Replaces a topic's configurations. A decision that was made before the last change is refused, because it would
    /// undo that change.
    pub(super) fn set_topic_configs(
        &mut self,
        at: LogIndex,
        set: SetTopicConfigs,
    ) -> Result<Outcome, Rejection> {
        let topic = self
            .topic_by_id(uuid(&set.topic))
            .ok_or(Rejection::UnknownTopic)?;
        if topic.configs_at != LogIndex(set.decided_at) {
            return Err(Rejection::Changed);
        }
        let mut topic = (**topic).clone();
        topic.configs = set.configs;
        topic.configs_at = at;
        self.topics.insert(Arc::clone(&topic.name), Arc::new(topic));
        Ok(Outcome::Done)
    }

    pub(super) fn delete_topic(&mut self, delete: &DeleteTopic) -> Result<Outcome, Rejection> {
        let id = uuid(&delete.id);
        let topic = self
            .topic_by_id(id)
            .cloned()
            .ok_or(Rejection::UnknownTopic)?;
        for partition in &topic.partitions {
            if let Some(stream) = self.streams.remove(&partition.stream) {
                for claim in stream.claims.values().chain(&stream.checkpoint) {
                    self.unreference(claim);
                }
            }
        }
        self.topics.remove(&*topic.name);
        self.topic_names.remove(&id);
        Ok(Outcome::Done)
    }
}

fn new_stream(topic: TopicId, partition: i32) -> StreamImage {
    StreamImage {
        topic,
        partition,
        start: 0,
        committed_end: 0,
        held_by: None::<NodeEpoch>,
        leader_epoch: LeaderEpoch(-1),
        leader_epochs: Vec::new(),
        claims: OrdMap::new(),
        rolls: OrdMap::new(),
        checkpoint: None,
        lost: 0..0,
    }
}
