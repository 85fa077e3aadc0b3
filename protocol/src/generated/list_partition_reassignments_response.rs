// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct ListPartitionReassignmentsResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
    pub topics: Vec<OngoingTopicReassignment>,
}

impl Default for ListPartitionReassignmentsResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            error_code: Default::default(),
            error_message: Some(Default::default()),
            topics: Default::default(),
        }
    }
}

impl Message for ListPartitionReassignmentsResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.throttle_time_ms = r.i32()?;
        this.error_code = r.i16()?;
        this.error_message = r.nullable_string(flexible)?;
        this.topics = r.array(flexible, |r| OngoingTopicReassignment::read(r, version))?;
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
pub struct OngoingTopicReassignment {
    pub name: StrBytes,
    pub partitions: Vec<OngoingPartitionReassignment>,
}

impl Default for OngoingTopicReassignment {
    fn default() -> Self {
        Self {
            name: Default::default(),
            partitions: Default::default(),
        }
    }
}

impl Message for OngoingTopicReassignment {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.name = r.string(flexible)?;
        this.partitions = r.array(flexible, |r| OngoingPartitionReassignment::read(r, version))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 0;
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
pub struct OngoingPartitionReassignment {
    pub partition_index: i32,
    pub replicas: Vec<i32>,
    pub adding_replicas: Vec<i32>,
    pub removing_replicas: Vec<i32>,
}

impl Default for OngoingPartitionReassignment {
    fn default() -> Self {
        Self {
            partition_index: Default::default(),
            replicas: Default::default(),
            adding_replicas: Default::default(),
            removing_replicas: Default::default(),
        }
    }
}

impl Message for OngoingPartitionReassignment {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.partition_index = r.i32()?;
        this.replicas = r.array(flexible, |r| r.i32())?;
        this.adding_replicas = r.array(flexible, |r| r.i32())?;
        this.removing_replicas = r.array(flexible, |r| r.i32())?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 0;
        out.i32(self.partition_index);
        out.array(&self.replicas, flexible, |out, one| {
            out.i32(*one);
        });
        out.array(&self.adding_replicas, flexible, |out, one| {
            out.i32(*one);
        });
        out.array(&self.removing_replicas, flexible, |out, one| {
            out.i32(*one);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
