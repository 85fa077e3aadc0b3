//! The group coordinator of one partition of `__consumer_offsets`.

use std::collections::{BTreeMap, BTreeSet};

use highwater_protocol::ErrorCode;
use highwater_types::TopicId;

use crate::group::Group;
use crate::offsets::{CommittedOffset, Offsets};
use crate::records::{self, Key};
use crate::{
    Commit, Coordinator, CoordinatorRecord, Described, GroupAction, GroupConfig, GroupEffects,
    Join, JoinReply, Listed, Now, RecordError, Sync, SyncReply, Ticket,
};

/// The groups of one partition, with their committed offsets.
#[derive(Debug)]
pub struct GroupShard {
    config: GroupConfig,
    /// Every group that has members, a record in the log, or committed offsets.
    groups: BTreeMap<String, Group>,
    offsets: Offsets,
    /// When each group's tick is due.
    wakes: BTreeSet<(u64, String)>,
}

impl Coordinator for GroupShard {
    type Action = GroupAction;

    fn replay(&mut self, record: &CoordinatorRecord, now: Now) -> Result<(), RecordError> {
        match records::read_key(&record.key)? {
            Key::Offset {
                group,
                topic,
                partition,
            } => match &record.value {
                Some(value) => {
                    let offset = records::read_offset(value)?;
                    self.group_mut(&group);
                    self.offsets.set(&group, &topic, partition, offset);
                }
                None => {
                    self.offsets.remove(&group, &topic, partition);
                }
            },
            Key::Group(group) => match &record.value {
                Some(value) => {
                    let value = records::read_group(value)?;
                    let Group::Classic(group) = self.group_mut(&group);
                    group.replay(value, now);
                }
                None => {
                    self.groups.remove(&group);
                    self.offsets.remove_group(&group);
                }
            },
        }
        Ok(())
    }

    fn loaded(&mut self, now: Now, _effects: &mut GroupEffects) {
        let offsets = &self.offsets;
        let is_nothing =
            |id: &str, group: &Group| group.is_vacant() && group.is_unwritten() && !offsets.has(id);
        self.groups.retain(|id, group| !is_nothing(id, group));
        for group in self.groups.values_mut() {
            group.loaded(now);
        }
        let wakes = self.groups.iter();
        self.wakes = wakes
            .filter_map(|(id, group)| group.wake_at().map(|at| (at, id.clone())))
            .collect();
    }

    fn wake_at(&self) -> Option<u64> {
        self.wakes.first().map(|(at, _)| *at)
    }

    fn tick(&mut self, now: Now, effects: &mut GroupEffects) {
        while let Some((at, group)) = self.wakes.first().cloned() {
            if at > now.monotonic_ms {
                return;
            }
            self.with(&group, |group, config| group.tick(now, config, effects));
            // a deadline that is due again at once would make this loop endless
            if self
                .wakes
                .first()
                .is_some_and(|first| *first == (at, group))
            {
                return;
            }
        }
    }
}

