// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use highwater_types::Uuid;

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct DescribeTopicPartitionsResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<DescribeTopicPartitionsResponseTopic>,
    pub next_cursor: Option<Cursor>,
}

impl Default for DescribeTopicPartitionsResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            topics: Default::default(),
            next_cursor: None,
        }
    }
}

impl Message for DescribeTopicPartitionsResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.throttle_time_ms = r.i32()?;
        this.topics = r.array(flexible, |r| {
            DescribeTopicPartitionsResponseTopic::read(r, version)
        })?;
        this.next_cursor = r.nullable_struct(|r| Cursor::read(r, version))?;
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
        out.array(&self.topics, flexible, |out, one| {
            one.write(out, version);
        });
        out.nullable_struct(self.next_cursor.as_ref(), |out, one| {
            one.write(out, version)
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribeTopicPartitionsResponseTopic {
    pub error_code: i16,
    pub name: Option<StrBytes>,
    pub topic_id: Uuid,
    pub is_internal: bool,
    pub partitions: Vec<DescribeTopicPartitionsResponsePartition>,
    pub topic_authorized_operations: i32,
}

impl Default for DescribeTopicPartitionsResponseTopic {
    fn default() -> Self {
        Self {
            error_code: Default::default(),
            name: Some(Default::default()),
            topic_id: Default::default(),
            is_internal: false,
            partitions: Default::default(),
            topic_authorized_operations: -2147483648,
        }
    }
}

impl Message for DescribeTopicPartitionsResponseTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.error_code = r.i16()?;
        this.name = r.nullable_string(flexible)?;
        this.topic_id = r.uuid()?;
        this.is_internal = r.bool()?;
        this.partitions = r.array(flexible, |r| {
            DescribeTopicPartitionsResponsePartition::read(r, version)
        })?;
        this.topic_authorized_operations = r.i32()?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 0;
        out.error_code(self.error_code);
        out.nullable_string(self.name.as_ref(), flexible);
        out.uuid(self.topic_id);
        out.bool(self.is_internal);
        out.array(&self.partitions, flexible, |out, one| {
            one.write(out, version);
        });
        out.i32(self.topic_authorized_operations);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribeTopicPartitionsResponsePartition {
    pub error_code: i16,
    pub partition_index: i32,
    pub leader_id: i32,
    pub leader_epoch: i32,
    pub replica_nodes: Vec<i32>,
    pub isr_nodes: Vec<i32>,
    pub eligible_leader_replicas: Option<Vec<i32>>,
    pub last_known_elr: Option<Vec<i32>>,
    pub offline_replicas: Vec<i32>,
}

impl Default for DescribeTopicPartitionsResponsePartition {
    fn default() -> Self {
        Self {
            error_code: Default::default(),
            partition_index: Default::default(),
            leader_id: Default::default(),
            leader_epoch: -1,
            replica_nodes: Default::default(),
            isr_nodes: Default::default(),
            eligible_leader_replicas: None,
            last_known_elr: None,
            offline_replicas: Default::default(),
        }
    }
}

impl Message for DescribeTopicPartitionsResponsePartition {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.error_code = r.i16()?;
        this.partition_index = r.i32()?;
        this.leader_id = r.i32()?;
        this.leader_epoch = r.i32()?;
        this.replica_nodes = r.array(flexible, |r| r.i32())?;
        this.isr_nodes = r.array(flexible, |r| r.i32())?;
        this.eligible_leader_replicas = r.nullable_array(flexible, |r| r.i32())?;
        this.last_known_elr = r.nullable_array(flexible, |r| r.i32())?;
        this.offline_replicas = r.array(flexible, |r| r.i32())?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 0;
        out.error_code(self.error_code);
        out.i32(self.partition_index);
        out.i32(self.leader_id);
        out.i32(self.leader_epoch);
        out.array(&self.replica_nodes, flexible, |out, one| {
            out.i32(*one);
        });
        out.array(&self.isr_nodes, flexible, |out, one| {
            out.i32(*one);
        });
        out.nullable_array(
            self.eligible_leader_replicas.as_deref(),
            flexible,
            |out, one| {
                out.i32(*one);
            },
        );
        out.nullable_array(self.last_known_elr.as_deref(), flexible, |out, one| {
            out.i32(*one);
        });
        out.array(&self.offline_replicas, flexible, |out, one| {
            out.i32(*one);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Cursor {
    pub topic_name: StrBytes,
    pub partition_index: i32,
}

impl Default for Cursor {
    fn default() -> Self {
        Self {
            topic_name: Default::default(),
            partition_index: Default::default(),
        }
    }
}

impl Message for Cursor {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.topic_name = r.string(flexible)?;
        this.partition_index = r.i32()?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 0;
        out.string(&self.topic_name, flexible);
        out.i32(self.partition_index);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
