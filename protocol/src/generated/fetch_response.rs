// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use highwater_types::Uuid;

use crate::Message;
use crate::records_field::Records;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct FetchResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub session_id: i32,
    pub responses: Vec<FetchableTopicResponse>,
    pub node_endpoints: Vec<NodeEndpoint>,
}

impl Default for FetchResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            error_code: Default::default(),
            session_id: 0,
            responses: Default::default(),
            node_endpoints: Default::default(),
        }
    }
}

impl Message for FetchResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut this = Self::default();
        this.throttle_time_ms = r.i32()?;
        if version >= 7 {
            this.error_code = r.i16()?;
        }
        if version >= 7 {
            this.session_id = r.i32()?;
        }
        this.responses = r.array(flexible, |r| FetchableTopicResponse::read(r, version))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                0 if version >= 16 => {
                    this.node_endpoints = r.array(flexible, |r| NodeEndpoint::read(r, version))?;
                    Ok(true)
                }
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 12;
        out.i32(self.throttle_time_ms);
        if version >= 7 {
            out.error_code(self.error_code);
        }
        if version >= 7 {
            out.i32(self.session_id);
        }
        out.array(&self.responses, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            if version >= 16 && self.node_endpoints != <Vec<NodeEndpoint>>::default() {
                tagged += 1;
            }
            out.unsigned_varint(tagged);
            if version >= 16 && self.node_endpoints != <Vec<NodeEndpoint>>::default() {
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
pub struct FetchableTopicResponse {
    pub topic: StrBytes,
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionData>,
}

impl Default for FetchableTopicResponse {
    fn default() -> Self {
        Self {
            topic: Default::default(),
            topic_id: Default::default(),
            partitions: Default::default(),
        }
    }
}

impl Message for FetchableTopicResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut this = Self::default();
        if version <= 12 {
            this.topic = r.string(flexible)?;
        }
        if version >= 13 {
            this.topic_id = r.uuid()?;
        }
        this.partitions = r.array(flexible, |r| PartitionData::read(r, version))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 12;
        if version <= 12 {
            out.string(&self.topic, flexible);
        }
        if version >= 13 {
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
pub struct PartitionData {
    pub partition_index: i32,
    pub error_code: i16,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    pub diverging_epoch: EpochEndOffset,
    pub current_leader: LeaderIdAndEpoch,
    pub snapshot_id: SnapshotId,
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    pub preferred_read_replica: i32,
    pub records: Option<Records>,
}

impl Default for PartitionData {
    fn default() -> Self {
        Self {
            partition_index: Default::default(),
            error_code: Default::default(),
            high_watermark: Default::default(),
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: Default::default(),
            current_leader: Default::default(),
            snapshot_id: Default::default(),
            aborted_transactions: Some(Default::default()),
            preferred_read_replica: -1,
            records: Some(Default::default()),
        }
    }
}

impl Message for PartitionData {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut this = Self::default();
        this.partition_index = r.i32()?;
        this.error_code = r.i16()?;
        this.high_watermark = r.i64()?;
        this.last_stable_offset = r.i64()?;
        if version >= 5 {
            this.log_start_offset = r.i64()?;
        }
        this.aborted_transactions =
            r.nullable_array(flexible, |r| AbortedTransaction::read(r, version))?;
        if version >= 11 {
            this.preferred_read_replica = r.i32()?;
        }
        this.records = r.nullable_records(flexible)?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                0 if version >= 12 => {
                    this.diverging_epoch = EpochEndOffset::read(r, version)?;
                    Ok(true)
                }
                1 if version >= 12 => {
                    this.current_leader = LeaderIdAndEpoch::read(r, version)?;
                    Ok(true)
                }
                2 if version >= 12 => {
                    this.snapshot_id = SnapshotId::read(r, version)?;
                    Ok(true)
                }
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 12;
        out.i32(self.partition_index);
        out.error_code(self.error_code);
        out.i64(self.high_watermark);
        out.i64(self.last_stable_offset);
        if version >= 5 {
            out.i64(self.log_start_offset);
        }
        out.nullable_array(
            self.aborted_transactions.as_deref(),
            flexible,
            |out, one| {
                one.write(out, version);
            },
        );
        if version >= 11 {
            out.i32(self.preferred_read_replica);
        }
        out.nullable_records(self.records.as_ref(), flexible);
        if flexible {
            let mut tagged = 0;
            if version >= 12 && self.diverging_epoch != <EpochEndOffset>::default() {
                tagged += 1;
            }
            if version >= 12 && self.current_leader != <LeaderIdAndEpoch>::default() {
                tagged += 1;
            }
            if version >= 12 && self.snapshot_id != <SnapshotId>::default() {
                tagged += 1;
            }
            out.unsigned_varint(tagged);
            if version >= 12 && self.diverging_epoch != <EpochEndOffset>::default() {
                out.tagged(0, |out| {
                    self.diverging_epoch.write(out, version);
                });
            }
            if version >= 12 && self.current_leader != <LeaderIdAndEpoch>::default() {
                out.tagged(1, |out| {
                    self.current_leader.write(out, version);
                });
            }
            if version >= 12 && self.snapshot_id != <SnapshotId>::default() {
                out.tagged(2, |out| {
                    self.snapshot_id.write(out, version);
                });
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct EpochEndOffset {
    pub epoch: i32,
    pub end_offset: i64,
}

impl Default for EpochEndOffset {
    fn default() -> Self {
        Self {
            epoch: -1,
            end_offset: -1,
        }
    }
}

impl Message for EpochEndOffset {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut this = Self::default();
        if version >= 12 {
            this.epoch = r.i32()?;
        }
        if version >= 12 {
            this.end_offset = r.i64()?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 12;
        if version >= 12 {
            out.i32(self.epoch);
        }
        if version >= 12 {
            out.i64(self.end_offset);
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
        let flexible = version >= 12;
        let mut this = Self::default();
        if version >= 12 {
            this.leader_id = r.i32()?;
        }
        if version >= 12 {
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
        let flexible = version >= 12;
        if version >= 12 {
            out.i32(self.leader_id);
        }
        if version >= 12 {
            out.i32(self.leader_epoch);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotId {
    pub end_offset: i64,
    pub epoch: i32,
}

impl Default for SnapshotId {
    fn default() -> Self {
        Self {
            end_offset: -1,
            epoch: -1,
        }
    }
}

impl Message for SnapshotId {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut this = Self::default();
        this.end_offset = r.i64()?;
        this.epoch = r.i32()?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 12;
        out.i64(self.end_offset);
        out.i32(self.epoch);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

impl Default for AbortedTransaction {
    fn default() -> Self {
        Self {
            producer_id: Default::default(),
            first_offset: Default::default(),
        }
    }
}

impl Message for AbortedTransaction {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut this = Self::default();
        this.producer_id = r.i64()?;
        this.first_offset = r.i64()?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 12;
        out.i64(self.producer_id);
        out.i64(self.first_offset);
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
        let flexible = version >= 12;
        let mut this = Self::default();
        if version >= 16 {
            this.node_id = r.i32()?;
        }
        if version >= 16 {
            this.host = r.string(flexible)?;
        }
        if version >= 16 {
            this.port = r.i32()?;
        }
        if version >= 16 {
            this.rack = if version >= 16 {
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
        let flexible = version >= 12;
        if version >= 16 {
            out.i32(self.node_id);
        }
        if version >= 16 {
            out.string(&self.host, flexible);
        }
        if version >= 16 {
            out.i32(self.port);
        }
        if version >= 16 {
            if version >= 16 {
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
