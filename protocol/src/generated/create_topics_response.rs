// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use highwater_types::Uuid;

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct CreateTopicsResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<CreatableTopicResult>,
}

impl Default for CreateTopicsResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            topics: Default::default(),
        }
    }
}

impl Message for CreateTopicsResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 5;
        let mut this = Self::default();
        this.throttle_time_ms = r.i32()?;
        this.topics = r.array(flexible, |r| CreatableTopicResult::read(r, version))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 5;
        out.i32(self.throttle_time_ms);
        out.array(&self.topics, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreatableTopicResult {
    pub name: StrBytes,
    pub topic_id: Uuid,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
    pub topic_config_error_code: i16,
    pub num_partitions: i32,
    pub replication_factor: i16,
    pub configs: Option<Vec<CreatableTopicConfigs>>,
}

impl Default for CreatableTopicResult {
    fn default() -> Self {
        Self {
            name: Default::default(),
            topic_id: Default::default(),
            error_code: Default::default(),
            error_message: Some(Default::default()),
            topic_config_error_code: Default::default(),
            num_partitions: -1,
            replication_factor: -1,
            configs: Some(Default::default()),
        }
    }
}

impl Message for CreatableTopicResult {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 5;
        let mut this = Self::default();
        this.name = r.string(flexible)?;
        if version >= 7 {
            this.topic_id = r.uuid()?;
        }
        this.error_code = r.i16()?;
        this.error_message = r.nullable_string(flexible)?;
        if version >= 5 {
            this.num_partitions = r.i32()?;
        }
        if version >= 5 {
            this.replication_factor = r.i16()?;
        }
        if version >= 5 {
            this.configs = if version >= 5 {
                r.nullable_array(flexible, |r| CreatableTopicConfigs::read(r, version))?
            } else {
                Some(r.array(flexible, |r| CreatableTopicConfigs::read(r, version))?)
            };
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                0 if version >= 5 => {
                    this.topic_config_error_code = r.i16()?;
                    Ok(true)
                }
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 5;
        out.string(&self.name, flexible);
        if version >= 7 {
            out.uuid(self.topic_id);
        }
        out.error_code(self.error_code);
        out.nullable_string(self.error_message.as_ref(), flexible);
        if version >= 5 {
            out.i32(self.num_partitions);
        }
        if version >= 5 {
            out.i16(self.replication_factor);
        }
        if version >= 5 {
            if version >= 5 {
                out.nullable_array(self.configs.as_deref(), flexible, |out, one| {
                    one.write(out, version);
                });
            } else {
                out.array(
                    self.configs.as_deref().unwrap_or_default(),
                    flexible,
                    |out, one| {
                        one.write(out, version);
                    },
                );
            }
        }
        if flexible {
            let mut tagged = 0;
            if version >= 5 && self.topic_config_error_code != <i16>::default() {
                tagged += 1;
            }
            out.unsigned_varint(tagged);
            if version >= 5 && self.topic_config_error_code != <i16>::default() {
                out.tagged(0, |out| {
                    out.error_code(self.topic_config_error_code);
                });
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreatableTopicConfigs {
    pub name: StrBytes,
    pub value: Option<StrBytes>,
    pub read_only: bool,
    pub config_source: i8,
    pub is_sensitive: bool,
}

impl Default for CreatableTopicConfigs {
    fn default() -> Self {
        Self {
            name: Default::default(),
            value: Some(Default::default()),
            read_only: Default::default(),
            config_source: -1,
            is_sensitive: Default::default(),
        }
    }
}

impl Message for CreatableTopicConfigs {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 5;
        let mut this = Self::default();
        if version >= 5 {
            this.name = r.string(flexible)?;
        }
        if version >= 5 {
            this.value = if version >= 5 {
                r.nullable_string(flexible)?
            } else {
                Some(r.string(flexible)?)
            };
        }
        if version >= 5 {
            this.read_only = r.bool()?;
        }
        if version >= 5 {
            this.config_source = r.i8()?;
        }
        if version >= 5 {
            this.is_sensitive = r.bool()?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 5;
        if version >= 5 {
            out.string(&self.name, flexible);
        }
        if version >= 5 {
            if version >= 5 {
                out.nullable_string(self.value.as_ref(), flexible);
            } else {
                out.string(self.value.as_ref().unwrap_or(&Default::default()), flexible);
            }
        }
        if version >= 5 {
            out.bool(self.read_only);
        }
        if version >= 5 {
            out.i8(self.config_source);
        }
        if version >= 5 {
            out.bool(self.is_sensitive);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
