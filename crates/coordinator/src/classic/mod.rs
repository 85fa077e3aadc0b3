//! The classic protocol: one group. Source: `ClassicGroup` and the classic half of `GroupMetadataManager`.

mod join;
mod leave;
mod member;
#[cfg_attr(
    not(test),
    expect(clippy::arithmetic_side_effects, reason = "it counts what is there")
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

/// What a group is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It has no members.
    Empty,
    /// Members are waited for to join again.
    PreparingRebalance(Rebalance),
    /// The leader's assignment is waited for, until the deadline.
    CompletingRebalance { deadline: u64 },
    /// Every member has its assignment, or can fetch it.
    Stable { sync_deadline: Option<u64> },
}

/// A rebalance on its way; monotonic milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rebalance {
    deadline: u64,
    /// Of a group that was empty: how much longer it may wait for more members (KIP-134).
    initial: Option<u64>,
    grown: bool,
}

impl State {
    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance(_) => "PreparingRebalance",
            Self::CompletingRebalance { .. } => "CompletingRebalance",
            Self::Stable { .. } => "Stable",
        }
    }
}

/// One group of the classic protocol, or one without members that only keeps offsets, which is classic in Kafka too.
#[derive(Debug)]
pub(crate) struct ClassicGroup {
    pub(crate) id: String,
    pub(crate) state: State,
    /// Since when, milliseconds since 1970; -1 before the first record.
    pub(crate) state_timestamp: i64,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: Members,
    /// Ids given out whose members have not come again yet, each with its deadline.
    pending: BTreeMap<String, u64>,
    /// Members of this generation that have not asked for their assignment yet.
    unsynced: BTreeSet<String>,
    /// No deadline is before it.
    pub(crate) wake_at: Option<u64>,
}

/// How long a new member is waited with, while its group prepares; milliseconds (`NEW_MEMBER_JOIN_TIMEOUT`).
const NEW_MEMBER_TIMEOUT_MS: u64 = 5 * 60 * 1000;
/// The shortest wait of a first rebalance, milliseconds: members that join at the same moment get the same generation, as
/// in Kafka, where a timer that is due runs at the next tick.
const TICK_MS: u64 = 5;
/// The protocol type of consumers, whose metadata is understood.
const CONSUMER: &str = "consumer";

fn millis(timeout_ms: i32) -> u64 {
    u64::try_from(timeout_ms).unwrap_or(0)
}

impl ClassicGroup {
    /// An empty group.
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

    /// Takes what a record says, instead of what is there.
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

    /// Its record is read, and so is the rest of the log: its members' sessions start now.
    pub(crate) fn loaded(&mut self, now: Now) {
        for member in self.members.values_mut() {
            member.touch(now);
        }
        self.wake_at = self.next_deadline();
    }

    /// Whether nothing of it is left to keep but offsets.
    pub(crate) fn is_vacant(&self) -> bool {
        self.state == State::Empty && self.members.is_empty() && self.pending.is_empty()
    }

    /// Whether the log says nothing of it: it is there for a join that was refused, or for its offsets alone.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.protocol_type.is_none() && self.generation == 0
    }

    /// Sees to it that the group is woken at `at` or before.
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

    /// Does what is due.
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

    /// Whether a member is there.
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

    /// A heartbeat.
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

    /// A sign of life of a member; its deadline moves away, so nothing wakes earlier.
    fn touch(&mut self, member: &str, now: Now) {
        if let Some(member) = self.members.get_mut(member) {
            member.touch(now);
        }
    }

    /// Whether offsets may be committed (`ClassicGroup.validateOffsetCommit`); a member's commit is a sign of life.
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

    /// Which of its offsets have expired by now (`OffsetExpirationConditionImpl`).
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

    /// What its members read.
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

    /// Whether its members are consumers, whose subscriptions are understood.
    pub(crate) fn has_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// What it tells of itself.
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

    /// Begins a rebalance where none waits for members yet.
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

/// What the members of a group read.
#[derive(Debug)]
pub(crate) enum Subscribed {
    /// Maybe everything: some member's metadata can't be read.
    Everything,
    /// These topics.
    To(BTreeSet<String>),
}

impl Subscribed {
    /// Whether a topic is read.
    pub(crate) fn has(&self, topic: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::To(topics) => topics.contains(topic),
        }
    }
}

/// The topics of a consumer's subscription (`ConsumerProtocolSubscription`); `None` when it can't be read.
fn subscribed_topics(metadata: &Bytes) -> Option<Vec<String>> {
    let mut reader = Reader::new(metadata.clone());
    reader.i16().ok()?;
    reader
        .array(false, |reader| Ok(reader.string(false)?.to_string()))
        .ok()
}
