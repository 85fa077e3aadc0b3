// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct DescribeConfigsResponse {
    pub throttle_time_ms: i32,
    pub results: Vec<DescribeConfigsResult>,
}

impl Default for DescribeConfigsResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: Default::default(),
            results: Default::default(),
        }
    }
}

impl Message for DescribeConfigsResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        this.throttle_time_ms = r.i32()?;
        this.results = r.array(flexible, |r| DescribeConfigsResult::read(r, version))?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 4;
        out.i32(self.throttle_time_ms);
        out.array(&self.results, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribeConfigsResult {
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
    pub resource_type: i8,
    pub resource_name: StrBytes,
    pub configs: Vec<DescribeConfigsResourceResult>,
}

impl Default for DescribeConfigsResult {
    fn default() -> Self {
        Self {
            error_code: Default::default(),
            error_message: Some(Default::default()),
            resource_type: Default::default(),
            resource_name: Default::default(),
            configs: Default::default(),
        }
    }
}

impl Message for DescribeConfigsResult {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        this.error_code = r.i16()?;
        this.error_message = r.nullable_string(flexible)?;
        this.resource_type = r.i8()?;
        this.resource_name = r.string(flexible)?;
        this.configs = r.array(flexible, |r| {
            DescribeConfigsResourceResult::read(r, version)
        })?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 4;
        out.error_code(self.error_code);
        out.nullable_string(self.error_message.as_ref(), flexible);
        out.i8(self.resource_type);
        out.string(&self.resource_name, flexible);
        out.array(&self.configs, flexible, |out, one| {
            one.write(out, version);
        });
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribeConfigsResourceResult {
    pub name: StrBytes,
    pub value: Option<StrBytes>,
    pub read_only: bool,
    pub config_source: i8,
    pub is_sensitive: bool,
    pub synonyms: Vec<DescribeConfigsSynonym>,
    pub config_type: i8,
    pub documentation: Option<StrBytes>,
}

impl Default for DescribeConfigsResourceResult {
    fn default() -> Self {
        Self {
            name: Default::default(),
            value: Some(Default::default()),
            read_only: Default::default(),
            config_source: -1,
            is_sensitive: Default::default(),
            synonyms: Default::default(),
            config_type: 0,
            documentation: Some(Default::default()),
        }
    }
}

impl Message for DescribeConfigsResourceResult {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        this.name = r.string(flexible)?;
        this.value = r.nullable_string(flexible)?;
        this.read_only = r.bool()?;
        this.config_source = r.i8()?;
        this.is_sensitive = r.bool()?;
        this.synonyms = r.array(flexible, |r| DescribeConfigsSynonym::read(r, version))?;
        if version >= 3 {
            this.config_type = r.i8()?;
        }
        if version >= 3 {
            this.documentation = if version >= 3 {
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
        let flexible = version >= 4;
        out.string(&self.name, flexible);
        out.nullable_string(self.value.as_ref(), flexible);
        out.bool(self.read_only);
        out.i8(self.config_source);
        out.bool(self.is_sensitive);
        out.array(&self.synonyms, flexible, |out, one| {
            one.write(out, version);
        });
        if version >= 3 {
            out.i8(self.config_type);
        }
        if version >= 3 {
            if version >= 3 {
                out.nullable_string(self.documentation.as_ref(), flexible);
            } else {
                out.string(
                    self.documentation.as_ref().unwrap_or(&Default::default()),
                    flexible,
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
pub struct DescribeConfigsSynonym {
    pub name: StrBytes,
    pub value: Option<StrBytes>,
    pub source: i8,
}

impl Default for DescribeConfigsSynonym {
    fn default() -> Self {
        Self {
            name: Default::default(),
            value: Some(Default::default()),
            source: Default::default(),
        }
    }
}

impl Message for DescribeConfigsSynonym {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut this = Self::default();
        this.name = r.string(flexible)?;
        this.value = r.nullable_string(flexible)?;
        this.source = r.i8()?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 4;
        out.string(&self.name, flexible);
        out.nullable_string(self.value.as_ref(), flexible);
        out.i8(self.source);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
