// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use highwater_types::Uuid;

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct DescribeQuorumResponse {
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
    pub topics: Vec<TopicData>,
    pub nodes: Vec<Node>,
}

impl Default for DescribeQuorumResponse {
    fn default() -> Self {
        Self {
            error_code: Default::default(),
            error_message: Some(Default::default()),
            topics: Default::default(),
            nodes: Default::default(),
        }
    }
}

impl Message for DescribeQuorumResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.error_code = r.i16()?;
        if version >= 2 {
            this.error_message = if version >= 2 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        this.topics = r.array(flexible, |r| TopicData::read(r, version))?;
        if version >= 2 {
            this.nodes = r.array(flexible, |r| Node::read(r, version))?;
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
        out.error_code(self.error_code);
        if version >= 2 {
            if version >= 2 {
                out.nullable_string(self.error_message.as_ref(), flexible);
            } else {
                out.string(
                    self.error_message.as_ref().unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        out.array(&self.topics, flexible, |out, one| {
            one.write(out, version);
        });
        if version >= 2 {
            out.array(&self.nodes, flexible, |out, one| {
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
pub struct TopicData {
    pub topic_name: StrBytes,
    pub partitions: Vec<PartitionData>,
}

impl Default for TopicData {
    fn default() -> Self {
        Self {
            topic_name: Default::default(),
            partitions: Default::default(),
        }
    }
}

impl Message for TopicData {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.topic_name = r.string(flexible)?;
        this.partitions = r.array(flexible, |r| PartitionData::read(r, version))?;
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
pub struct PartitionData {
    pub partition_index: i32,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
    pub leader_id: i32,
    pub leader_epoch: i32,
    pub high_watermark: i64,
    pub current_voters: Vec<ReplicaState>,
    pub observers: Vec<ReplicaState>,
}

impl Default for PartitionData {
    fn default() -> Self {
        Self {
            partition_index: Default::default(),
            error_code: Default::default(),
            error_message: Some(Default::default()),
            leader_id: Default::default(),
            leader_epoch: Default::default(),
            high_watermark: Default::default(),
            current_voters: Default::default(),
            observers: Default::default(),
        }
    }
}

impl Message for PartitionData {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.partition_index = r.i32()?;
        this.error_code = r.i16()?;
        if version >= 2 {
            this.error_message = if version >= 2 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        this.leader_id = r.i32()?;
        this.leader_epoch = r.i32()?;
        this.high_watermark = r.i64()?;
        this.current_voters = r.array(flexible, |r| ReplicaState::read(r, version))?;
        this.observers = r.array(flexible, |r| ReplicaState::read(r, version))?;
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
        out.error_code(self.error_code);
        if version >= 2 {
            if version >= 2 {
                out.nullable_string(self.error_message.as_ref(), flexible);
            } else {
                out.string(
                    self.error_message.as_ref().unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        out.i32(self.leader_id);
        out.i32(self.leader_epoch);
        out.i64(self.high_watermark);
        out.array(&self.current_voters, flexible, |out, one| {
            one.write(out, version);
        });
        out.array(&self.observers, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub node_id: i32,
    pub listeners: Vec<Listener>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            node_id: Default::default(),
            listeners: Default::default(),
        }
    }
}

impl Message for Node {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        if version >= 2 {
            this.node_id = r.i32()?;
        }
        if version >= 2 {
            this.listeners = r.array(flexible, |r| Listener::read(r, version))?;
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
        if version >= 2 {
            out.i32(self.node_id);
        }
        if version >= 2 {
            out.array(&self.listeners, flexible, |out, one| {
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
pub struct Listener {
    pub name: StrBytes,
    pub host: StrBytes,
    pub port: u16,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            name: Default::default(),
            host: Default::default(),
            port: Default::default(),
        }
    }
}

impl Message for Listener {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        if version >= 2 {
            this.name = r.string(flexible)?;
        }
        if version >= 2 {
            this.host = r.string(flexible)?;
        }
        if version >= 2 {
            this.port = r.u16()?;
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
        if version >= 2 {
            out.string(&self.name, flexible);
        }
        if version >= 2 {
            out.string(&self.host, flexible);
        }
        if version >= 2 {
            out.u16(self.port);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaState {
    pub replica_id: i32,
    pub replica_directory_id: Uuid,
    pub log_end_offset: i64,
    pub last_fetch_timestamp: i64,
    pub last_caught_up_timestamp: i64,
}

impl Default for ReplicaState {
    fn default() -> Self {
        Self {
            replica_id: Default::default(),
            replica_directory_id: Default::default(),
            log_end_offset: Default::default(),
            last_fetch_timestamp: -1,
            last_caught_up_timestamp: -1,
        }
    }
}

impl Message for ReplicaState {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 0;
        let mut this = Self::default();
        this.replica_id = r.i32()?;
        if version >= 2 {
            this.replica_directory_id = r.uuid()?;
        }
        this.log_end_offset = r.i64()?;
        if version >= 1 {
            this.last_fetch_timestamp = r.i64()?;
        }
        if version >= 1 {
            this.last_caught_up_timestamp = r.i64()?;
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
        out.i32(self.replica_id);
        if version >= 2 {
            out.uuid(self.replica_directory_id);
        }
        out.i64(self.log_end_offset);
        if version >= 1 {
            out.i64(self.last_fetch_timestamp);
        }
        if version >= 1 {
            out.i64(self.last_caught_up_timestamp);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
