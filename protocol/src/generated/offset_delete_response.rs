// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetDeleteResponse {
    pub error_code: i16,
    pub throttle_time_ms: i32,
    pub topics: Vec<OffsetDeleteResponseTopic>,
}

impl Default for OffsetDeleteResponse {
    fn default() -> Self {
        Self {
            error_code: Default::default(),
            throttle_time_ms: Default::default(),
            topics: Default::default(),
        }
    }
}

impl Message for OffsetDeleteResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 32767;
        let mut this = Self::default();
        this.error_code = r.i16()?;
        this.throttle_time_ms = r.i32()?;
        this.topics = r.array(flexible, |r| OffsetDeleteResponseTopic::read(r, version))?;
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
        out.i32(self.throttle_time_ms);
        out.array(&self.topics, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetDeleteResponseTopic {
    pub name: StrBytes,
    pub partitions: Vec<OffsetDeleteResponsePartition>,
}

impl Default for OffsetDeleteResponseTopic {
    fn default() -> Self {
        Self {
            name: Default::default(),
            partitions: Default::default(),
        }
    }
}

impl Message for OffsetDeleteResponseTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 32767;
        let mut this = Self::default();
        this.name = r.string(flexible)?;
        this.partitions = r.array(flexible, |r| {
            OffsetDeleteResponsePartition::read(r, version)
        })?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 32767;
        out.string(&self.name, flexible);
        out.array(&self.partitions, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetDeleteResponsePartition {
    pub partition_index: i32,
    pub error_code: i16,
}

impl Default for OffsetDeleteResponsePartition {
    fn default() -> Self {
        Self {
            partition_index: Default::default(),
            error_code: Default::default(),
        }
    }
}

impl Message for OffsetDeleteResponsePartition {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 32767;
        let mut this = Self::default();
        this.partition_index = r.i32()?;
        this.error_code = r.i16()?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 32767;
        out.i32(self.partition_index);
        out.error_code(self.error_code);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
