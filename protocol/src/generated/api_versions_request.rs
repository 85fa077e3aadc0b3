// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};
use crate::{ApiKey, Message, Request};

#[derive(Debug, Clone, PartialEq)]
pub struct ApiVersionsRequest {
    pub client_software_name: StrBytes,
    pub client_software_version: StrBytes,
    pub cluster_id: Option<StrBytes>,
    pub node_id: i32,
}

impl Default for ApiVersionsRequest {
    fn default() -> Self {
        Self {
            client_software_name: Default::default(),
            client_software_version: Default::default(),
            cluster_id: None,
            node_id: -1,
        }
    }
}

impl Message for ApiVersionsRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        if version >= 3 {
            this.client_software_name = r.string(flexible)?;
        }
        if version >= 3 {
            this.client_software_version = r.string(flexible)?;
        }
        if version >= 5 {
            this.cluster_id = if version >= 5 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        if version >= 5 {
            this.node_id = r.i32()?;
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
        if version >= 3 {
            out.string(&self.client_software_name, flexible);
        }
        if version >= 3 {
            out.string(&self.client_software_version, flexible);
        }
        if version >= 5 {
            if version >= 5 {
                out.nullable_string(self.cluster_id.as_ref(), flexible);
            } else {
                out.string(
                    self.cluster_id.as_ref().unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        if version >= 5 {
            out.i32(self.node_id);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

impl Request for ApiVersionsRequest {
    const KEY: ApiKey = ApiKey::ApiVersions;
    const VALID: std::ops::RangeInclusive<i16> = 0..=5;
    const FLEXIBLE_FROM: i16 = 3;
    type Response = super::api_versions_response::ApiVersionsResponse;
}
