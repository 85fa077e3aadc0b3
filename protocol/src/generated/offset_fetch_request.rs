// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use highwater_types::Uuid;

use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};
use crate::{ApiKey, Message, Request};

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetFetchRequest {
    pub group_id: StrBytes,
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
    pub groups: Vec<OffsetFetchRequestGroup>,
    pub require_stable: bool,
}

impl Default for OffsetFetchRequest {
    fn default() -> Self {
        Self {
            group_id: Default::default(),
            topics: Some(Default::default()),
            groups: Default::default(),
            require_stable: false,
        }
    }
}

impl Message for OffsetFetchRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut this = Self::default();
        if version <= 7 {
            this.group_id = r.string(flexible)?;
        }
        if version <= 7 {
            this.topics = if (2..=7).contains(&version) {
                r.nullable_array(flexible, |r| OffsetFetchRequestTopic::read(r, version))?
            } else {
                Some(r.array(flexible, |r| OffsetFetchRequestTopic::read(r, version))?)
            };
        }
        if version >= 8 {
            this.groups = r.array(flexible, |r| OffsetFetchRequestGroup::read(r, version))?;
        }
        if version >= 7 {
            this.require_stable = r.bool()?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 6;
        if version <= 7 {
            out.string(&self.group_id, flexible);
        }
        if version <= 7 {
            if (2..=7).contains(&version) {
                out.nullable_array(self.topics.as_deref(), flexible, |out, one| {
                    one.write(out, version);
                });
            } else {
                out.array(
                    self.topics.as_deref().unwrap_or_default(),
                    flexible,
                    |out, one| {
                        one.write(out, version);
                    },
                );
            }
        }
        if version >= 8 {
            out.array(&self.groups, flexible, |out, one| {
                one.write(out, version);
            });
        }
        if version >= 7 {
            out.bool(self.require_stable);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetFetchRequestTopic {
    pub name: StrBytes,
    pub partition_indexes: Vec<i32>,
}

impl Default for OffsetFetchRequestTopic {
    fn default() -> Self {
        Self {
            name: Default::default(),
            partition_indexes: Default::default(),
        }
    }
}

impl Message for OffsetFetchRequestTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut this = Self::default();
        if version <= 7 {
            this.name = r.string(flexible)?;
        }
        if version <= 7 {
            this.partition_indexes = r.array(flexible, |r| r.i32())?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 6;
        if version <= 7 {
            out.string(&self.name, flexible);
        }
        if version <= 7 {
            out.array(&self.partition_indexes, flexible, |out, one| {
                out.i32(*one);
            });
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetFetchRequestGroup {
    pub group_id: StrBytes,
    pub member_id: Option<StrBytes>,
    pub member_epoch: i32,
    pub topics: Option<Vec<OffsetFetchRequestTopics>>,
}

impl Default for OffsetFetchRequestGroup {
    fn default() -> Self {
        Self {
            group_id: Default::default(),
            member_id: None,
            member_epoch: -1,
            topics: Some(Default::default()),
        }
    }
}

impl Message for OffsetFetchRequestGroup {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut this = Self::default();
        if version >= 8 {
            this.group_id = r.string(flexible)?;
        }
        if version >= 9 {
            this.member_id = if version >= 9 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        if version >= 9 {
            this.member_epoch = r.i32()?;
        }
        if version >= 8 {
            this.topics = if version >= 8 {
                r.nullable_array(flexible, |r| OffsetFetchRequestTopics::read(r, version))?
            } else {
                Some(r.array(flexible, |r| OffsetFetchRequestTopics::read(r, version))?)
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
        let flexible = version >= 6;
        if version >= 8 {
            out.string(&self.group_id, flexible);
        }
        if version >= 9 {
            if version >= 9 {
                out.nullable_string(self.member_id.as_ref(), flexible);
            } else {
                out.string(
                    self.member_id.as_ref().unwrap_or(&Default::default()),
                    flexible,
                );
            }
        }
        if version >= 9 {
            out.i32(self.member_epoch);
        }
        if version >= 8 {
            if version >= 8 {
                out.nullable_array(self.topics.as_deref(), flexible, |out, one| {
                    one.write(out, version);
                });
            } else {
                out.array(
                    self.topics.as_deref().unwrap_or_default(),
                    flexible,
                    |out, one| {
                        one.write(out, version);
                    },
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
pub struct OffsetFetchRequestTopics {
    pub name: StrBytes,
    pub topic_id: Uuid,
    pub partition_indexes: Vec<i32>,
}

impl Default for OffsetFetchRequestTopics {
    fn default() -> Self {
        Self {
            name: Default::default(),
            topic_id: Default::default(),
            partition_indexes: Default::default(),
        }
    }
}

impl Message for OffsetFetchRequestTopics {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut this = Self::default();
        if (8..=9).contains(&version) {
            this.name = r.string(flexible)?;
        }
        if version >= 10 {
            this.topic_id = r.uuid()?;
        }
        if version >= 8 {
            this.partition_indexes = r.array(flexible, |r| r.i32())?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 6;
        if (8..=9).contains(&version) {
            out.string(&self.name, flexible);
        }
        if version >= 10 {
            out.uuid(self.topic_id);
        }
        if version >= 8 {
            out.array(&self.partition_indexes, flexible, |out, one| {
                out.i32(*one);
            });
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

impl Request for OffsetFetchRequest {
    const KEY: ApiKey = ApiKey::OffsetFetch;
    const VALID: std::ops::RangeInclusive<i16> = 1..=10;
    const FLEXIBLE_FROM: i16 = 6;
    type Response = super::offset_fetch_response::OffsetFetchResponse;
}
