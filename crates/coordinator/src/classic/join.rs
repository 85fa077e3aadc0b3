//! JoinGroup: members join, which begins a rebalance.

use highwater_protocol::ErrorCode;

use super::{ClassicGroup, Member, Rebalance, State, TICK_MS, millis};
use crate::{GroupConfig, GroupEffects, Join, JoinReply, Now, Ticket};

impl ClassicGroup {
    /// A member joins. The answer is in the effects, of this call or of a later one.
    pub(crate) fn join(
        &mut self,
        ticket: Ticket<JoinReply>,
        join: &Join,
        now: Now,
        config: &GroupConfig,
        effects: &mut GroupEffects,
    ) {
        if let Err(error) = self.try_join(ticket, join, now, config, effects) {
            let member = if error == ErrorCode::MemberIdRequired {
                &join.fresh_member
            } else {
                &join.member
            };
            effects.answer(ticket, JoinReply::error(error, member));
        }
    }

    fn try_join(
        &mut self,
        ticket: Ticket<JoinReply>,
        join: &Join,
        now: Now,
        config: &GroupConfig,
        effects: &mut GroupEffects,
    ) -> Result<(), ErrorCode> {
        if !self.members.contains_key(&join.member) && self.members.len() >= config.members_max {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        if !self.supports(join) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if join.member.is_empty() {
            if join.requires_id {
                let timeout = millis(join.session_timeout_ms);
                let deadline = now.monotonic_ms.saturating_add(timeout);
                self.pending.insert(join.fresh_member.clone(), deadline);
                self.wake(deadline);
                return Err(ErrorCode::MemberIdRequired);
            }
            self.add(join.fresh_member.clone(), ticket, join, now);
            self.prepare(now, config, effects);
            return Ok(());
        }
        if self.pending.remove(&join.member).is_some() {
            self.add(join.member.clone(), ticket, join, now);
            self.prepare(now, config, effects);
            return Ok(());
        }
        self.check_member(&join.member)?;
        self.join_again(ticket, join, now, config, effects);
        Ok(())
    }

    /// Whether the member names a protocol that every other member supports.
    fn supports(&self, join: &Join) -> bool {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        self.protocol_type.as_deref() == Some(join.protocol_type.as_str())
            && self.members.could_agree(join)
    }

    fn add(&mut self, id: String, ticket: Ticket<JoinReply>, join: &Join, now: Now) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        let member = Member::new(id, join, ticket, now);
        if let Some(deadline) = member.deadline() {
            self.wake(deadline);
        }
        self.members.insert(member);
        if let State::PreparingRebalance(rebalance) = &mut self.state {
            rebalance.grown = true;
        }
    }

    /// A known member joins again. That begins a rebalance, unless the member only missed the answer to its last
    /// join.
    fn join_again(
        &mut self,
        ticket: Ticket<JoinReply>,
        join: &Join,
        now: Now,
        config: &GroupConfig,
        effects: &mut GroupEffects,
    ) {
        let leads = self.leader.as_deref() == Some(join.member.as_str());
        let member = self.members.get(&join.member);
        let same = member.is_some_and(|member| member.joins_as_before(join));
        let missed = match self.state {
            State::CompletingRebalance { .. } => same,
            State::Stable { .. } => same && !leads,
            State::Empty | State::PreparingRebalance(_) => false,
        };
        self.members.rejoin(join, ticket, effects);
        if missed {
            self.members.joined(&join.member, now);
            let reply = self.joined_reply(&join.member);
            effects.answer(ticket, reply);
            let expires = now
                .monotonic_ms
                .saturating_add(millis(join.session_timeout_ms));
            self.wake(expires);
        } else {
            self.prepare(now, config, effects);
        }
    }

    fn joined_reply(&self, member: &str) -> JoinReply {
        let protocol = self.protocol.as_deref();
        let leads = self.leader.as_deref() == Some(member);
        let all = || {
            self.members
                .values()
                .map(|member| (member.id.clone(), member.metadata(protocol)))
        };
        JoinReply {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member: member.to_owned(),
            members: if leads { all().collect() } else { Vec::new() },
        }
    }

    /// The member id for the log, shortened to 200 characters, because a client may choose a long one.
    fn quoted_id(&self) -> &str {
        let end = self.id.char_indices().nth(200);
        end.map_or(&self.id, |(end, _)| &self.id[..end])
    }

    /// Completes the join phase once every member has joined; the first rebalance of a group also waits for its
    /// delay.
    pub(super) fn complete_if_all_joined(&mut self, now: Now, effects: &mut GroupEffects) {
        let State::PreparingRebalance(Rebalance { initial: None, .. }) = self.state else {
            return;
        };
        if self.members.have_all_joined() && self.pending.is_empty() {
            self.complete_join(now, effects);
        }
    }

    /// The deadline of the join phase has passed. While members keep joining a group that was empty, the phase is
    /// extended (KIP-134).
    pub(super) fn join_deadline(
        &mut self,
        rebalance: Rebalance,
        now: Now,
        config: &GroupConfig,
        effects: &mut GroupEffects,
    ) {
        match rebalance.initial {
            Some(left) if rebalance.grown && left > 0 => {
                let delay = config.initial_rebalance_delay_ms.max(TICK_MS).min(left);
                let rebalance = Rebalance {
                    deadline: now.monotonic_ms.saturating_add(delay),
                    initial: Some(left.saturating_sub(delay)),
                    grown: false,
                };
                self.state = State::PreparingRebalance(rebalance);
            }
            _ => self.complete_join(now, effects),
        }
    }

    fn complete_join(&mut self, now: Now, effects: &mut GroupEffects) {
        let absent: Vec<String> = self
            .members
            .values()
            .filter(|member| !member.is_joining())
            .map(|member| member.id.clone())
            .collect();
        for member in absent {
            self.remove(&member, effects);
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.set_state(State::Empty, now);
            self.write(effects);
            let group_id = self.quoted_id();
            tracing::info!(group_id = ?group_id, generation = self.generation, "group is empty");
            return;
        }
        self.protocol = self.members.vote();
        let (generation, members) = (self.generation, self.members.len());
        let group_id = self.quoted_id();
        tracing::info!(group_id = ?group_id, generation, members, "group rebalanced");
        self.unsynced = self.members.keys().cloned().collect();
        let timeout = self.rebalance_timeout_ms();
        let deadline = now.monotonic_ms.saturating_add(timeout);
        self.set_state(State::CompletingRebalance { deadline }, now);
        self.wake(deadline);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let (ticket, deadline) = self.members.joined(&id, now);
            if let Some(deadline) = deadline {
                self.wake(deadline);
            }
            if let Some(ticket) = ticket {
                effects.answer(ticket, self.joined_reply(&id));
            }
        }
    }
}
