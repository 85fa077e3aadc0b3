// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use highwater_types::Uuid;

use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};
use crate::{ApiKey, Message, Request};

#[derive(Debug, Clone, PartialEq)]
pub struct DeleteTopicsRequest {
    pub topics: Vec<DeleteTopicState>,
    pub topic_names: Vec<StrBytes>,
    pub timeout_ms: i32,
}

impl Default for DeleteTopicsRequest {
    fn default() -> Self {
        Self {
            topics: Default::default(),
            topic_names: Default::default(),
            timeout_ms: Default::default(),
        }
    }
}

impl Message for DeleteTopicsRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        if version >= 6 {
            this.topics = r.array(flexible, |r| DeleteTopicState::read(r, version))?;
        }
        if version <= 5 {
            this.topic_names = r.array(flexible, |r| r.string(flexible))?;
        }
        this.timeout_ms = r.i32()?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 4;
        if version >= 6 {
            out.array(&self.topics, flexible, |out, one| {
                one.write(out, version);
            });
        }
        if version <= 5 {
            out.array(&self.topic_names, flexible, |out, one| {
                out.string(&one, flexible);
            });
        }
        out.i32(self.timeout_ms);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DeleteTopicState {
    pub name: Option<StrBytes>,
    pub topic_id: Uuid,
}

impl Default for DeleteTopicState {
    fn default() -> Self {
        Self {
            name: None,
            topic_id: Default::default(),
        }
    }
}

impl Message for DeleteTopicState {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        if version >= 6 {
            this.name = if version >= 6 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        if version >= 6 {
            this.topic_id = r.uuid()?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 4;
        if version >= 6 {
            if version >= 6 {
                out.nullable_string(self.name.as_ref(), flexible);
            } else {
                out.string(self.name.as_ref().unwrap_or(&Default::default()), flexible);
            }
        }
        if version >= 6 {
            out.uuid(self.topic_id);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

impl Request for DeleteTopicsRequest {
    const KEY: ApiKey = ApiKey::DeleteTopics;
    const VALID: std::ops::RangeInclusive<i16> = 1..=6;
    const FLEXIBLE_FROM: i16 = 4;
    type Response = super::delete_topics_response::DeleteTopicsResponse;
}
