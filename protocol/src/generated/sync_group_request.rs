// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use bytes::Bytes;

use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};
use crate::{ApiKey, Message, Request};

#[derive(Debug, Clone, PartialEq)]
pub struct SyncGroupRequest {
    pub group_id: StrBytes,
    pub generation_id: i32,
    pub member_id: StrBytes,
    pub group_instance_id: Option<StrBytes>,
    pub protocol_type: Option<StrBytes>,
    pub protocol_name: Option<StrBytes>,
    pub assignments: Vec<SyncGroupRequestAssignment>,
}

impl Default for SyncGroupRequest {
    fn default() -> Self {
        Self {
            group_id: Default::default(),
            generation_id: Default::default(),
            member_id: Default::default(),
            group_instance_id: None,
            protocol_type: None,
            protocol_name: None,
            assignments: Default::default(),
        }
    }
}

impl Message for SyncGroupRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        this.group_id = r.string(flexible)?;
        this.generation_id = r.i32()?;
        this.member_id = r.string(flexible)?;
        if version >= 3 {
            this.group_instance_id = if version >= 3 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        if version >= 5 {
            this.protocol_type = if version >= 5 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        if version >= 5 {
            this.protocol_name = if version >= 5 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        this.assignments = r.array(flexible, |r| SyncGroupRequestAssignment::read(r, version))?;
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
        out.i32(self.generation_id);
        out.string(&self.member_id, flexible);
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
                out.nullable_string(self.protocol_type.as_ref(), flexible);
            } else {
                out.string(
                    self.protocol_type.as_ref().unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        if version >= 5 {
            if version >= 5 {
                out.nullable_string(self.protocol_name.as_ref(), flexible);
            } else {
                out.string(
                    self.protocol_name.as_ref().unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        out.array(&self.assignments, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct SyncGroupRequestAssignment {
    pub member_id: StrBytes,
    pub assignment: Bytes,
}

impl Default for SyncGroupRequestAssignment {
    fn default() -> Self {
        Self {
            member_id: Default::default(),
            assignment: Default::default(),
        }
    }
}

impl Message for SyncGroupRequestAssignment {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        this.member_id = r.string(flexible)?;
        this.assignment = r.bytes(flexible)?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 4;
        out.string(&self.member_id, flexible);
        out.bytes(&self.assignment, flexible);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

impl Request for SyncGroupRequest {
    const KEY: ApiKey = ApiKey::SyncGroup;
    const VALID: std::ops::RangeInclusive<i16> = 0..=5;
    const FLEXIBLE_FROM: i16 = 4;
    type Response = super::sync_group_response::SyncGroupResponse;
}
