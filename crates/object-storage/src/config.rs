//! The configuration of a store, and of the access to an S3 store.

use std::path::{Path, PathBuf};

use crate::ObjectKey;

/// A store, and the access to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The store's URL: `file:///path`, `s3://bucket/prefix`, or in tests `memory:`.
    pub url: String,
    /// The access to the store if it is `s3://`.
    pub s3: S3Config,
}

/// The place that a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// A bucket, or a prefix in it.
    S3 {
        /// The bucket.
        bucket: &'a str,
        /// The prefix without a slash at its end; empty for the whole bucket.
        prefix: &'a str,
    },
    /// A directory of this machine, for its nodes (L1).
    Directory(&'a Path),
    /// Memory of this process, which tests bring.
    Memory,
}

impl<'a> Place<'a> {
    /// Reads a URL.
    ///
    /// # Errors
    /// A description of the error in the URL.
    pub fn parse(url: &'a str) -> Result<Self, String> {
        if url == "memory:" {
            return Ok(Self::Memory);
        }
        if let Some(path) = url.strip_prefix("file://")
            && path.starts_with('/')
        {
            return Ok(Self::Directory(Path::new(path)));
        }
        let Some(name) = url.strip_prefix("s3://") else {
            return Err("neither s3://bucket/prefix nor file:///path".to_owned());
        };
        let (bucket, prefix) = name.split_once('/').unwrap_or((name, ""));
        let prefix = prefix.trim_end_matches('/');
        if ObjectKey::parse(bucket).is_none() {
            return Err("the URL names no bucket".to_owned());
        }
        if !prefix.is_empty() && ObjectKey::parse(prefix).is_none() {
            return Err("a prefix is of letters, digits, dots, dashes and underscores".to_owned());
        }
        Ok(Self::S3 { bucket, prefix })
    }
}

/// The access to an S3 store. AWS's own defaults hold for everything that is unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Config {
    /// The `http://` or `https://` host and port of an S3-compatible server. The default is AWS's endpoint of the
    /// region.
    pub endpoint: Option<String>,
    /// The region. The default is `AWS_REGION`, then `AWS_DEFAULT_REGION`; then, without an endpoint, the region of the
    /// profile and of the instance, and with one `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket stands in the path instead of the host name. The default is true if an endpoint is set.
    pub path_style: Option<bool>,
    /// A PEM file of certificate authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The KMS key with which the store encrypts objects (SSE-KMS).
    pub kms_key: Option<String>,
    /// The source of credentials.
    pub credentials: CredentialSource,
    /// The profile in the shared files. The default is `AWS_PROFILE`, then `default`.
    pub profile: Option<String>,
}

impl S3Config {
    /// Splits an endpoint into its scheme, and its host and port.
    ///
    /// # Errors
    /// A description of the error, if this is no endpoint.
    pub fn split_endpoint(endpoint: &str) -> Result<(&str, &str), String> {
        match endpoint.trim_end_matches('/').split_once("://") {
            Some((scheme @ ("http" | "https"), host)) if !host.is_empty() => Ok((scheme, host)),
            _ => Err("neither http://host:port nor https://host:port".to_owned()),
        }
    }
}

/// The sources of credentials. Credentials that expire are fetched anew before they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CredentialSource {
    /// The first of the sources below, in this order, that has credentials.
    #[default]
    Auto,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`.
    Environment,
    /// A profile in `~/.aws/credentials` and `~/.aws/config`: keys, which are read again now and then, a role to
    /// assume, a process, or single sign-on.
    Profile,
    /// `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN` (IRSA).
    WebIdentity,
    /// `AWS_CONTAINER_CREDENTIALS_*` (ECS, EKS pod identity).
    Container,
    /// The instance's role, from its metadata service (EC2, IMDSv2).
    Instance,
}

impl CredentialSource {
    /// The names of the sources in a configuration.
    pub const NAMES: &'static [&'static str] = &[
        "auto",
        "environment",
        "profile",
        "web-identity",
        "container",
        "instance",
    ];

    /// The source with a name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let all = [
            Self::Auto,
            Self::Environment,
            Self::Profile,
            Self::WebIdentity,
            Self::Container,
            Self::Instance,
        ];
        all.into_iter().find(|source| source.name() == name)
    }

    /// The source's name in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Environment => "environment",
            Self::Profile => "profile",
            Self::WebIdentity => "web-identity",
            Self::Container => "container",
            Self::Instance => "instance",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_a_store_is_or_is_refused() {
        let s3 = |bucket, prefix| Ok(Place::S3 { bucket, prefix });
        assert_eq!(Place::parse("s3://b"), s3("b", ""));
        assert_eq!(Place::parse("s3://b/some/prefix/"), s3("b", "some/prefix"));
        let directory = Place::Directory(Path::new("/a/b"));
        assert_eq!(Place::parse("file:///a/b"), Ok(directory));
        assert_eq!(Place::parse("memory:"), Ok(Place::Memory));
        for wrong in [
            "",
            "/tmp/x",
            "file:",
            "file://",
            "file://tmp/x",
            "s3://",
            "s3:///x",
            "s3://b/a b",
            "memory:x",
            "gs://b",
        ] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_name_is_a_source() {
        for name in CredentialSource::NAMES {
            assert!(CredentialSource::find(name).is_some(), "{name}");
        }
        assert_eq!(CredentialSource::find("other"), None);
    }
}
