// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use highwater_types::Uuid;

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct ProduceResponse {
    pub responses: Vec<TopicProduceResponse>,
    pub throttle_time_ms: i32,
    pub node_endpoints: Vec<NodeEndpoint>,
}

impl Default for ProduceResponse {
    fn default() -> Self {
        Self {
            responses: Default::default(),
            throttle_time_ms: 0,
            node_endpoints: Default::default(),
        }
    }
}

impl Message for ProduceResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut this = Self::default();
        this.responses = r.array(flexible, |r| TopicProduceResponse::read(r, version))?;
        this.throttle_time_ms = r.i32()?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                0 if version >= 10 => {
                    this.node_endpoints = r.array(flexible, |r| NodeEndpoint::read(r, version))?;
                    Ok(true)
                }
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 9;
        out.array(&self.responses, flexible, |out, one| {
            one.write(out, version);
        });
        out.i32(self.throttle_time_ms);
        if flexible {
            let mut tagged = 0;
            if version >= 10 && self.node_endpoints != <Vec<NodeEndpoint>>::default() {
                tagged += 1;
            }
            out.unsigned_varint(tagged);
            if version >= 10 && self.node_endpoints != <Vec<NodeEndpoint>>::default() {
                out.tagged(0, |out| {
                    out.array(&self.node_endpoints, flexible, |out, one| {
                        one.write(out, version);
                    });
                });
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct TopicProduceResponse {
    pub name: StrBytes,
    pub topic_id: Uuid,
    pub partition_responses: Vec<PartitionProduceResponse>,
}

impl Default for TopicProduceResponse {
    fn default() -> Self {
        Self {
            name: Default::default(),
            topic_id: Default::default(),
            partition_responses: Default::default(),
        }
    }
}

impl Message for TopicProduceResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut this = Self::default();
        if version <= 12 {
            this.name = r.string(flexible)?;
        }
        if version >= 13 {
            this.topic_id = r.uuid()?;
        }
        this.partition_responses =
            r.array(flexible, |r| PartitionProduceResponse::read(r, version))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 9;
        if version <= 12 {
            out.string(&self.name, flexible);
        }
        if version >= 13 {
            out.uuid(self.topic_id);
        }
        out.array(&self.partition_responses, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct PartitionProduceResponse {
    pub index: i32,
    pub error_code: i16,
    pub base_offset: i64,
    pub log_append_time_ms: i64,
    pub log_start_offset: i64,
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    pub error_message: Option<StrBytes>,
    pub current_leader: LeaderIdAndEpoch,
}

impl Default for PartitionProduceResponse {
    fn default() -> Self {
        Self {
            index: Default::default(),
            error_code: Default::default(),
            base_offset: Default::default(),
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Default::default(),
            error_message: None,
            current_leader: Default::default(),
        }
    }
}

impl Message for PartitionProduceResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut this = Self::default();
        this.index = r.i32()?;
        this.error_code = r.i16()?;
        this.base_offset = r.i64()?;
        this.log_append_time_ms = r.i64()?;
        if version >= 5 {
            this.log_start_offset = r.i64()?;
        }
        if version >= 8 {
            this.record_errors =
                r.array(flexible, |r| BatchIndexAndErrorMessage::read(r, version))?;
        }
        if version >= 8 {
            this.error_message = if version >= 8 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                0 if version >= 10 => {
                    this.current_leader = LeaderIdAndEpoch::read(r, version)?;
                    Ok(true)
                }
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 9;
        out.i32(self.index);
        out.error_code(self.error_code);
        out.i64(self.base_offset);
        out.i64(self.log_append_time_ms);
        if version >= 5 {
            out.i64(self.log_start_offset);
        }
        if version >= 8 {
            out.array(&self.record_errors, flexible, |out, one| {
                one.write(out, version);
            });
        }
        if version >= 8 {
            if version >= 8 {
                out.nullable_string(self.error_message.as_ref(), flexible);
            } else {
                out.string(
                    self.error_message.as_ref().unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        if flexible {
            let mut tagged = 0;
            if version >= 10 && self.current_leader != <LeaderIdAndEpoch>::default() {
                tagged += 1;
            }
            out.unsigned_varint(tagged);
            if version >= 10 && self.current_leader != <LeaderIdAndEpoch>::default() {
                out.tagged(0, |out| {
                    self.current_leader.write(out, version);
                });
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct BatchIndexAndErrorMessage {
    pub batch_index: i32,
    pub batch_index_error_message: Option<StrBytes>,
}

impl Default for BatchIndexAndErrorMessage {
    fn default() -> Self {
        Self {
            batch_index: Default::default(),
            batch_index_error_message: None,
        }
    }
}

impl Message for BatchIndexAndErrorMessage {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut this = Self::default();
        if version >= 8 {
            this.batch_index = r.i32()?;
        }
        if version >= 8 {
            this.batch_index_error_message = if version >= 8 {
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
        if version >= 8 {
            out.i32(self.batch_index);
        }
        if version >= 8 {
            if version >= 8 {
                out.nullable_string(self.batch_index_error_message.as_ref(), flexible);
            } else {
                out.string(
                    self.batch_index_error_message
                        .as_ref()
                        .unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct LeaderIdAndEpoch {
    pub leader_id: i32,
    pub leader_epoch: i32,
}

impl Default for LeaderIdAndEpoch {
    fn default() -> Self {
        Self {
            leader_id: -1,
            leader_epoch: -1,
        }
    }
}

impl Message for LeaderIdAndEpoch {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut this = Self::default();
        if version >= 10 {
            this.leader_id = r.i32()?;
        }
        if version >= 10 {
            this.leader_epoch = r.i32()?;
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
        if version >= 10 {
            out.i32(self.leader_id);
        }
        if version >= 10 {
            out.i32(self.leader_epoch);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: StrBytes,
    pub port: i32,
    pub rack: Option<StrBytes>,
}

impl Default for NodeEndpoint {
    fn default() -> Self {
        Self {
            node_id: Default::default(),
            host: Default::default(),
            port: Default::default(),
            rack: None,
        }
    }
}

impl Message for NodeEndpoint {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut this = Self::default();
        if version >= 10 {
            this.node_id = r.i32()?;
        }
        if version >= 10 {
            this.host = r.string(flexible)?;
        }
        if version >= 10 {
            this.port = r.i32()?;
        }
        if version >= 10 {
            this.rack = if version >= 10 {
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
        if version >= 10 {
            out.i32(self.node_id);
        }
        if version >= 10 {
            out.string(&self.host, flexible);
        }
        if version >= 10 {
            out.i32(self.port);
        }
        if version >= 10 {
            if version >= 10 {
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
