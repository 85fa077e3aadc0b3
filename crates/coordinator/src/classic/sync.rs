//! SyncGroup: the leader brings the assignment, and the members fetch it.

use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_protocol::ErrorCode;

use super::{ClassicGroup, State};
use crate::{GroupConfig, GroupEffects, Now, Sync, SyncReply, Ticket};

impl ClassicGroup {
    /// A member asks for its assignment. The answer is in the effects, of this call or of a later one.
    pub(crate) fn sync(
        &mut self,
        ticket: Ticket<SyncReply>,
        sync: Sync,
        now: Now,
        effects: &mut GroupEffects,
    ) {
        if let Err(error) = self.try_sync(ticket, sync, now, effects) {
            effects.answer(ticket, SyncReply::error(error));
        }
    }

    fn try_sync(
        &mut self,
        ticket: Ticket<SyncReply>,
        sync: Sync,
        now: Now,
        effects: &mut GroupEffects,
    ) -> Result<(), ErrorCode> {
        self.check_member(&sync.member)?;
        self.check_generation(sync.generation)?;
        let differs = |said: &Option<String>, is: &Option<String>| said.is_some() && said != is;
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance(_) => Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance { deadline } => {
                self.unsynced.remove(&sync.member);
                if let Some(member) = self.members.get_mut(&sync.member)
                    && let Some(earlier) = member.syncing.replace(ticket)
                {
                    let reply = SyncReply::error(ErrorCode::RebalanceInProgress);
                    effects.answer(earlier, reply);
                }
                if self.leader.as_deref() == Some(sync.member.as_str()) {
                    self.assign(sync.assignments, deadline, now, effects);
                }
                Ok(())
            }
            State::Stable { .. } => {
                self.unsynced.remove(&sync.member);
                self.all_synced();
                self.touch(&sync.member, now);
                let reply = self.synced_reply(&sync.member);
                effects.answer(ticket, reply);
                Ok(())
            }
        }
    }

    /// The leader's assignment becomes the members' assignment.
    fn assign(
        &mut self,
        assignments: Vec<(String, Bytes)>,
        deadline: u64,
        now: Now,
        effects: &mut GroupEffects,
    ) {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        let mut waiting = Vec::new();
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
            if let Some(ticket) = member.syncing.take() {
                member.touch(now);
                waiting.push((ticket, member.id.clone()));
            }
        }
        let sync_deadline = Some(deadline);
        self.set_state(State::Stable { sync_deadline }, now);
        self.all_synced();
        self.write(effects);
        for (ticket, member) in waiting {
            let reply = self.synced_reply(&member);
            effects.answer(ticket, reply);
        }
        self.wake_at = self.next_deadline();
    }

    /// Drops the deadline once every member has sent SyncGroup.
    fn all_synced(&mut self) {
        if let State::Stable { sync_deadline } = &mut self.state
            && self.unsynced.is_empty()
        {
            *sync_deadline = None;
        }
    }

    fn synced_reply(&self, member: &str) -> SyncReply {
        SyncReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self
                .members
                .get(member)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    /// The deadline for SyncGroup has passed: members that have not sent it are removed.
    pub(super) fn sync_deadline(
        &mut self,
        now: Now,
        config: &GroupConfig,
        effects: &mut GroupEffects,
    ) {
        let late = std::mem::take(&mut self.unsynced);
        if late.is_empty() {
            return;
        }
        for member in late {
            self.remove(&member, effects);
        }
        self.prepare(now, config, effects);
    }
}
