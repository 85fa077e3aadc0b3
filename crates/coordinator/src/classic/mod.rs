//! A group of the classic protocol. Source: `ClassicGroup` and the classic half of `GroupMetadataManager`.

mod join;
mod leave;
mod member;
#[cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "counts of members in memory"
    )
)]
mod members;
mod sync;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use highwater_protocol::{ErrorCode, Reader};

pub(crate) use member::Member;
use members::Members;

use crate::offsets::CommittedOffset;
use crate::records::{self, GroupValue, MemberValue};
use crate::{Described, DescribedMember, GroupAction, GroupConfig, GroupEffects, Now, SyncReply};

/// The state of a group, with Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The group has no members.
    Empty,
    /// A rebalance began; the group waits for its members to join again.
    PreparingRebalance(Rebalance),
    /// All members have joined; the group waits for the leader's assignment until the deadline.
    CompletingRebalance { deadline: u64 },
    /// Every member has its assignment or can fetch it.
    Stable { sync_deadline: Option<u64> },
}

/// A rebalance in its join phase; monotonic milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rebalance {
    deadline: u64,
    /// For a group that was empty: how much longer it may wait for more members (KIP-134).
    initial: Option<u64>,
    grown: bool,
}

impl State {
    /// Kafka's name of the state.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance(_) => "PreparingRebalance",
            Self::CompletingRebalance { .. } => "CompletingRebalance",
            Self::Stable { .. } => "Stable",
        }
    }
}

/// A group of the classic protocol. As in Kafka, a group that has only committed offsets is one too.
#[derive(Debug)]
pub(crate) struct ClassicGroup {
    pub(crate) id: String,
    pub(crate) state: State,
    /// When the state last changed, in milliseconds since 1970; -1 before the first record.
    pub(crate) state_timestamp: i64,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: Members,
    /// Member ids that were assigned to clients which have not joined with them yet (KIP-394), each with its
    /// deadline.
    pending: BTreeMap<String, u64>,
    /// Members of this generation that have not sent SyncGroup yet.
    unsynced: BTreeSet<String>,
    /// A time before which nothing is due; monotonic milliseconds.
    pub(crate) wake_at: Option<u64>,
}

/// The longest time that a group waits for a new member in the join phase; milliseconds (`NEW_MEMBER_JOIN_TIMEOUT`).
const NEW_MEMBER_TIMEOUT_MS: u64 = 5 * 60 * 1000;
/// The shortest wait of a group's first rebalance, in milliseconds. Members that join at the same moment get the same
/// generation, as in Kafka, where an expired timer runs at the next tick.
const TICK_MS: u64 = 5;
/// The protocol type of consumers. The coordinator can read their subscriptions.
const CONSUMER: &str = "consumer";

fn millis(timeout_ms: i32) -> u64 {
    u64::try_from(timeout_ms).unwrap_or(0)
}

