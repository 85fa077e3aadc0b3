// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.

use crate::Message;
use crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};

#[derive(Debug, Clone, PartialEq)]
pub struct ApiVersionsResponse {
    pub error_code: i16,
    pub api_keys: Vec<ApiVersion>,
    pub throttle_time_ms: i32,
    pub supported_features: Vec<SupportedFeatureKey>,
    pub finalized_features_epoch: i64,
    pub finalized_features: Vec<FinalizedFeatureKey>,
    pub zk_migration_ready: bool,
}

impl Default for ApiVersionsResponse {
    fn default() -> Self {
        Self {
            error_code: Default::default(),
            api_keys: Default::default(),
            throttle_time_ms: Default::default(),
            supported_features: Default::default(),
            finalized_features_epoch: -1,
            finalized_features: Default::default(),
            zk_migration_ready: false,
        }
    }
}

impl Message for ApiVersionsResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        this.error_code = r.i16()?;
        this.api_keys = r.array(flexible, |r| ApiVersion::read(r, version))?;
        if version >= 1 {
            this.throttle_time_ms = r.i32()?;
        }
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                0 if version >= 3 => {
                    this.supported_features =
                        r.array(flexible, |r| SupportedFeatureKey::read(r, version))?;
                    Ok(true)
                }
                1 if version >= 3 => {
                    this.finalized_features_epoch = r.i64()?;
                    Ok(true)
                }
                2 if version >= 3 => {
                    this.finalized_features =
                        r.array(flexible, |r| FinalizedFeatureKey::read(r, version))?;
                    Ok(true)
                }
                3 if version >= 3 => {
                    this.zk_migration_ready = r.bool()?;
                    Ok(true)
                }
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 3;
        out.error_code(self.error_code);
        out.array(&self.api_keys, flexible, |out, one| {
            one.write(out, version);
        });
        if version >= 1 {
            out.i32(self.throttle_time_ms);
        }
        if flexible {
            let mut tagged = 0;
            if version >= 3 && self.supported_features != <Vec<SupportedFeatureKey>>::default() {
                tagged += 1;
            }
            if version >= 3 && self.finalized_features_epoch != -1 {
                tagged += 1;
            }
            if version >= 3 && self.finalized_features != <Vec<FinalizedFeatureKey>>::default() {
                tagged += 1;
            }
            if version >= 3 && self.zk_migration_ready != false {
                tagged += 1;
            }
            out.unsigned_varint(tagged);
            if version >= 3 && self.supported_features != <Vec<SupportedFeatureKey>>::default() {
                out.tagged(0, |out| {
                    out.array(&self.supported_features, flexible, |out, one| {
                        one.write(out, version);
                    });
                });
            }
            if version >= 3 && self.finalized_features_epoch != -1 {
                out.tagged(1, |out| {
                    out.i64(self.finalized_features_epoch);
                });
            }
            if version >= 3 && self.finalized_features != <Vec<FinalizedFeatureKey>>::default() {
                out.tagged(2, |out| {
                    out.array(&self.finalized_features, flexible, |out, one| {
                        one.write(out, version);
                    });
                });
            }
            if version >= 3 && self.zk_migration_ready != false {
                out.tagged(3, |out| {
                    out.bool(self.zk_migration_ready);
                });
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ApiVersion {
    pub api_key: i16,
    pub min_version: i16,
    pub max_version: i16,
}

impl Default for ApiVersion {
    fn default() -> Self {
        Self {
            api_key: Default::default(),
            min_version: Default::default(),
            max_version: Default::default(),
        }
    }
}

impl Message for ApiVersion {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        this.api_key = r.i16()?;
        this.min_version = r.i16()?;
        this.max_version = r.i16()?;
        if flexible {
            r.tagged_fields(|tag, r| match tag {
                _ => Ok(false),
            })?;
        }
        Ok(this)
    }

    fn write(&self, out: &mut FrameWriter, version: i16) {
        let flexible = version >= 3;
        out.i16(self.api_key);
        out.i16(self.min_version);
        out.i16(self.max_version);
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct SupportedFeatureKey {
    pub name: StrBytes,
    pub min_version: i16,
    pub max_version: i16,
}

impl Default for SupportedFeatureKey {
    fn default() -> Self {
        Self {
            name: Default::default(),
            min_version: Default::default(),
            max_version: Default::default(),
        }
    }
}

impl Message for SupportedFeatureKey {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        if version >= 3 {
            this.name = r.string(flexible)?;
        }
        if version >= 3 {
            this.min_version = r.i16()?;
        }
        if version >= 3 {
            this.max_version = r.i16()?;
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
        if version >= 3 {
            out.string(&self.name, flexible);
        }
        if version >= 3 {
            out.i16(self.min_version);
        }
        if version >= 3 {
            out.i16(self.max_version);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct FinalizedFeatureKey {
    pub name: StrBytes,
    pub max_version_level: i16,
    pub min_version_level: i16,
}

impl Default for FinalizedFeatureKey {
    fn default() -> Self {
        Self {
            name: Default::default(),
            max_version_level: Default::default(),
            min_version_level: Default::default(),
        }
    }
}

impl Message for FinalizedFeatureKey {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut this = Self::default();
        if version >= 3 {
            this.name = r.string(flexible)?;
        }
        if version >= 3 {
            this.max_version_level = r.i16()?;
        }
        if version >= 3 {
            this.min_version_level = r.i16()?;
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
        if version >= 3 {
            out.string(&self.name, flexible);
        }
        if version >= 3 {
            out.i16(self.max_version_level);
        }
        if version >= 3 {
            out.i16(self.min_version_level);
        }
        if flexible {
            let mut tagged = 0;
            out.unsigned_varint(tagged);
        }
    }
}
