// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct AddPartitionsToTxnResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub results_by_transaction: Vec<AddPartitionsToTxnResult>,
    pub results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult>,
}

impl Default for AddPartitionsToTxnResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            error_code: Default::default(),
            results_by_transaction: Default::default(),
            results_by_topic_v3_and_below: Default::default(),
        }
    }
}

impl Message for AddPartitionsToTxnResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        this.throttle_time_ms = r.i32()?;
        if version >= 4 {
            this.error_code = r.i16()?;
        }
        if version >= 4 {
            this.results_by_transaction =
                r.array(flexible, |r| AddPartitionsToTxnResult::read(r, version))?;
        }
        if version <= 3 {
            this.results_by_topic_v3_and_below = r.array(flexible, |r| {
                AddPartitionsToTxnTopicResult::read(r, version)
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
        let flexible = version >= 3;
        out.i32(self.throttle_time_ms);
        if version >= 4 {
            out.error_code(self.error_code);
        }
        if version >= 4 {
            out.array(&self.results_by_transaction, flexible, |out, one| {
                one.write(out, version);
            });
        }
        if version <= 3 {
            out.array(&self.results_by_topic_v3_and_below, flexible, |out, one| {
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
pub struct AddPartitionsToTxnResult {
    pub transactional_id: StrBytes,
    pub topic_results: Vec<AddPartitionsToTxnTopicResult>,
}

impl Default for AddPartitionsToTxnResult {
    fn default() -> Self {
        Self {
            transactional_id: Default::default(),
            topic_results: Default::default(),
        }
    }
}

impl Message for AddPartitionsToTxnResult {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        if version >= 4 {
            this.transactional_id = r.string(flexible)?;
        }
        if version >= 4 {
            this.topic_results = r.array(flexible, |r| {
                AddPartitionsToTxnTopicResult::read(r, version)
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
        let flexible = version >= 3;
        if version >= 4 {
            out.string(&self.transactional_id, flexible);
        }
        if version >= 4 {
            out.array(&self.topic_results, flexible, |out, one| {
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
pub struct AddPartitionsToTxnTopicResult {
    pub name: StrBytes,
    pub results_by_partition: Vec<AddPartitionsToTxnPartitionResult>,
}

impl Default for AddPartitionsToTxnTopicResult {
    fn default() -> Self {
        Self {
            name: Default::default(),
            results_by_partition: Default::default(),
        }
    }
}

impl Message for AddPartitionsToTxnTopicResult {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        this.name = r.string(flexible)?;
        this.results_by_partition = r.array(flexible, |r| {
            AddPartitionsToTxnPartitionResult::read(r, version)
        })?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 3;
        out.string(&self.name, flexible);
        out.array(&self.results_by_partition, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct AddPartitionsToTxnPartitionResult {
    pub partition_index: i32,
    pub partition_error_code: i16,
}

impl Default for AddPartitionsToTxnPartitionResult {
    fn default() -> Self {
        Self {
            partition_index: Default::default(),
            partition_error_code: Default::default(),
        }
    }
}

impl Message for AddPartitionsToTxnPartitionResult {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        this.partition_index = r.i32()?;
        this.partition_error_code = r.i16()?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 3;
        out.i32(self.partition_index);
        out.error_code(self.partition_error_code);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
