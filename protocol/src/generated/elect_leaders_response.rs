// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct ElectLeadersResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub replica_election_results: Vec<ReplicaElectionResult>,
}

impl Default for ElectLeadersResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            error_code: Default::default(),
            replica_election_results: Default::default(),
        }
    }
}

impl Message for ElectLeadersResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 2;
        let mut this = Self::default();
        this.throttle_time_ms = r.i32()?;
        if version >= 1 {
            this.error_code = r.i16()?;
        }
        this.replica_election_results =
            r.array(flexible, |r| ReplicaElectionResult::read(r, version))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 2;
        out.i32(self.throttle_time_ms);
        if version >= 1 {
            out.error_code(self.error_code);
        }
        out.array(&self.replica_election_results, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaElectionResult {
    pub topic: StrBytes,
    pub partition_result: Vec<PartitionResult>,
}

impl Default for ReplicaElectionResult {
    fn default() -> Self {
        Self {
            topic: Default::default(),
            partition_result: Default::default(),
        }
    }
}

impl Message for ReplicaElectionResult {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 2;
        let mut this = Self::default();
        this.topic = r.string(flexible)?;
        this.partition_result = r.array(flexible, |r| PartitionResult::read(r, version))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 2;
        out.string(&self.topic, flexible);
        out.array(&self.partition_result, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct PartitionResult {
    pub partition_id: i32,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
}

impl Default for PartitionResult {
    fn default() -> Self {
        Self {
            partition_id: Default::default(),
            error_code: Default::default(),
            error_message: Some(Default::default()),
        }
    }
}

impl Message for PartitionResult {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 2;
        let mut this = Self::default();
        this.partition_id = r.i32()?;
        this.error_code = r.i16()?;
        this.error_message = r.nullable_string(flexible)?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 2;
        out.i32(self.partition_id);
        out.error_code(self.error_code);
        out.nullable_string(self.error_message.as_ref(), flexible);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
