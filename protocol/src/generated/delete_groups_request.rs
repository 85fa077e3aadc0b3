// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};
use crate::{ApiKey, Message, Request};

#[derive(Debug, Clone, PartialEq)]
pub struct DeleteGroupsRequest {
    pub groups_names: Vec<StrBytes>,
}

impl Default for DeleteGroupsRequest {
    fn default() -> Self {
        Self {
            groups_names: Default::default(),
        }
    }
}

impl Message for DeleteGroupsRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 2;
        let mut this = Self::default();
        this.groups_names = r.array(flexible, |r| r.string(flexible))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 2;
        out.array(&self.groups_names, flexible, |out, one| {
            out.string(&one, flexible);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

impl Request for DeleteGroupsRequest {
    const KEY: ApiKey = ApiKey::DeleteGroups;
    const VALID: std::ops::RangeInclusive<i16> = 0..=3;
    const FLEXIBLE_FROM: i16 = 2;
    type Response = super::delete_groups_response::DeleteGroupsResponse;
}