impl ClassicGroup {
    /// A group without members.
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            state: State::Empty,
            state_timestamp: -1,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: Members::default(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            wake_at: None,
        }
    }

    /// Replaces the group's state by that of a record.
    pub(crate) fn replay(&mut self, value: GroupValue, now: Now) {
        self.generation = value.generation;
        self.protocol_type = Some(value.protocol_type).filter(|kind| !kind.is_empty());
        self.state_timestamp = value.state_timestamp;
        self.leader = value.leader;
        self.pending.clear();
        self.unsynced.clear();
        let protocol = value.protocol.clone().unwrap_or_default();
        let member = |value: MemberValue| Member::restored(value, &protocol, now);
        self.members = value.members.into_iter().map(member).collect();
        self.protocol = value.protocol;
        self.state = if self.members.is_empty() {
            State::Empty
        } else {
            State::Stable {
                sync_deadline: None,
            }
        };
        self.wake_at = self.next_deadline();
    }

    /// The log has been read to its end: the sessions of the members start now.
    pub(crate) fn loaded(&mut self, now: Now) {
        for member in self.members.values_mut() {
            member.touch(now);
        }
        self.wake_at = self.next_deadline();
    }

    /// Whether the group has no members and expects none, so that it is kept only for its offsets.
    pub(crate) fn is_vacant(&self) -> bool {
        self.state == State::Empty && self.members.is_empty() && self.pending.is_empty()
    }

    /// Whether the log has no record of the group: it exists because of a refused join, or for its offsets alone.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.protocol_type.is_none() && self.generation == 0
    }

    /// Makes sure that the group's tick runs at `at` or earlier.
    fn wake(&mut self, at: u64) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    fn next_deadline(&self) -> Option<u64> {
        let members = self.members.values().filter_map(Member::deadline);
        let pending = self.pending.values().copied();
        let state = match self.state {
            State::Empty => None,
            State::PreparingRebalance(rebalance) => Some(rebalance.deadline),
            State::CompletingRebalance { deadline } => Some(deadline),
            State::Stable { sync_deadline } => sync_deadline,
        };
        members.chain(pending).chain(state).min()
    }

    /// Expires sessions and completes phases whose deadline has passed.
    pub(crate) fn tick(&mut self, now: Now, config: &GroupConfig, effects: &mut GroupEffects) {
        let due = |at: u64| at <= now.monotonic_ms;
        let expired: Vec<String> = self
            .members
            .values()
            .filter(|member| member.deadline().is_some_and(due))
            .map(|member| member.id.clone())
            .collect();
        for member in expired {
            self.remove_and_rebalance(&member, now, config, effects);
        }
        let pending = self.pending.len();
        self.pending.retain(|_, deadline| !due(*deadline));
        if self.pending.len() < pending {
            self.complete_if_all_joined(now, effects);
        }
        match self.state {
            State::PreparingRebalance(rebalance) if due(rebalance.deadline) => {
                self.join_deadline(rebalance, now, config, effects);
            }
            State::CompletingRebalance { deadline }
            | State::Stable {
                sync_deadline: Some(deadline),
            } if due(deadline) => self.sync_deadline(now, config, effects),
            _ => {}
        }
        self.wake_at = self.next_deadline();
    }

    /// Refuses an unknown member id.
    pub(crate) fn check_member(&self, member: &str) -> Result<(), ErrorCode> {
        if self.members.contains_key(member) {
            Ok(())
        } else {
            Err(ErrorCode::UnknownMemberId)
        }
    }

    fn check_generation(&self, generation: i32) -> Result<(), ErrorCode> {
        if generation == self.generation {
            Ok(())
        } else {
            Err(ErrorCode::IllegalGeneration)
        }
    }

    /// Handles a heartbeat.
    pub(crate) fn heartbeat(
        &mut self,
        member: &str,
        generation: i32,
        now: Now,
    ) -> Result<(), ErrorCode> {
        self.check_member(member)?;
        self.check_generation(generation)?;
        self.touch(member, now);
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance(_) => Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance { .. } | State::Stable { .. } => Ok(()),
        }
    }

    /// Extends a member's session. Its deadline only moves away, so the next wake-up may stay where it is.
    fn touch(&mut self, member: &str, now: Now) {
        if let Some(member) = self.members.get_mut(member) {
            member.touch(now);
        }
    }

    /// Whether offsets may be committed (`ClassicGroup.validateOffsetCommit`). A member's commit extends its session.
    pub(crate) fn check_commit(
        &mut self,
        member: &str,
        generation: i32,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let empty = self.state == State::Empty;
        if generation < 0 && empty {
            return Ok(());
        }
        if generation >= 0 || !member.is_empty() {
            self.check_member(member)?;
            self.check_generation(generation)?;
            self.touch(member, now);
        } else if !empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        if matches!(self.state, State::CompletingRebalance { .. }) {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// A predicate for the group's offsets that have expired by now (`OffsetExpirationConditionImpl`).
    pub(crate) fn expired(
        &self,
        now: Now,
        retention_ms: i64,
    ) -> impl Fn(&str, &CommittedOffset) -> bool + use<> {
        let (state, changed, has_type) = (
            self.state,
            self.state_timestamp,
            self.protocol_type.is_some(),
        );
        let subscribed = self.subscribed();
        let consumers = self.has_consumers();
        move |topic: &str, offset: &CommittedOffset| {
            if let Some(at) = offset.expire_timestamp {
                return at <= now.wall_ms && state == State::Empty;
            }
            let since = match (state, has_type) {
                (State::Empty, true) => changed.max(offset.commit_timestamp),
                (State::Stable { .. }, true) if consumers && !subscribed.has(topic) => {
                    offset.commit_timestamp
                }
                (_, false) => offset.commit_timestamp,
                _ => return false,
            };
            now.wall_ms.saturating_sub(since) >= retention_ms
        }
    }

    /// The topics that the members are subscribed to.
    pub(crate) fn subscribed(&self) -> Subscribed {
        let mut topics = BTreeSet::new();
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return Subscribed::To(topics);
        }
        for member in self.members.values() {
            match subscribed_topics(&member.metadata(self.protocol.as_deref())) {
                Some(some) => topics.extend(some),
                None => return Subscribed::Everything,
            }
        }
        Subscribed::To(topics)
    }

    /// Whether the members are consumers, so that their subscriptions can be read.
    pub(crate) fn has_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// The group as DescribeGroups reports it.
    pub(crate) fn described(&self) -> Described {
        let stable = matches!(self.state, State::Stable { .. });
        let protocol = self.protocol.as_deref().filter(|_| stable);
        let members = self.members.values().map(|member| DescribedMember {
            id: member.id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: member.metadata(protocol),
            assignment: if stable {
                member.assignment.clone()
            } else {
                Bytes::new()
            },
        });
        Described {
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default().to_owned(),
            members: members.collect(),
        }
    }

    fn set_state(&mut self, state: State, now: Now) {
        self.state = state;
        self.state_timestamp = now.wall_ms;
    }

    fn write(&self, effects: &mut GroupEffects) {
        let protocol = self.protocol.as_deref();
        let members = self.members.values().map(|member| member.value(protocol));
        let value = GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: self.state_timestamp,
            members: members.collect(),
        };
        effects.records.push(records::group(&self.id, &value));
    }

    fn rebalance_timeout_ms(&self) -> u64 {
        let timeouts = self
            .members
            .values()
            .map(|member| member.rebalance_timeout_ms);
        millis(timeouts.max().unwrap_or(0))
    }

    /// Begins a rebalance, unless the group is in the join phase already.
    fn prepare(&mut self, now: Now, config: &GroupConfig, effects: &mut GroupEffects) {
        if matches!(self.state, State::PreparingRebalance(_)) {
            self.complete_if_all_joined(now, effects);
            return;
        }
        if matches!(self.state, State::CompletingRebalance { .. }) {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
                if let Some(ticket) = member.syncing.take() {
                    member.touch(now);
                    let reply = SyncReply::error(ErrorCode::RebalanceInProgress);
                    effects.answer(ticket, reply);
                }
            }
        }
        self.unsynced.clear();
        let timeout = self.rebalance_timeout_ms();
        let rebalance = if self.state == State::Empty {
            let delay = config.initial_rebalance_delay_ms.max(TICK_MS);
            Rebalance {
                deadline: now.monotonic_ms.saturating_add(delay),
                initial: Some(timeout.saturating_sub(delay)),
                grown: false,
            }
        } else {
            Rebalance {
                deadline: now.monotonic_ms.saturating_add(timeout),
                initial: None,
                grown: false,
            }
        };
        effects.actions.push(GroupAction::CountRebalance);
        self.set_state(State::PreparingRebalance(rebalance), now);
        self.wake(rebalance.deadline);
        self.complete_if_all_joined(now, effects);
    }

    fn remove(&mut self, member: &str, effects: &mut GroupEffects) {
        self.unsynced.remove(member);
        let Some(removed) = self.members.remove(member) else {
            return;
        };
        removed.dismiss(effects);
        if self.leader.as_deref() == Some(member) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    fn remove_and_rebalance(
        &mut self,
        member: &str,
        now: Now,
        config: &GroupConfig,
        effects: &mut GroupEffects,
    ) {
        self.remove(member, effects);
        self.prepare(now, config, effects);
    }
}

/// The topics that a group's members are subscribed to.
#[derive(Debug)]
pub(crate) enum Subscribed {
    /// Possibly every topic: the metadata of some member can't be read.
    Everything,
    /// These topics.
    To(BTreeSet<String>),
}

impl Subscribed {
    /// Whether the members are subscribed to a topic.
    pub(crate) fn has(&self, topic: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::To(topics) => topics.contains(topic),
        }
    }
}

/// The topics of a consumer's subscription (`ConsumerProtocolSubscription`); `None` if it can't be read.
fn subscribed_topics(metadata: &Bytes) -> Option<Vec<String>> {
    let mut reader = Reader::new(metadata.clone());
    reader.i16().ok()?;
    reader
        .array(false, |reader| Ok(reader.string(false)?.to_string()))
        .ok()
}
