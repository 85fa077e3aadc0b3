//! What chooses a store, and how an S3 store is reached.

use std::path::PathBuf;

/// A store and how to reach it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `file:///path`, `s3://bucket/prefix`, or `memory:`.
    pub url: String,
    /// For `s3://` alone.
    pub s3: S3Config,
}

/// How an S3 store is reached; what is unset is as AWS has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Config {
    /// `http://` or `https://` host and port of an S3-compatible server. Default: AWS's of the region.
    pub endpoint: Option<String>,
    /// Default: `AWS_REGION`, then `AWS_DEFAULT_REGION`; with an endpoint, `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket stands in the path instead of the host name. Default: with an endpoint.
    pub path_style: Option<bool>,
    /// PEM file of authorities trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The KMS key that the store encrypts objects with (SSE-KMS).
    pub kms_key: Option<String>,
    /// Where credentials come from.
    pub credentials: CredentialSource,
    /// The profile in the shared files. Default: `AWS_PROFILE`, then `default`.
    pub profile: Option<String>,
}

/// Where credentials come from. Those that expire are fetched anew before they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CredentialSource {
    /// The first of the others, in this order, that is configured.
    #[default]
    Auto,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`.
    Environment,
    /// A profile of `~/.aws/credentials` and `~/.aws/config`, read anew while running.
    Profile,
    /// `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN` (IRSA).
    WebIdentity,
    /// `AWS_CONTAINER_CREDENTIALS_*` (ECS, EKS pod identity).
    Container,
    /// The instance's role, from its metadata service (EC2).
    Instance,
}

impl CredentialSource {
    /// Their names in a configuration.
    pub const NAMES: &'static [&'static str] = &[
        "auto",
        "environment",
        "profile",
        "web-identity",
        "container",
        "instance",
    ];

    /// The source of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "environment" => Some(Self::Environment),
            "profile" => Some(Self::Profile),
            "web-identity" => Some(Self::WebIdentity),
            "container" => Some(Self::Container),
            "instance" => Some(Self::Instance),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_source() {
        for name in CredentialSource::NAMES {
            assert!(CredentialSource::find(name).is_some(), "{name}");
        }
        assert_eq!(CredentialSource::find("other"), None);
    }
}
