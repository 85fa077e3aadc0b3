// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};
use crate::{ApiKey, Message, Request};

#[derive(Debug, Clone, PartialEq)]
pub struct ElectLeadersRequest {
    pub election_type: i8,
    pub topic_partitions: Option<Vec<TopicPartitions>>,
    pub timeout_ms: i32,
}

impl Default for ElectLeadersRequest {
    fn default() -> Self {
        Self {
            election_type: Default::default(),
            topic_partitions: Some(Default::default()),
            timeout_ms: 60000,
        }
    }
}

impl Message for ElectLeadersRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 2;
        let mut this = Self::default();
        if version >= 1 {
            this.election_type = r.i8()?;
        }
        this.topic_partitions =
            r.nullable_array(flexible, |r| TopicPartitions::read(r, version))?;
        this.timeout_ms = r.i32()?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 2;
        if version >= 1 {
            out.i8(self.election_type);
        }
        out.nullable_array(self.topic_partitions.as_deref(), flexible, |out, one| {
            one.write(out, version);
        });
        out.i32(self.timeout_ms);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct TopicPartitions {
    pub topic: StrBytes,
    pub partitions: Vec<i32>,
}

impl Default for TopicPartitions {
    fn default() -> Self {
        Self {
            topic: Default::default(),
            partitions: Default::default(),
        }
    }
}

impl Message for TopicPartitions {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 2;
        let mut this = Self::default();
        this.topic = r.string(flexible)?;
        this.partitions = r.array(flexible, |r| r.i32())?;
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
        out.array(&self.partitions, flexible, |out, one| {
            out.i32(*one);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

impl Request for ElectLeadersRequest {
    const KEY: ApiKey = ApiKey::ElectLeaders;
    const VALID: std::ops::RangeInclusive<i16> = 0..=2;
    const FLEXIBLE_FROM: i16 = 2;
    type Response = super::elect_leaders_response::ElectLeadersResponse;
}