impl GroupShard {
    /// A shard without groups.
    #[must_use]
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            wakes: BTreeSet::new(),
        }
    }

    fn group_mut(&mut self, id: &str) -> &mut Group {
        self.groups
            .entry(id.to_owned())
            .or_insert_with(|| Group::new(id))
    }

    /// Changes a group, and updates when its tick is due.
    fn with<T>(&mut self, id: &str, change: impl FnOnce(&mut Group, &GroupConfig) -> T) -> T {
        let config = self.config.clone();
        let group = self.group_mut(id);
        let before = group.wake_at();
        let answer = change(group, &config);
        let after = group.wake_at();
        if before != after {
            if let Some(at) = before {
                self.wakes.remove(&(at, id.to_owned()));
            }
            if let Some(at) = after {
                self.wakes.insert((at, id.to_owned()));
            }
        }
        answer
    }

    /// A member joins. The answer is in the effects, of this call or of a later one.
    pub fn join(
        &mut self,
        ticket: Ticket<JoinReply>,
        join: &Join,
        now: Now,
        effects: &mut GroupEffects,
    ) {
        let timeouts = self.config.session_timeout_min_ms..=self.config.session_timeout_max_ms;
        let refusal = if join.group.is_empty() {
            Some(ErrorCode::InvalidGroupId)
        } else if !timeouts.contains(&join.session_timeout_ms) {
            Some(ErrorCode::InvalidSessionTimeout)
        } else if !join.member.is_empty() && !self.groups.contains_key(&join.group) {
            Some(ErrorCode::UnknownMemberId)
        } else {
            None
        };
        if let Some(error) = refusal {
            let reply = JoinReply::error(error, &join.member);
            effects.answer(ticket, reply);
            return;
        }
        self.with(&join.group, |group, config| {
            let Group::Classic(group) = group;
            group.join(ticket, join, now, config, effects);
        });
        // a refused join must not leave an empty group behind
        let is_new = |group: &Group| group.is_vacant() && group.is_unwritten();
        if !self.offsets.has(&join.group) && self.groups.get(&join.group).is_some_and(is_new) {
            self.groups.remove(&join.group);
        }
    }

    /// A member asks for its assignment. The answer is in the effects, of this call or of a later one.
    pub fn sync(
        &mut self,
        ticket: Ticket<SyncReply>,
        sync: Sync,
        now: Now,
        effects: &mut GroupEffects,
    ) {
        if !self.groups.contains_key(&sync.group) {
            let error = if sync.group.is_empty() {
                ErrorCode::InvalidGroupId
            } else {
                ErrorCode::UnknownMemberId
            };
            effects.answer(ticket, SyncReply::error(error));
            return;
        }
        let id = sync.group.clone();
        self.with(&id, |group, _| {
            let Group::Classic(group) = group;
            group.sync(ticket, sync, now, effects);
        });
    }

    /// Handles a heartbeat.
    ///
    /// # Errors
    /// Kafka's error code.
    pub fn heartbeat(
        &mut self,
        group: &str,
        member: &str,
        generation: i32,
        now: Now,
    ) -> Result<(), ErrorCode> {
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let found = self.groups.get_mut(group);
        let Group::Classic(group) = found.ok_or(ErrorCode::UnknownMemberId)?;
        group.heartbeat(member, generation, now)
    }

    /// Removes members; the answer has a result for each.
    ///
    /// # Errors
    /// Kafka's error code when there is no such group.
    pub fn leave(
        &mut self,
        group: &str,
        members: &[String],
        now: Now,
        effects: &mut GroupEffects,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        if !self.groups.contains_key(group) {
            return Err(ErrorCode::UnknownMemberId);
        }
        Ok(self.with(group, |group, config| {
            let Group::Classic(group) = group;
            group.leave(members, now, config, effects)
        }))
    }

    /// Commits offsets; the answer has a result for each. As in Kafka, the group id may be empty here, because old
    /// clients commit with an empty one.
    ///
    /// # Errors
    /// Kafka's error code when no offset is committed.
    pub fn commit(
        &mut self,
        commit: Commit,
        now: Now,
        effects: &mut GroupEffects,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let group = commit.group.as_str();
        match self.groups.get_mut(group) {
            Some(found) => found.check_commit(&commit.member, commit.generation, now)?,
            None if commit.generation >= 0 => return Err(ErrorCode::GroupIdNotFound),
            None => {}
        }
        // Kafka counts the UTF-16 units of a Java string
        let units_max = self.config.metadata_units_max;
        let mut answers = Vec::new();
        let mut taken = Vec::new();
        let mut bytes = records::batch_bytes([]);
        for commit in commit.offsets {
            if commit.metadata.encode_utf16().count() > units_max {
                answers.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            let retention = Some(commit.retention_ms).filter(|retention| *retention >= 0);
            let committed = CommittedOffset {
                offset: commit.offset,
                leader_epoch: commit.leader_epoch,
                metadata: commit.metadata,
                commit_timestamp: now.wall_ms,
                expire_timestamp: retention.map(|retention| now.wall_ms.saturating_add(retention)),
                topic_id: commit.topic_id,
            };
            let record = records::offset(group, &commit.topic, commit.partition, &committed);
            let record_bytes = records::record_bytes(&record, taken.len());
            bytes = bytes.saturating_add(record_bytes);
            if bytes > effects.batch_bytes_max {
                // the records must fit into one batch; this is Kafka's answer if its log refuses the batch
                return Err(ErrorCode::UnknownServerError);
            }
            taken.push((commit.topic, commit.partition, committed, record));
            answers.push(ErrorCode::None);
        }
        for (topic, partition, committed, record) in taken {
            effects.records.push(record);
            self.group_mut(group);
            self.offsets.set(group, &topic, partition, committed);
        }
        Ok(answers)
    }

    /// A committed offset of the topic with this name and id; the id is zero if only the name is known.
    #[must_use]
    pub fn offset(
        &self,
        group: &str,
        topic: (&str, TopicId),
        partition: i32,
    ) -> Option<CommittedOffset> {
        let (name, id) = topic;
        let found = self.offsets.get(group, name, partition);
        found.filter(|offset| offset.is_of(id)).cloned()
    }

    /// All committed offsets of a group: topic, partition, offset.
    #[must_use]
    pub fn offsets(&self, group: &str) -> Vec<(String, i32, CommittedOffset)> {
        let all = self.offsets.of(group);
        all.map(|(topic, partition, offset)| (topic.to_owned(), partition, offset.clone()))
            .collect()
    }

    /// The committed offsets of all groups: group, topic, partition, offset; at most `max` of them.
    #[must_use]
    pub fn all_offsets(&self, max: usize) -> Vec<(String, String, i32, i64)> {
        let offsets = |group| {
            let one = move |(topic, partition, committed): (&str, i32, &CommittedOffset)| {
                let (group, topic) = (String::from(group), topic.to_owned());
                (group, topic, partition, committed.offset)
            };
            self.offsets.of(group).map(one)
        };
        let groups = self.offsets.groups();
        groups.flat_map(offsets).take(max).collect()
    }

    /// All groups.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let groups = self.groups.iter();
        groups.map(|(id, group)| group.listed(id)).collect()
    }

    /// The number of groups in each state, by Kafka's name of the state.
    #[must_use]
    pub fn count_by_state(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for group in self.groups.values() {
            let count: &mut usize = counts.entry(group.state()).or_default();
            *count = count.saturating_add(1);
        }
        counts
    }

    /// One group; `None` if it doesn't exist.
    #[must_use]
    pub fn describe(&self, group: &str) -> Option<Described> {
        self.groups.get(group).map(Group::described)
    }

    /// Deletes a group without members, with its offsets.
    ///
    /// # Errors
    /// Kafka's error code.
    pub fn delete(&mut self, group: &str, effects: &mut GroupEffects) -> Result<(), ErrorCode> {
        let found = self.groups.get(group).ok_or(ErrorCode::GroupIdNotFound)?;
        found.check_delete()?;
        self.forget(group, effects);
        Ok(())
    }

    fn forget(&mut self, id: &str, effects: &mut GroupEffects) {
        let Some(group) = self.groups.remove(id) else {
            return;
        };
        if let Some(at) = group.wake_at() {
            self.wakes.remove(&(at, id.to_owned()));
        }
        for (topic, partition) in self.offsets.remove_group(id) {
            let record = records::no_offset(id, &topic, partition);
            effects.records.push(record);
        }
        effects.records.push(records::no_group(id));
    }

    /// Deletes committed offsets of topics that no member is subscribed to; the answer has a result for each.
    ///
    /// # Errors
    /// Kafka's error code when there is no such group, or its subscriptions can't be read.
    pub fn delete_offsets(
        &mut self,
        group: &str,
        partitions: &[(String, i32)],
        effects: &mut GroupEffects,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let found = self.groups.get(group).ok_or(ErrorCode::GroupIdNotFound)?;
        let is_read = found.check_delete_offsets()?;
        let mut answers = Vec::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            if is_read(topic) {
                answers.push(ErrorCode::GroupSubscribedToTopic);
                continue;
            }
            if self.offsets.remove(group, topic, *partition).is_some() {
                let record = records::no_offset(group, topic, *partition);
                effects.records.push(record);
            }
            answers.push(ErrorCode::None);
        }
        Ok(answers)
    }

    /// Removes the offsets of topics that no longer exist, or exist with another id, as `id_of` says.
    pub fn drop_topics(
        &mut self,
        id_of: impl Fn(&str) -> Option<TopicId>,
        effects: &mut GroupEffects,
    ) {
        let id_of = &id_of;
        self.drop_offsets(effects, |_group| {
            move |topic: &str, offset: &CommittedOffset| {
                id_of(topic).is_none_or(|id| !offset.is_of(id))
            }
        });
    }

    /// Removes expired offsets, then groups without members and offsets (`OffsetExpirationConditionImpl`).
    pub fn expire(&mut self, now: Now, effects: &mut GroupEffects) {
        let retention = self.config.offsets_retention_ms;
        self.drop_offsets(effects, |group| group.expired(now, retention));
        let groups = self.groups.iter();
        let gone: Vec<String> = groups
            .filter(|(id, group)| group.is_vacant() && !self.offsets.has(id))
            .map(|(id, _)| id.clone())
            .collect();
        for group in gone {
            self.forget(&group, effects);
        }
    }

    /// Removes the offsets that a predicate selects; `select` returns the predicate of a group and is called once for
    /// each group.
    fn drop_offsets<D: Fn(&str, &CommittedOffset) -> bool>(
        &mut self,
        effects: &mut GroupEffects,
        select: impl Fn(&Group) -> D,
    ) {
        for (id, group) in &self.groups {
            let drops = select(group);
            let offsets = self.offsets.of(id);
            let gone: Vec<(String, i32)> = offsets
                .filter(|(topic, _, offset)| drops(topic, offset))
                .map(|(topic, partition, _)| (topic.to_owned(), partition))
                .collect();
            for (topic, partition) in gone {
                self.offsets.remove(id, &topic, partition);
                let record = records::no_offset(id, &topic, partition);
                effects.records.push(record);
            }
        }
    }
}

#[cfg(test)]
mod tests;
