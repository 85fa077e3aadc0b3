// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use highwater_types::Uuid;

use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};
use crate::{ApiKey, Message, Request};

#[derive(Debug, Clone, PartialEq)]
pub struct FetchRequest {
    pub cluster_id: Option<StrBytes>,
    pub replica_id: i32,
    pub replica_state: ReplicaState,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub isolation_level: i8,
    pub session_id: i32,
    pub session_epoch: i32,
    pub topics: Vec<FetchTopic>,
    pub forgotten_topics_data: Vec<ForgottenTopic>,
    pub rack_id: StrBytes,
}

impl Default for FetchRequest {
    fn default() -> Self {
        Self {
            cluster_id: None,
            replica_id: -1,
            replica_state: Default::default(),
            max_wait_ms: Default::default(),
            min_bytes: Default::default(),
            max_bytes: 0x7fffffff,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            topics: Default::default(),
            forgotten_topics_data: Default::default(),
            rack_id: Default::default(),
        }
    }
}

impl Message for FetchRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut this = Self::default();
        if version <= 14 {
            this.replica_id = r.i32()?;
        }
        this.max_wait_ms = r.i32()?;
        this.min_bytes = r.i32()?;
        this.max_bytes = r.i32()?;
        this.isolation_level = r.i8()?;
        if version >= 7 {
            this.session_id = r.i32()?;
        }
        if version >= 7 {
            this.session_epoch = r.i32()?;
        }
        this.topics = r.array(flexible, |r| FetchTopic::read(r, version))?;
        if version >= 7 {
            this.forgotten_topics_data = r.array(flexible, |r| ForgottenTopic::read(r, version))?;
        }
        if version >= 11 {
            this.rack_id = r.string(flexible)?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                0 if version >= 12 => {
                    this.cluster_id = if version >= 12 {
                        r.nullable_string(flexible)?
                    } else {
                        Some(r.string(flexible)?)
                    };
                    Ok(true)
                }
                1 if version >= 15 => {
                    this.replica_state = ReplicaState::read(r, version)?;
                    Ok(true)
                }
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 12;
        if version <= 14 {
            out.i32(self.replica_id);
        }
        out.i32(self.max_wait_ms);
        out.i32(self.min_bytes);
        out.i32(self.max_bytes);
        out.i8(self.isolation_level);
        if version >= 7 {
            out.i32(self.session_id);
        }
        if version >= 7 {
            out.i32(self.session_epoch);
        }
        out.array(&self.topics, flexible, |out, one| {
            one.write(out, version);
        });
        if version >= 7 {
            out.array(&self.forgotten_topics_data, flexible, |out, one| {
                one.write(out, version);
            });
        }
        if version >= 11 {
            out.string(&self.rack_id, flexible);
        }
        if flexible {
            let mut tagged = 0;
            if version >= 12 && self.cluster_id != None {
                tagged += 1;
            }
            if version >= 15 && self.replica_state != <ReplicaState>::default() {
                tagged += 1;
            }
            out.unsigned_varint(tagged);
            if version >= 12 && self.cluster_id != None {
                out.tagged(0, |out| {
                    if version >= 12 {
                        out.nullable_string(self.cluster_id.as_ref(), flexible);
                    } else {
                        out.string(
                            self.cluster_id.as_ref().unwrap_or(&Default::default()),
                            flexible,
                        );
                    }
                });
            }
            if version >= 15 && self.replica_state != <ReplicaState>::default() {
                out.tagged(1, |out| {
                    self.replica_state.write(out, version);
                });
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaState {
    pub replica_id: i32,
    pub replica_epoch: i64,
}

impl Default for ReplicaState {
    fn default() -> Self {
        Self {
            replica_id: -1,
            replica_epoch: -1,
        }
    }
}

impl Message for ReplicaState {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut this = Self::default();
        if version >= 15 {
            this.replica_id = r.i32()?;
        }
        if version >= 15 {
            this.replica_epoch = r.i64()?;
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
        if version >= 15 {
            out.i32(self.replica_id);
        }
        if version >= 15 {
            out.i64(self.replica_epoch);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct FetchTopic {
    pub topic: StrBytes,
    pub topic_id: Uuid,
    pub partitions: Vec<FetchPartition>,
}

impl Default for FetchTopic {
    fn default() -> Self {
        Self {
            topic: Default::default(),
            topic_id: Default::default(),
            partitions: Default::default(),
        }
    }
}

impl Message for FetchTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut this = Self::default();
        if version <= 12 {
            this.topic = r.string(flexible)?;
        }
        if version >= 13 {
            this.topic_id = r.uuid()?;
        }
        this.partitions = r.array(flexible, |r| FetchPartition::read(r, version))?;
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
pub struct FetchPartition {
    pub partition: i32,
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    pub last_fetched_epoch: i32,
    pub log_start_offset: i64,
    pub partition_max_bytes: i32,
    pub replica_directory_id: Uuid,
    pub high_watermark: i64,
}

impl Default for FetchPartition {
    fn default() -> Self {
        Self {
            partition: Default::default(),
            current_leader_epoch: -1,
            fetch_offset: Default::default(),
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: Default::default(),
            replica_directory_id: Default::default(),
            high_watermark: 9223372036854775807,
        }
    }
}

impl Message for FetchPartition {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut this = Self::default();
        this.partition = r.i32()?;
        if version >= 9 {
            this.current_leader_epoch = r.i32()?;
        }
        this.fetch_offset = r.i64()?;
        if version >= 12 {
            this.last_fetched_epoch = r.i32()?;
        }
        if version >= 5 {
            this.log_start_offset = r.i64()?;
        }
        this.partition_max_bytes = r.i32()?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                0 if version >= 17 => {
                    this.replica_directory_id = r.uuid()?;
                    Ok(true)
                }
                1 if version >= 18 => {
                    this.high_watermark = r.i64()?;
                    Ok(true)
                }
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 12;
        out.i32(self.partition);
        if version >= 9 {
            out.i32(self.current_leader_epoch);
        }
        out.i64(self.fetch_offset);
        if version >= 12 {
            out.i32(self.last_fetched_epoch);
        }
        if version >= 5 {
            out.i64(self.log_start_offset);
        }
        out.i32(self.partition_max_bytes);
        if flexible {
            let mut tagged = 0;
            if version >= 17 && self.replica_directory_id != <Uuid>::default() {
                tagged += 1;
            }
            if version >= 18 && self.high_watermark != 9223372036854775807 {
                tagged += 1;
            }
            out.unsigned_varint(tagged);
            if version >= 17 && self.replica_directory_id != <Uuid>::default() {
                out.tagged(0, |out| {
                    out.uuid(self.replica_directory_id);
                });
            }
            if version >= 18 && self.high_watermark != 9223372036854775807 {
                out.tagged(1, |out| {
                    out.i64(self.high_watermark);
                });
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ForgottenTopic {
    pub topic: StrBytes,
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
}

impl Default for ForgottenTopic {
    fn default() -> Self {
        Self {
            topic: Default::default(),
            topic_id: Default::default(),
            partitions: Default::default(),
        }
    }
}

impl Message for ForgottenTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut this = Self::default();
        if (7..=12).contains(&version) {
            this.topic = r.string(flexible)?;
        }
        if version >= 13 {
            this.topic_id = r.uuid()?;
        }
        if version >= 7 {
            this.partitions = r.array(flexible, |r| r.i32())?;
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
        if (7..=12).contains(&version) {
            out.string(&self.topic, flexible);
        }
        if version >= 13 {
            out.uuid(self.topic_id);
        }
        if version >= 7 {
            out.array(&self.partitions, flexible, |out, one| {
                out.i32(*one);
            });
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

impl Request for FetchRequest {
    const KEY: ApiKey = ApiKey::Fetch;
    const VALID: std::ops::RangeInclusive<i16> = 4..=18;
    const FLEXIBLE_FROM: i16 = 12;
    type Response = super::fetch_response::FetchResponse;
}
