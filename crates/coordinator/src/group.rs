//! A group of any kind, as its shard sees it (the interface `Group` of Kafka's group coordinator).
//!
//! Operations of one kind only match on that kind with an irrefutable `let`. It stops compiling when a second kind is
//! added, so that each such place has to decide what the other kind answers.

use crate::classic::{ClassicGroup, State};
use crate::offsets::CommittedOffset;
use crate::{Described, GroupConfig, GroupEffects, Listed, Now};
use highwater_protocol::ErrorCode;

/// A group, by its kind.
#[derive(Debug)]
pub(crate) enum Group {
    /// A group of the classic protocol, or one without members.
    Classic(ClassicGroup),
}

impl Group {
    /// A group without members. It is classic until a member of another protocol joins.
    pub(crate) fn new(id: &str) -> Self {
        Self::Classic(ClassicGroup::new(id))
    }

    /// Kafka's name of the group's kind.
    fn kind(&self) -> &'static str {
        match self {
            Self::Classic(_) => "classic",
        }
    }

    /// Kafka's name of the group's state.
    pub(crate) fn state(&self) -> &'static str {
        match self {
            Self::Classic(group) => group.state.name(),
        }
    }

    /// The group as ListGroups reports it.
    pub(crate) fn listed(&self, id: &str) -> Listed {
        let protocol_type = match self {
            Self::Classic(group) => group.protocol_type.clone(),
        };
        Listed {
            group: id.to_owned(),
            protocol_type: protocol_type.unwrap_or_default(),
            state: self.state(),
            kind: self.kind(),
        }
    }

    /// The group as DescribeGroups reports it.
    pub(crate) fn described(&self) -> Described {
        match self {
            Self::Classic(group) => group.described(),
        }
    }

    /// The log has been read to its end: sessions and timers start now.
    pub(crate) fn loaded(&mut self, now: Now) {
        match self {
            Self::Classic(group) => group.loaded(now),
        }
    }

    /// When the group's tick is due; monotonic milliseconds.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        match self {
            Self::Classic(group) => group.wake_at,
        }
    }

    /// Does what is due at this time.
    pub(crate) fn tick(&mut self, now: Now, config: &GroupConfig, effects: &mut GroupEffects) {
        match self {
            Self::Classic(group) => group.tick(now, config, effects),
        }
    }

    /// Whether the group has no members and expects none, so that it is kept only for its offsets.
    pub(crate) fn is_vacant(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_vacant(),
        }
    }

    /// Whether the log has no record of the group itself.
    pub(crate) fn is_unwritten(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_unwritten(),
        }
    }

    /// Whether offsets may be committed, by a member of a generation or by a client that is no member.
    pub(crate) fn check_commit(
        &mut self,
        member: &str,
        generation: i32,
        now: Now,
    ) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) => group.check_commit(member, generation, now),
        }
    }

    /// Whether the group may be deleted.
    pub(crate) fn check_delete(&self) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) if group.state == State::Empty => Ok(()),
            Self::Classic(_) => Err(ErrorCode::NonEmptyGroup),
        }
    }

    /// Whether offsets may be deleted. Returns a predicate for the topics whose offsets may not be, since members are
    /// subscribed.
    pub(crate) fn check_delete_offsets(&self) -> Result<impl Fn(&str) -> bool + use<>, ErrorCode> {
        match self {
            Self::Classic(group) => {
                let empty = group.state == State::Empty;
                if !empty && !group.has_consumers() {
                    return Err(ErrorCode::NonEmptyGroup);
                }
                let subscribed = group.subscribed();
                Ok(move |topic: &str| !empty && subscribed.has(topic))
            }
        }
    }

    /// A predicate for the group's offsets that have expired by now.
    pub(crate) fn expired(
        &self,
        now: Now,
        retention_ms: i64,
    ) -> impl Fn(&str, &CommittedOffset) -> bool + use<> {
        match self {
            Self::Classic(group) => group.expired(now, retention_ms),
        }
    }
}
