// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};
use crate::{ApiKey, Message, Request};

#[derive(Debug, Clone, PartialEq)]
pub struct DescribeLogDirsRequest {
    pub topics: Option<Vec<DescribableLogDirTopic>>,
}

impl Default for DescribeLogDirsRequest {
    fn default() -> Self {
        Self {
            topics: Some(Default::default()),
        }
    }
}

impl Message for DescribeLogDirsRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 2;
        let mut this = Self::default();
        this.topics = r.nullable_array(flexible, |r| DescribableLogDirTopic::read(r, version))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 2;
        out.nullable_array(self.topics.as_deref(), flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribableLogDirTopic {
    pub topic: StrBytes,
    pub partitions: Vec<i32>,
}

impl Default for DescribableLogDirTopic {
    fn default() -> Self {
        Self {
            topic: Default::default(),
            partitions: Default::default(),
        }
    }
}

impl Message for DescribableLogDirTopic {
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

impl Request for DescribeLogDirsRequest {
    const KEY: ApiKey = ApiKey::DescribeLogDirs;
    const VALID: std::ops::RangeInclusive<i16> = 1..=5;
    const FLEXIBLE_FROM: i16 = 2;
    type Response = super::describe_log_dirs_response::DescribeLogDirsResponse;
}
