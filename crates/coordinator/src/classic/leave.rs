//! LeaveGroup: members leave.

use highwater_protocol::ErrorCode;

use super::ClassicGroup;
use crate::{GroupConfig, GroupEffects, Now};

impl ClassicGroup {
    /// Removes members; the answer has a result for each.
    pub(crate) fn leave(
        &mut self,
        members: &[String],
        now: Now,
        config: &GroupConfig,
        effects: &mut GroupEffects,
    ) -> Vec<ErrorCode> {
        let mut changed = false;
        let mut answers = Vec::with_capacity(members.len());
        for member in members {
            if self.pending.remove(member).is_some() {
                self.complete_if_all_joined(now, effects);
                answers.push(ErrorCode::None);
            } else if self.members.contains_key(member) {
                self.remove(member, effects);
                changed = true;
                answers.push(ErrorCode::None);
            } else {
                answers.push(ErrorCode::UnknownMemberId);
            }
        }
        if changed {
            self.prepare(now, config, effects);
        }
        answers
    }
}
