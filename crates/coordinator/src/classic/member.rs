//! A member of a group.

use bytes::Bytes;
use highwater_protocol::ErrorCode;

use super::{NEW_MEMBER_TIMEOUT_MS, millis};
use crate::records::MemberValue;
use crate::{GroupEffects, Join, JoinReply, Now, SyncReply, Ticket};

/// A member of a classic group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    /// The names and metadata of its protocols, the preferred one first.
    protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    /// The ticket of its JoinGroup request while that is not answered.
    joining: Option<Ticket<JoinReply>>,
    /// The ticket of its SyncGroup request while that is not answered.
    pub(crate) syncing: Option<Ticket<SyncReply>>,
    /// Whether its first join has not been answered yet.
    is_new: bool,
    /// When its session expires, unless it waits for an answer; monotonic milliseconds.
    session_deadline: u64,
}

impl Member {
    pub(crate) fn new(id: String, join: &Join, ticket: Ticket<JoinReply>, now: Now) -> Self {
        Self {
            id,
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            joining: Some(ticket),
            syncing: None,
            is_new: true,
            session_deadline: now.monotonic_ms.saturating_add(NEW_MEMBER_TIMEOUT_MS),
        }
    }

    pub(crate) fn restored(value: MemberValue, protocol: &str, now: Now) -> Self {
        let timeout = millis(value.session_timeout_ms);
        let session_deadline = now.monotonic_ms.saturating_add(timeout);
        Self {
            id: value.id,
            client_id: value.client_id,
            client_host: value.client_host,
            session_timeout_ms: value.session_timeout_ms,
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            protocols: vec![(protocol.to_owned(), value.subscription)],
            assignment: value.assignment,
            joining: None,
            syncing: None,
            is_new: false,
            session_deadline,
        }
    }

    /// When the member is removed. A member that waits for an answer is not removed, unless it is new and has waited
    /// for very long.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let waits = self.joining.is_some() || self.syncing.is_some();
        (!waits || self.is_new).then_some(self.session_deadline)
    }

    pub(crate) fn touch(&mut self, now: Now) {
        let timeout = millis(self.session_timeout_ms);
        self.session_deadline = now.monotonic_ms.saturating_add(timeout);
    }

    /// Replaces what the member said when it last joined.
    pub(super) fn rejoin(
        &mut self,
        join: &Join,
        ticket: Ticket<JoinReply>,
        effects: &mut GroupEffects,
    ) {
        self.client_id.clone_from(&join.client_id);
        self.client_host.clone_from(&join.client_host);
        self.session_timeout_ms = join.session_timeout_ms;
        self.rebalance_timeout_ms = join.rebalance_timeout_ms;
        self.protocols.clone_from(&join.protocols);
        if let Some(earlier) = self.joining.replace(ticket) {
            let reply = JoinReply::error(ErrorCode::RebalanceInProgress, &self.id);
            effects.answer(earlier, reply);
        }
    }

    /// Takes the ticket of its join, which is being answered; a session starts.
    pub(super) fn joined(&mut self, now: Now) -> Option<Ticket<JoinReply>> {
        self.is_new = false;
        self.touch(now);
        self.joining.take()
    }

    /// Answers its unanswered requests with an error, since the member is removed.
    pub(crate) fn dismiss(self, effects: &mut GroupEffects) {
        if let Some(ticket) = self.joining {
            let reply = JoinReply::error(ErrorCode::UnknownMemberId, &self.id);
            effects.answer(ticket, reply);
        }
        if let Some(ticket) = self.syncing {
            let reply = SyncReply::error(ErrorCode::UnknownMemberId);
            effects.answer(ticket, reply);
        }
    }

    /// Whether its JoinGroup request waits for the answer.
    pub(crate) fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    /// The names of its protocols, the preferred one first.
    pub(crate) fn protocols(&self) -> impl Iterator<Item = &str> {
        self.protocols.iter().map(|(name, _)| name.as_str())
    }

    /// Whether the member joins with the same protocols and metadata as before.
    pub(crate) fn joins_as_before(&self, join: &Join) -> bool {
        self.protocols == join.protocols
    }

    /// Its metadata for a protocol.
    pub(crate) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let found = self
            .protocols
            .iter()
            .find(|(name, _)| Some(name.as_str()) == protocol);
        found
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    pub(crate) fn value(&self, protocol: Option<&str>) -> MemberValue {
        MemberValue {
            id: self.id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }
}
