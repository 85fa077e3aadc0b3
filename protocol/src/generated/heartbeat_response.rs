// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader};

#[derive(Debug, Clone, PartialEq)]
pub struct HeartbeatResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
}

impl Default for HeartbeatResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            error_code: Default::default(),
        }
    }
}

impl Message for HeartbeatResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        if version >= 1 {
            this.throttle_time_ms = r.i32()?;
        }
        this.error_code = r.i16()?;
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
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
