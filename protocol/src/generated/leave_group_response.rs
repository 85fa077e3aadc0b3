// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct LeaveGroupResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub members: Vec<MemberResponse>,
}

impl Default for LeaveGroupResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            error_code: Default::default(),
            members: Default::default(),
        }
    }
}

impl Message for LeaveGroupResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        if version >= 1 {
            this.throttle_time_ms = r.i32()?;
        }
        this.error_code = r.i16()?;
        if version >= 3 {
            this.members = r.array(flexible, |r| MemberResponse::read(r, version))?;
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
        if version >= 1 {
            out.i32(self.throttle_time_ms);
        }
        out.error_code(self.error_code);
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
pub struct MemberResponse {
    pub member_id: StrBytes,
    pub group_instance_id: Option<StrBytes>,
    pub error_code: i16,
}

impl Default for MemberResponse {
    fn default() -> Self {
        Self {
            member_id: Default::default(),
            group_instance_id: Some(Default::default()),
            error_code: Default::default(),
        }
    }
}

impl Message for MemberResponse {
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
        if version >= 3 {
            this.error_code = r.i16()?;
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
        if version >= 3 {
            out.error_code(self.error_code);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
