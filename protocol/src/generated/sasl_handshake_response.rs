// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct SaslHandshakeResponse {
    pub error_code: i16,
    pub mechanisms: Vec<StrBytes>,
}

impl Default for SaslHandshakeResponse {
    fn default() -> Self {
        Self {
            error_code: Default::default(),
            mechanisms: Default::default(),
        }
    }
}

impl Message for SaslHandshakeResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 32767;
        let mut this = Self::default();
        this.error_code = r.i16()?;
        this.mechanisms = r.array(flexible, |r| r.string(flexible))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 32767;
        out.error_code(self.error_code);
        out.array(&self.mechanisms, flexible, |out, one| {
            out.string(&one, flexible);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
