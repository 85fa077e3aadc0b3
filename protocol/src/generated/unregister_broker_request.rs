// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::wire::{DecodeError, FrameWriter, Reader};
use crate::{ApiKey, Message, Request};

#[derive(Debug, Clone, PartialEq)]
pub struct UnregisterBrokerRequest {
    pub broker_id: i32,
}

impl Default for UnregisterBrokerRequest {
    fn default() -> Self {
        Self {
            broker_id: Default::default(),
        }
    }
}

impl Message for UnregisterBrokerRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.broker_id = r.i32()?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 0;
        out.i32(self.broker_id);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

impl Request for UnregisterBrokerRequest {
    const KEY: ApiKey = ApiKey::UnregisterBroker;
    const VALID: std::ops::RangeInclusive<i16> = 0..=0;
    const FLEXIBLE_FROM: i16 = 0;
    type Response = super::unregister_broker_response::UnregisterBrokerResponse;
}
