// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use bytes::Bytes;

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct SyncGroupResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub protocol_type: Option<StrBytes>,
    pub protocol_name: Option<StrBytes>,
    pub assignment: Bytes,
}

impl Default for SyncGroupResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            error_code: Default::default(),
            protocol_type: None,
            protocol_name: None,
            assignment: Default::default(),
        }
    }
}

impl Message for SyncGroupResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        if version >= 1 {
            this.throttle_time_ms = r.i32()?;
        }
        this.error_code = r.i16()?;
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
        if version >= 1 {
            out.i32(self.throttle_time_ms);
        }
        out.error_code(self.error_code);
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
        out.bytes(&self.assignment, flexible);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
