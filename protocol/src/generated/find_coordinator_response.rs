// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct FindCoordinatorResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
    pub node_id: i32,
    pub host: StrBytes,
    pub port: i32,
    pub coordinators: Vec<Coordinator>,
}

impl Default for FindCoordinatorResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            error_code: Default::default(),
            error_message: Some(Default::default()),
            node_id: Default::default(),
            host: Default::default(),
            port: Default::default(),
            coordinators: Default::default(),
        }
    }
}

impl Message for FindCoordinatorResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        if version >= 1 {
            this.throttle_time_ms = r.i32()?;
        }
        if version <= 3 {
            this.error_code = r.i16()?;
        }
        if (1..=3).contains(&version) {
            this.error_message = if (1..=3).contains(&version) {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        if version <= 3 {
            this.node_id = r.i32()?;
        }
        if version <= 3 {
            this.host = r.string(flexible)?;
        }
        if version <= 3 {
            this.port = r.i32()?;
        }
        if version >= 4 {
            this.coordinators = r.array(flexible, |r| Coordinator::read(r, version))?;
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
        if version >= 1 {
            out.i32(self.throttle_time_ms);
        }
        if version <= 3 {
            out.error_code(self.error_code);
        }
        if (1..=3).contains(&version) {
            if (1..=3).contains(&version) {
                out.nullable_string(self.error_message.as_ref(), flexible);
            } else {
                out.string(
                    self.error_message.as_ref().unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        if version <= 3 {
            out.i32(self.node_id);
        }
        if version <= 3 {
            out.string(&self.host, flexible);
        }
        if version <= 3 {
            out.i32(self.port);
        }
        if version >= 4 {
            out.array(&self.coordinators, flexible, |out, one| {
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
pub struct Coordinator {
    pub key: StrBytes,
    pub node_id: i32,
    pub host: StrBytes,
    pub port: i32,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self {
            key: Default::default(),
            node_id: Default::default(),
            host: Default::default(),
            port: Default::default(),
            error_code: Default::default(),
            error_message: Some(Default::default()),
        }
    }
}

impl Message for Coordinator {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        if version >= 4 {
            this.key = r.string(flexible)?;
        }
        if version >= 4 {
            this.node_id = r.i32()?;
        }
        if version >= 4 {
            this.host = r.string(flexible)?;
        }
        if version >= 4 {
            this.port = r.i32()?;
        }
        if version >= 4 {
            this.error_code = r.i16()?;
        }
        if version >= 4 {
            this.error_message = if version >= 4 {
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
        let flexible = version >= 3;
        if version >= 4 {
            out.string(&self.key, flexible);
        }
        if version >= 4 {
            out.i32(self.node_id);
        }
        if version >= 4 {
            out.string(&self.host, flexible);
        }
        if version >= 4 {
            out.i32(self.port);
        }
        if version >= 4 {
            out.error_code(self.error_code);
        }
        if version >= 4 {
            if version >= 4 {
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
