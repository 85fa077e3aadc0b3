// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use highwater_types::Uuid;

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetFetchResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<OffsetFetchResponseTopic>,
    pub error_code: i16,
    pub groups: Vec<OffsetFetchResponseGroup>,
}

impl Default for OffsetFetchResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            topics: Default::default(),
            error_code: 0,
            groups: Default::default(),
        }
    }
}

impl Message for OffsetFetchResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut this = Self::default();
        if version >= 3 {
            this.throttle_time_ms = r.i32()?;
        }
        if version <= 7 {
            this.topics = r.array(flexible, |r| OffsetFetchResponseTopic::read(r, version))?;
        }
        if (2..=7).contains(&version) {
            this.error_code = r.i16()?;
        }
        if version >= 8 {
            this.groups = r.array(flexible, |r| OffsetFetchResponseGroup::read(r, version))?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 6;
        if version >= 3 {
            out.i32(self.throttle_time_ms);
        }
        if version <= 7 {
            out.array(&self.topics, flexible, |out, one| {
                one.write(out, version);
            });
        }
        if (2..=7).contains(&version) {
            out.error_code(self.error_code);
        }
        if version >= 8 {
            out.array(&self.groups, flexible, |out, one| {
                one.write(out, version);
            });
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetFetchResponseTopic {
    pub name: StrBytes,
    pub partitions: Vec<OffsetFetchResponsePartition>,
}

impl Default for OffsetFetchResponseTopic {
    fn default() -> Self {
        Self {
            name: Default::default(),
            partitions: Default::default(),
        }
    }
}

impl Message for OffsetFetchResponseTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut this = Self::default();
        if version <= 7 {
            this.name = r.string(flexible)?;
        }
        if version <= 7 {
            this.partitions =
                r.array(flexible, |r| OffsetFetchResponsePartition::read(r, version))?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 6;
        if version <= 7 {
            out.string(&self.name, flexible);
        }
        if version <= 7 {
            out.array(&self.partitions, flexible, |out, one| {
                one.write(out, version);
            });
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetFetchResponsePartition {
    pub partition_index: i32,
    pub committed_offset: i64,
    pub committed_leader_epoch: i32,
    pub metadata: Option<StrBytes>,
    pub error_code: i16,
}

impl Default for OffsetFetchResponsePartition {
    fn default() -> Self {
        Self {
            partition_index: Default::default(),
            committed_offset: Default::default(),
            committed_leader_epoch: -1,
            metadata: Some(Default::default()),
            error_code: Default::default(),
        }
    }
}

impl Message for OffsetFetchResponsePartition {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut this = Self::default();
        if version <= 7 {
            this.partition_index = r.i32()?;
        }
        if version <= 7 {
            this.committed_offset = r.i64()?;
        }
        if (5..=7).contains(&version) {
            this.committed_leader_epoch = r.i32()?;
        }
        if version <= 7 {
            this.metadata = if version <= 7 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        if version <= 7 {
            this.error_code = r.i16()?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 6;
        if version <= 7 {
            out.i32(self.partition_index);
        }
        if version <= 7 {
            out.i64(self.committed_offset);
        }
        if (5..=7).contains(&version) {
            out.i32(self.committed_leader_epoch);
        }
        if version <= 7 {
            if version <= 7 {
                out.nullable_string(self.metadata.as_ref(), flexible);
            } else {
                out.string(
                    self.metadata.as_ref().unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        if version <= 7 {
            out.error_code(self.error_code);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetFetchResponseGroup {
    pub group_id: StrBytes,
    pub topics: Vec<OffsetFetchResponseTopics>,
    pub error_code: i16,
}

impl Default for OffsetFetchResponseGroup {
    fn default() -> Self {
        Self {
            group_id: Default::default(),
            topics: Default::default(),
            error_code: 0,
        }
    }
}

impl Message for OffsetFetchResponseGroup {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut this = Self::default();
        if version >= 8 {
            this.group_id = r.string(flexible)?;
        }
        if version >= 8 {
            this.topics = r.array(flexible, |r| OffsetFetchResponseTopics::read(r, version))?;
        }
        if version >= 8 {
            this.error_code = r.i16()?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 6;
        if version >= 8 {
            out.string(&self.group_id, flexible);
        }
        if version >= 8 {
            out.array(&self.topics, flexible, |out, one| {
                one.write(out, version);
            });
        }
        if version >= 8 {
            out.error_code(self.error_code);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetFetchResponseTopics {
    pub name: StrBytes,
    pub topic_id: Uuid,
    pub partitions: Vec<OffsetFetchResponsePartitions>,
}

impl Default for OffsetFetchResponseTopics {
    fn default() -> Self {
        Self {
            name: Default::default(),
            topic_id: Default::default(),
            partitions: Default::default(),
        }
    }
}

impl Message for OffsetFetchResponseTopics {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut this = Self::default();
        if (8..=9).contains(&version) {
            this.name = r.string(flexible)?;
        }
        if version >= 10 {
            this.topic_id = r.uuid()?;
        }
        if version >= 8 {
            this.partitions = r.array(flexible, |r| {
                OffsetFetchResponsePartitions::read(r, version)
            })?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 6;
        if (8..=9).contains(&version) {
            out.string(&self.name, flexible);
        }
        if version >= 10 {
            out.uuid(self.topic_id);
        }
        if version >= 8 {
            out.array(&self.partitions, flexible, |out, one| {
                one.write(out, version);
            });
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetFetchResponsePartitions {
    pub partition_index: i32,
    pub committed_offset: i64,
    pub committed_leader_epoch: i32,
    pub metadata: Option<StrBytes>,
    pub error_code: i16,
}

impl Default for OffsetFetchResponsePartitions {
    fn default() -> Self {
        Self {
            partition_index: Default::default(),
            committed_offset: Default::default(),
            committed_leader_epoch: -1,
            metadata: Some(Default::default()),
            error_code: Default::default(),
        }
    }
}

impl Message for OffsetFetchResponsePartitions {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut this = Self::default();
        if version >= 8 {
            this.partition_index = r.i32()?;
        }
        if version >= 8 {
            this.committed_offset = r.i64()?;
        }
        if version >= 8 {
            this.committed_leader_epoch = r.i32()?;
        }
        if version >= 8 {
            this.metadata = if version >= 8 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        if version >= 8 {
            this.error_code = r.i16()?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 6;
        if version >= 8 {
            out.i32(self.partition_index);
        }
        if version >= 8 {
            out.i64(self.committed_offset);
        }
        if version >= 8 {
            out.i32(self.committed_leader_epoch);
        }
        if version >= 8 {
            if version >= 8 {
                out.nullable_string(self.metadata.as_ref(), flexible);
            } else {
                out.string(
                    self.metadata.as_ref().unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        if version >= 8 {
            out.error_code(self.error_code);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
