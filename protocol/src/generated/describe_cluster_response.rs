// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct DescribeClusterResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
    pub endpoint_type: i8,
    pub cluster_id: StrBytes,
    pub controller_id: i32,
    pub brokers: Vec<DescribeClusterBroker>,
    pub cluster_authorized_operations: i32,
}

impl Default for DescribeClusterResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            error_code: Default::default(),
            error_message: None,
            endpoint_type: 1,
            cluster_id: Default::default(),
            controller_id: -1,
            brokers: Default::default(),
            cluster_authorized_operations: -2147483648,
        }
    }
}

impl Message for DescribeClusterResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.throttle_time_ms = r.i32()?;
        this.error_code = r.i16()?;
        this.error_message = r.nullable_string(flexible)?;
        if version >= 1 {
            this.endpoint_type = r.i8()?;
        }
        this.cluster_id = r.string(flexible)?;
        this.controller_id = r.i32()?;
        this.brokers = r.array(flexible, |r| DescribeClusterBroker::read(r, version))?;
        this.cluster_authorized_operations = r.i32()?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 0;
        out.i32(self.throttle_time_ms);
        out.error_code(self.error_code);
        out.nullable_string(self.error_message.as_ref(), flexible);
        if version >= 1 {
            out.i8(self.endpoint_type);
        }
        out.string(&self.cluster_id, flexible);
        out.i32(self.controller_id);
        out.array(&self.brokers, flexible, |out, one| {
            one.write(out, version);
        });
        out.i32(self.cluster_authorized_operations);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribeClusterBroker {
    pub broker_id: i32,
    pub host: StrBytes,
    pub port: i32,
    pub rack: Option<StrBytes>,
    pub is_fenced: bool,
}

impl Default for DescribeClusterBroker {
    fn default() -> Self {
        Self {
            broker_id: Default::default(),
            host: Default::default(),
            port: Default::default(),
            rack: None,
            is_fenced: Default::default(),
        }
    }
}

impl Message for DescribeClusterBroker {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.broker_id = r.i32()?;
        this.host = r.string(flexible)?;
        this.port = r.i32()?;
        this.rack = r.nullable_string(flexible)?;
        if version >= 2 {
            this.is_fenced = r.bool()?;
        }
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
        out.string(&self.host, flexible);
        out.i32(self.port);
        out.nullable_string(self.rack.as_ref(), flexible);
        if version >= 2 {
            out.bool(self.is_fenced);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
