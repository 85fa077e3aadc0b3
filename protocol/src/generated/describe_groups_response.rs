// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use bytes::Bytes;

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct DescribeGroupsResponse {
    pub throttle_time_ms: i32,
    pub groups: Vec<DescribedGroup>,
}

impl Default for DescribeGroupsResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            groups: Default::default(),
        }
    }
}

impl Message for DescribeGroupsResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 5;
        let mut this = Self::default();
        if version >= 1 {
            this.throttle_time_ms = r.i32()?;
        }
        this.groups = r.array(flexible, |r| DescribedGroup::read(r, version))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 5;
        if version >= 1 {
            out.i32(self.throttle_time_ms);
        }
        out.array(&self.groups, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribedGroup {
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
    pub group_id: StrBytes,
    pub group_state: StrBytes,
    pub protocol_type: StrBytes,
    pub protocol_data: StrBytes,
    pub members: Vec<DescribedGroupMember>,
    pub authorized_operations: i32,
}

impl Default for DescribedGroup {
    fn default() -> Self {
        Self {
            error_code: Default::default(),
            error_message: None,
            group_id: Default::default(),
            group_state: Default::default(),
            protocol_type: Default::default(),
            protocol_data: Default::default(),
            members: Default::default(),
            authorized_operations: -2147483648,
        }
    }
}

impl Message for DescribedGroup {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 5;
        let mut this = Self::default();
        this.error_code = r.i16()?;
        if version >= 6 {
            this.error_message = if version >= 6 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        this.group_id = r.string(flexible)?;
        this.group_state = r.string(flexible)?;
        this.protocol_type = r.string(flexible)?;
        this.protocol_data = r.string(flexible)?;
        this.members = r.array(flexible, |r| DescribedGroupMember::read(r, version))?;
        if version >= 3 {
            this.authorized_operations = r.i32()?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 5;
        out.error_code(self.error_code);
        if version >= 6 {
            if version >= 6 {
                out.nullable_string(self.error_message.as_ref(), flexible);
            } else {
                out.string(
                    self.error_message.as_ref().unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        out.string(&self.group_id, flexible);
        out.string(&self.group_state, flexible);
        out.string(&self.protocol_type, flexible);
        out.string(&self.protocol_data, flexible);
        out.array(&self.members, flexible, |out, one| {
            one.write(out, version);
        });
        if version >= 3 {
            out.i32(self.authorized_operations);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribedGroupMember {
    pub member_id: StrBytes,
    pub group_instance_id: Option<StrBytes>,
    pub client_id: StrBytes,
    pub client_host: StrBytes,
    pub member_metadata: Bytes,
    pub member_assignment: Bytes,
}

impl Default for DescribedGroupMember {
    fn default() -> Self {
        Self {
            member_id: Default::default(),
            group_instance_id: None,
            client_id: Default::default(),
            client_host: Default::default(),
            member_metadata: Default::default(),
            member_assignment: Default::default(),
        }
    }
}

impl Message for DescribedGroupMember {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 5;
        let mut this = Self::default();
        this.member_id = r.string(flexible)?;
        if version >= 4 {
            this.group_instance_id = if version >= 4 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        this.client_id = r.string(flexible)?;
        this.client_host = r.string(flexible)?;
        this.member_metadata = r.bytes(flexible)?;
        this.member_assignment = r.bytes(flexible)?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 5;
        out.string(&self.member_id, flexible);
        if version >= 4 {
            if version >= 4 {
                out.nullable_string(self.group_instance_id.as_ref(), flexible);
            } else {
                out.string(
                    self.group_instance_id
                        .as_ref()
                        .unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        out.string(&self.client_id, flexible);
        out.string(&self.client_host, flexible);
        out.bytes(&self.member_metadata, flexible);
        out.bytes(&self.member_assignment, flexible);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
