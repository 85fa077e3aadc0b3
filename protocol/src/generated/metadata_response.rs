// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use highwater_types::Uuid;

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct MetadataResponse {
    pub throttle_time_ms: i32,
    pub brokers: Vec<MetadataResponseBroker>,
    pub cluster_id: Option<StrBytes>,
    pub controller_id: i32,
    pub topics: Vec<MetadataResponseTopic>,
    pub cluster_authorized_operations: i32,
    pub error_code: i16,
}

impl Default for MetadataResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            brokers: Default::default(),
            cluster_id: None,
            controller_id: -1,
            topics: Default::default(),
            cluster_authorized_operations: -2147483648,
            error_code: Default::default(),
        }
    }
}

impl Message for MetadataResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut this = Self::default();
        if version >= 3 {
            this.throttle_time_ms = r.i32()?;
        }
        this.brokers = r.array(flexible, |r| MetadataResponseBroker::read(r, version))?;
        if version >= 2 {
            this.cluster_id = if version >= 2 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        if version >= 1 {
            this.controller_id = r.i32()?;
        }
        this.topics = r.array(flexible, |r| MetadataResponseTopic::read(r, version))?;
        if (8..=10).contains(&version) {
            this.cluster_authorized_operations = r.i32()?;
        }
        if version >= 13 {
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
        let flexible = version >= 9;
        if version >= 3 {
            out.i32(self.throttle_time_ms);
        }
        out.array(&self.brokers, flexible, |out, one| {
            one.write(out, version);
        });
        if version >= 2 {
            if version >= 2 {
                out.nullable_string(self.cluster_id.as_ref(), flexible);
            } else {
                out.string(
                    self.cluster_id.as_ref().unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        if version >= 1 {
            out.i32(self.controller_id);
        }
        out.array(&self.topics, flexible, |out, one| {
            one.write(out, version);
        });
        if (8..=10).contains(&version) {
            out.i32(self.cluster_authorized_operations);
        }
        if version >= 13 {
            out.error_code(self.error_code);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct MetadataResponseBroker {
    pub node_id: i32,
    pub host: StrBytes,
    pub port: i32,
    pub rack: Option<StrBytes>,
}

impl Default for MetadataResponseBroker {
    fn default() -> Self {
        Self {
            node_id: Default::default(),
            host: Default::default(),
            port: Default::default(),
            rack: None,
        }
    }
}

impl Message for MetadataResponseBroker {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut this = Self::default();
        this.node_id = r.i32()?;
        this.host = r.string(flexible)?;
        this.port = r.i32()?;
        if version >= 1 {
            this.rack = if version >= 1 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 9;
        out.i32(self.node_id);
        out.string(&self.host, flexible);
        out.i32(self.port);
        if version >= 1 {
            if version >= 1 {
                out.nullable_string(self.rack.as_ref(), flexible);
            } else {
                out.string(self.rack.as_ref().unwrap_or(&Default::default()), flexible);
            }
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct MetadataResponseTopic {
    pub error_code: i16,
    pub name: Option<StrBytes>,
    pub topic_id: Uuid,
    pub is_internal: bool,
    pub partitions: Vec<MetadataResponsePartition>,
    pub topic_authorized_operations: i32,
}

impl Default for MetadataResponseTopic {
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

impl Message for MetadataResponseTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut this = Self::default();
        this.error_code = r.i16()?;
        this.name = if version >= 12 {
            r.nullable_string(flexible)?
        } else {
            Some(r.string(flexible)?)
        };
        if version >= 10 {
            this.topic_id = r.uuid()?;
        }
        if version >= 1 {
            this.is_internal = r.bool()?;
        }
        this.partitions = r.array(flexible, |r| MetadataResponsePartition::read(r, version))?;
        if version >= 8 {
            this.topic_authorized_operations = r.i32()?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 9;
        out.error_code(self.error_code);
        if version >= 12 {
            out.nullable_string(self.name.as_ref(), flexible);
        } else {
            out.string(self.name.as_ref().unwrap_or(&Default::default()), flexible);
        }
        if version >= 10 {
            out.uuid(self.topic_id);
        }
        if version >= 1 {
            out.bool(self.is_internal);
        }
        out.array(&self.partitions, flexible, |out, one| {
            one.write(out, version);
        });
        if version >= 8 {
            out.i32(self.topic_authorized_operations);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct MetadataResponsePartition {
    pub error_code: i16,
    pub partition_index: i32,
    pub leader_id: i32,
    pub leader_epoch: i32,
    pub replica_nodes: Vec<i32>,
    pub isr_nodes: Vec<i32>,
    pub offline_replicas: Vec<i32>,
}

impl Default for MetadataResponsePartition {
    fn default() -> Self {
        Self {
            error_code: Default::default(),
            partition_index: Default::default(),
            leader_id: Default::default(),
            leader_epoch: -1,
            replica_nodes: Default::default(),
            isr_nodes: Default::default(),
            offline_replicas: Default::default(),
        }
    }
}

impl Message for MetadataResponsePartition {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut this = Self::default();
        this.error_code = r.i16()?;
        this.partition_index = r.i32()?;
        this.leader_id = r.i32()?;
        if version >= 7 {
            this.leader_epoch = r.i32()?;
        }
        this.replica_nodes = r.array(flexible, |r| r.i32())?;
        this.isr_nodes = r.array(flexible, |r| r.i32())?;
        if version >= 5 {
            this.offline_replicas = r.array(flexible, |r| r.i32())?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 9;
        out.error_code(self.error_code);
        out.i32(self.partition_index);
        out.i32(self.leader_id);
        if version >= 7 {
            out.i32(self.leader_epoch);
        }
        out.array(&self.replica_nodes, flexible, |out, one| {
            out.i32(*one);
        });
        out.array(&self.isr_nodes, flexible, |out, one| {
            out.i32(*one);
        });
        if version >= 5 {
            out.array(&self.offline_replicas, flexible, |out, one| {
                out.i32(*one);
            });
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
