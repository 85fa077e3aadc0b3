// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct ListGroupsResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub groups: Vec<ListedGroup>,
}

impl Default for ListGroupsResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            error_code: Default::default(),
            groups: Default::default(),
        }
    }
}

impl Message for ListGroupsResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        if version >= 1 {
            this.throttle_time_ms = r.i32()?;
        }
        this.error_code = r.i16()?;
        this.groups = r.array(flexible, |r| ListedGroup::read(r, version))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 3;
        if version >= 1 {
            out.i32(self.throttle_time_ms);
        }
        out.error_code(self.error_code);
        out.array(&self.groups, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ListedGroup {
    pub group_id: StrBytes,
    pub protocol_type: StrBytes,
    pub group_state: StrBytes,
    pub group_type: StrBytes,
}

impl Default for ListedGroup {
    fn default() -> Self {
        Self {
            group_id: Default::default(),
            protocol_type: Default::default(),
            group_state: Default::default(),
            group_type: Default::default(),
        }
    }
}

impl Message for ListedGroup {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        this.group_id = r.string(flexible)?;
        this.protocol_type = r.string(flexible)?;
        if version >= 4 {
            this.group_state = r.string(flexible)?;
        }
        if version >= 5 {
            this.group_type = r.string(flexible)?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 3;
        out.string(&self.group_id, flexible);
        out.string(&self.protocol_type, flexible);
        if version >= 4 {
            out.string(&self.group_state, flexible);
        }
        if version >= 5 {
            out.string(&self.group_type, flexible);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
