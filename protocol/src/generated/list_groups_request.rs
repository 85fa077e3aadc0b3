// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};
use crate::{ApiKey, Message, Request};

#[derive(Debug, Clone, PartialEq)]
pub struct ListGroupsRequest {
    pub states_filter: Vec<StrBytes>,
    pub types_filter: Vec<StrBytes>,
}

impl Default for ListGroupsRequest {
    fn default() -> Self {
        Self {
            states_filter: Default::default(),
            types_filter: Default::default(),
        }
    }
}

impl Message for ListGroupsRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        if version >= 4 {
            this.states_filter = r.array(flexible, |r| r.string(flexible))?;
        }
        if version >= 5 {
            this.types_filter = r.array(flexible, |r| r.string(flexible))?;
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
            out.array(&self.states_filter, flexible, |out, one| {
                out.string(&one, flexible);
            });
        }
        if version >= 5 {
            out.array(&self.types_filter, flexible, |out, one| {
                out.string(&one, flexible);
            });
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

impl Request for ListGroupsRequest {
    const KEY: ApiKey = ApiKey::ListGroups;
    const VALID: std::ops::RangeInclusive<i16> = 0..=5;
    const FLEXIBLE_FROM: i16 = 3;
    type Response = super::list_groups_response::ListGroupsResponse;
}
