// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};
use crate::{ApiKey, Message, Request};

#[derive(Debug, Clone, PartialEq)]
pub struct LeaveGroupRequest {
    pub group_id: StrBytes,
    pub member_id: StrBytes,
    pub members: Vec<MemberIdentity>,
}

impl Default for LeaveGroupRequest {
    fn default() -> Self {
        Self {
            group_id: Default::default(),
            member_id: Default::default(),
            members: Default::default(),
        }
    }
}

impl Message for LeaveGroupRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        this.group_id = r.string(flexible)?;
        if version <= 2 {
            this.member_id = r.string(flexible)?;
        }
        if version >= 3 {
            this.members = r.array(flexible, |r| MemberIdentity::read(r, version))?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 4;
        out.string(&self.group_id, flexible);
        if version <= 2 {
            out.string(&self.member_id, flexible);
        }
        if version >= 3 {
            out.array(&self.members, flexible, |out, one| {
                one.write(out, version);
            });
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct MemberIdentity {
    pub member_id: StrBytes,
    pub group_instance_id: Option<StrBytes>,
    pub reason: Option<StrBytes>,
}

impl Default for MemberIdentity {
    fn default() -> Self {
        Self {
            member_id: Default::default(),
            group_instance_id: None,
            reason: None,
        }
    }
}

impl Message for MemberIdentity {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        if version >= 3 {
            this.member_id = r.string(flexible)?;
        }
        if version >= 3 {
            this.group_instance_id = if version >= 3 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        if version >= 5 {
            this.reason = if version >= 5 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 4;
        if version >= 3 {
            out.string(&self.member_id, flexible);
        }
        if version >= 3 {
            if version >= 3 {
                out.nullable_string(self.group_instance_id.as_ref(), flexible);
            } else {
                out.string(
                    self.group_instance_id
                        .as_ref()
                        .unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        if version >= 5 {
            if version >= 5 {
                out.nullable_string(self.reason.as_ref(), flexible);
            } else {
                out.string(
                    self.reason.as_ref().unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

impl Request for LeaveGroupRequest {
    const KEY: ApiKey = ApiKey::LeaveGroup;
    const VALID: std::ops::RangeInclusive<i16> = 0..=5;
    const FLEXIBLE_FROM: i16 = 4;
    type Response = super::leave_group_response::LeaveGroupResponse;
}
