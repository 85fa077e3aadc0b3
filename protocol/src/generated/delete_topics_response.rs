// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use highwater_types::Uuid;

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct DeleteTopicsResponse {
    pub throttle_time_ms: i32,
    pub responses: Vec<DeletableTopicResult>,
}

impl Default for DeleteTopicsResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            responses: Default::default(),
        }
    }
}

impl Message for DeleteTopicsResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        this.throttle_time_ms = r.i32()?;
        this.responses = r.array(flexible, |r| DeletableTopicResult::read(r, version))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 4;
        out.i32(self.throttle_time_ms);
        out.array(&self.responses, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DeletableTopicResult {
    pub name: Option<StrBytes>,
    pub topic_id: Uuid,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
}

impl Default for DeletableTopicResult {
    fn default() -> Self {
        Self {
            name: Some(Default::default()),
            topic_id: Default::default(),
            error_code: Default::default(),
            error_message: None,
        }
    }
}

impl Message for DeletableTopicResult {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        this.name = if version >= 6 {
            r.nullable_string(flexible)?
        } else {
            Some(r.string(flexible)?)
        };
        if version >= 6 {
            this.topic_id = r.uuid()?;
        }
        this.error_code = r.i16()?;
        if version >= 5 {
            this.error_message = if version >= 5 {
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
        if version >= 6 {
            out.nullable_string(self.name.as_ref(), flexible);
        } else {
            out.string(self.name.as_ref().unwrap_or(&Default::default()), flexible);
        }
        if version >= 6 {
            out.uuid(self.topic_id);
        }
        out.error_code(self.error_code);
        if version >= 5 {
            if version >= 5 {
                out.nullable_string(self.error_message.as_ref(), flexible);
            } else {
                out.string(
                    self.error_message.as_ref().unwrap_or(&Default::default()),
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
