// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};
use crate::{ApiKey, Message, Request};

#[derive(Debug, Clone, PartialEq)]
pub struct AddPartitionsToTxnRequest {
    pub transactions: Vec<AddPartitionsToTxnTransaction>,
    pub v3_and_below_transactional_id: StrBytes,
    pub v3_and_below_producer_id: i64,
    pub v3_and_below_producer_epoch: i16,
    pub v3_and_below_topics: Vec<AddPartitionsToTxnTopic>,
}

impl Default for AddPartitionsToTxnRequest {
    fn default() -> Self {
        Self {
            transactions: Default::default(),
            v3_and_below_transactional_id: Default::default(),
            v3_and_below_producer_id: Default::default(),
            v3_and_below_producer_epoch: Default::default(),
            v3_and_below_topics: Default::default(),
        }
    }
}

impl Message for AddPartitionsToTxnRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        if version >= 4 {
            this.transactions = r.array(flexible, |r| {
                AddPartitionsToTxnTransaction::read(r, version)
            })?;
        }
        if version <= 3 {
            this.v3_and_below_transactional_id = r.string(flexible)?;
        }
        if version <= 3 {
            this.v3_and_below_producer_id = r.i64()?;
        }
        if version <= 3 {
            this.v3_and_below_producer_epoch = r.i16()?;
        }
        if version <= 3 {
            this.v3_and_below_topics =
                r.array(flexible, |r| AddPartitionsToTxnTopic::read(r, version))?;
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
            out.array(&self.transactions, flexible, |out, one| {
                one.write(out, version);
            });
        }
        if version <= 3 {
            out.string(&self.v3_and_below_transactional_id, flexible);
        }
        if version <= 3 {
            out.i64(self.v3_and_below_producer_id);
        }
        if version <= 3 {
            out.i16(self.v3_and_below_producer_epoch);
        }
        if version <= 3 {
            out.array(&self.v3_and_below_topics, flexible, |out, one| {
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
pub struct AddPartitionsToTxnTransaction {
    pub transactional_id: StrBytes,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub verify_only: bool,
    pub topics: Vec<AddPartitionsToTxnTopic>,
}

impl Default for AddPartitionsToTxnTransaction {
    fn default() -> Self {
        Self {
            transactional_id: Default::default(),
            producer_id: Default::default(),
            producer_epoch: Default::default(),
            verify_only: false,
            topics: Default::default(),
        }
    }
}

impl Message for AddPartitionsToTxnTransaction {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        if version >= 4 {
            this.transactional_id = r.string(flexible)?;
        }
        if version >= 4 {
            this.producer_id = r.i64()?;
        }
        if version >= 4 {
            this.producer_epoch = r.i16()?;
        }
        if version >= 4 {
            this.verify_only = r.bool()?;
        }
        if version >= 4 {
            this.topics = r.array(flexible, |r| AddPartitionsToTxnTopic::read(r, version))?;
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
            out.i64(self.producer_id);
        }
        if version >= 4 {
            out.i16(self.producer_epoch);
        }
        if version >= 4 {
            out.bool(self.verify_only);
        }
        if version >= 4 {
            out.array(&self.topics, flexible, |out, one| {
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
pub struct AddPartitionsToTxnTopic {
    pub name: StrBytes,
    pub partitions: Vec<i32>,
}

impl Default for AddPartitionsToTxnTopic {
    fn default() -> Self {
        Self {
            name: Default::default(),
            partitions: Default::default(),
        }
    }
}

impl Message for AddPartitionsToTxnTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        this.name = r.string(flexible)?;
        this.partitions = r.array(flexible, |r| r.i32())?;
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
        out.array(&self.partitions, flexible, |out, one| {
            out.i32(*one);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

impl Request for AddPartitionsToTxnRequest {
    const KEY: ApiKey = ApiKey::AddPartitionsToTxn;
    const VALID: std::ops::RangeInclusive<i16> = 0..=5;
    const FLEXIBLE_FROM: i16 = 3;
    type Response = super::add_partitions_to_txn_response::AddPartitionsToTxnResponse;
}
