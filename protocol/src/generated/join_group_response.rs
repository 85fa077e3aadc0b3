// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use bytes::Bytes;

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct JoinGroupResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub generation_id: i32,
    pub protocol_type: Option<StrBytes>,
    pub protocol_name: Option<StrBytes>,
    pub leader: StrBytes,
    pub skip_assignment: bool,
    pub member_id: StrBytes,
    pub members: Vec<JoinGroupResponseMember>,
}

impl Default for JoinGroupResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            error_code: Default::default(),
            generation_id: -1,
            protocol_type: None,
            protocol_name: Some(Default::default()),
            leader: Default::default(),
            skip_assignment: false,
            member_id: Default::default(),
            members: Default::default(),
        }
    }
}

impl Message for JoinGroupResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut this = Self::default();
        if version >= 2 {
            this.throttle_time_ms = r.i32()?;
        }
        this.error_code = r.i16()?;
        this.generation_id = r.i32()?;
        if version >= 7 {
            this.protocol_type = if version >= 7 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        this.protocol_name = if version >= 7 {
            r.nullable_string(flexible)?
        } else {
            Some(r.string(flexible)?)
        };
        this.leader = r.string(flexible)?;
        if version >= 9 {
            this.skip_assignment = r.bool()?;
        }
        this.member_id = r.string(flexible)?;
        this.members = r.array(flexible, |r| JoinGroupResponseMember::read(r, version))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 6;
        if version >= 2 {
            out.i32(self.throttle_time_ms);
        }
        out.error_code(self.error_code);
        out.i32(self.generation_id);
        if version >= 7 {
            if version >= 7 {
                out.nullable_string(self.protocol_type.as_ref(), flexible);
            } else {
                out.string(
                    self.protocol_type.as_ref().unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        if version >= 7 {
            out.nullable_string(self.protocol_name.as_ref(), flexible);
        } else {
            out.string(
                self.protocol_name.as_ref().unwrap_or(&Default::default()),
                flexible,
            );
        }
        out.string(&self.leader, flexible);
        if version >= 9 {
            out.bool(self.skip_assignment);
        }
        out.string(&self.member_id, flexible);
        out.array(&self.members, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct JoinGroupResponseMember {
    pub member_id: StrBytes,
    pub group_instance_id: Option<StrBytes>,
    pub metadata: Bytes,
}

impl Default for JoinGroupResponseMember {
    fn default() -> Self {
        Self {
            member_id: Default::default(),
            group_instance_id: None,
            metadata: Default::default(),
        }
    }
}

impl Message for JoinGroupResponseMember {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut this = Self::default();
        this.member_id = r.string(flexible)?;
        if version >= 5 {
            this.group_instance_id = if version >= 5 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        this.metadata = r.bytes(flexible)?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 6;
        out.string(&self.member_id, flexible);
        if version >= 5 {
            if version >= 5 {
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
        out.bytes(&self.metadata, flexible);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
