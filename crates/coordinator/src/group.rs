//! A group of any kind: what its shard asks of each (the interface `Group` of Kafka's group coordinator).
//!
//! What only one kind understands is asked of that kind: a `let` that takes it out of a [`Group`] no longer compiles once
//! there is another, and has to say what the others answer.

use crate::classic::{ClassicGroup, State};
use crate::offsets::CommittedOffset;
use crate::{Described, GroupConfig, GroupEffects, Listed, Now};
use highwater_protocol::ErrorCode;

/// A group by its kind.
#[derive(Debug)]
pub(crate) enum Group {
    /// Of the classic protocol, or without members.
    Classic(ClassicGroup),
}

impl Group {
    /// A group without members, which is classic until a member says otherwise.
    pub(crate) fn new(id: &str) -> Self {
        Self::Classic(ClassicGroup::new(id))
    }

    /// Kafka's name of its kind.
    fn kind(&self) -> &'static str {
        match self {
            Self::Classic(_) => "classic",
        }
    }

    /// Kafka's name of its state.
    pub(crate) fn state(&self) -> &'static str {
        match self {
            Self::Classic(group) => group.state.name(),
        }
    }

    /// The group in a list.
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

    /// The group as DescribeGroups tells it.
    pub(crate) fn described(&self) -> Described {
        match self {
            Self::Classic(group) => group.described(),
        }
    }

    /// The log is replayed to its end: sessions and timers start now.
    pub(crate) fn loaded(&mut self, now: Now) {
        match self {
            Self::Classic(group) => group.loaded(now),
        }
    }

    /// When it wants to be woken; monotonic milliseconds.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        match self {
            Self::Classic(group) => group.wake_at,
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Now, config: &GroupConfig, effects: &mut GroupEffects) {
        match self {
            Self::Classic(group) => group.tick(now, config, effects),
        }
    }

    /// Whether nothing of it is left to keep but offsets.
    pub(crate) fn is_vacant(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_vacant(),
        }
    }

    /// Whether the log says nothing of it but offsets.
    pub(crate) fn is_unwritten(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_unwritten(),
        }
    }

    /// Whether offsets may be committed by a member of a generation, or by somebody outside.
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

    /// Whether it may be deleted.
    pub(crate) fn check_delete(&self) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) if group.state == State::Empty => Ok(()),
            Self::Classic(_) => Err(ErrorCode::NonEmptyGroup),
        }
    }

    /// Whether offsets may be deleted; answers which topics' may not, for its members read them.
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

    /// Which of its offsets have expired by now.
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
