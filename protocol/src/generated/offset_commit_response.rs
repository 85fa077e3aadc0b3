// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use highwater_types::Uuid;

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetCommitResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<OffsetCommitResponseTopic>,
}

impl Default for OffsetCommitResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            topics: Default::default(),
        }
    }
}

impl Message for OffsetCommitResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 8;
        let mut this = Self::default();
        if version >= 3 {
            this.throttle_time_ms = r.i32()?;
        }
        this.topics = r.array(flexible, |r| OffsetCommitResponseTopic::read(r, version))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 8;
        if version >= 3 {
            out.i32(self.throttle_time_ms);
        }
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
pub struct OffsetCommitResponseTopic {
    pub name: StrBytes,
    pub topic_id: Uuid,
    pub partitions: Vec<OffsetCommitResponsePartition>,
}

impl Default for OffsetCommitResponseTopic {
    fn default() -> Self {
        Self {
            name: Default::default(),
            topic_id: Default::default(),
            partitions: Default::default(),
        }
    }
}

impl Message for OffsetCommitResponseTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 8;
        let mut this = Self::default();
        if version <= 9 {
            this.name = r.string(flexible)?;
        }
        if version >= 10 {
            this.topic_id = r.uuid()?;
        }
        this.partitions = r.array(flexible, |r| {
            OffsetCommitResponsePartition::read(r, version)
        })?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 8;
        if version <= 9 {
            out.string(&self.name, flexible);
        }
        if version >= 10 {
            out.uuid(self.topic_id);
        }
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
pub struct OffsetCommitResponsePartition {
    pub partition_index: i32,
    pub error_code: i16,
}

impl Default for OffsetCommitResponsePartition {
    fn default() -> Self {
        Self {
            partition_index: Default::default(),
            error_code: Default::default(),
        }
    }
}

impl Message for OffsetCommitResponsePartition {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 8;
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
        let flexible = version >= 8;
        out.i32(self.partition_index);
        out.error_code(self.error_code);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
