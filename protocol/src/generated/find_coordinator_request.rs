// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};
use crate::{ApiKey, Message, Request};

#[derive(Debug, Clone, PartialEq)]
pub struct FindCoordinatorRequest {
    pub key: StrBytes,
    pub key_type: i8,
    pub coordinator_keys: Vec<StrBytes>,
}

impl Default for FindCoordinatorRequest {
    fn default() -> Self {
        Self {
            key: Default::default(),
            key_type: 0,
            coordinator_keys: Default::default(),
        }
    }
}

impl Message for FindCoordinatorRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        if version <= 3 {
            this.key = r.string(flexible)?;
        }
        if version >= 1 {
            this.key_type = r.i8()?;
        }
        if version >= 4 {
            this.coordinator_keys = r.array(flexible, |r| r.string(flexible))?;
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
        if version <= 3 {
            out.string(&self.key, flexible);
        }
        if version >= 1 {
            out.i8(self.key_type);
        }
        if version >= 4 {
            out.array(&self.coordinator_keys, flexible, |out, one| {
                out.string(&one, flexible);
            });
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

impl Request for FindCoordinatorRequest {
    const KEY: ApiKey = ApiKey::FindCoordinator;
    const VALID: std::ops::RangeInclusive<i16> = 0..=6;
    const FLEXIBLE_FROM: i16 = 3;
    type Response = super::find_coordinator_response::FindCoordinatorResponse;
}
