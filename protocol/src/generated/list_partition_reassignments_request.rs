// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};
use crate::{ApiKey, Message, Request};

#[derive(Debug, Clone, PartialEq)]
pub struct ListPartitionReassignmentsRequest {
    pub timeout_ms: i32,
    pub topics: Option<Vec<ListPartitionReassignmentsTopics>>,
}

impl Default for ListPartitionReassignmentsRequest {
    fn default() -> Self {
        Self {
            timeout_ms: 60000,
            topics: None,
        }
    }
}

impl Message for ListPartitionReassignmentsRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.timeout_ms = r.i32()?;
        this.topics = r.nullable_array(flexible, |r| {
            ListPartitionReassignmentsTopics::read(r, version)
        })?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 0;
        out.i32(self.timeout_ms);
        out.nullable_array(self.topics.as_deref(), flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ListPartitionReassignmentsTopics {
    pub name: StrBytes,
    pub partition_indexes: Vec<i32>,
}

impl Default for ListPartitionReassignmentsTopics {
    fn default() -> Self {
        Self {
            name: Default::default(),
            partition_indexes: Default::default(),
        }
    }
}

impl Message for ListPartitionReassignmentsTopics {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.name = r.string(flexible)?;
        this.partition_indexes = r.array(flexible, |r| r.i32())?;
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
        out.array(&self.partition_indexes, flexible, |out, one| {
            out.i32(*one);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

impl Request for ListPartitionReassignmentsRequest {
    const KEY: ApiKey = ApiKey::ListPartitionReassignments;
    const VALID: std::ops::RangeInclusive<i16> = 0..=0;
    const FLEXIBLE_FROM: i16 = 0;
    type Response =
        super::list_partition_reassignments_response::ListPartitionReassignmentsResponse;
}
