//! S3 and compatible stores.
//!
//! Each call sends one HTTP request. The library's own retries are off, because a retried create-if-absent that was
//! carried out the first time answers 412, which looks like another writer's object (W3). A put costs one PUT, a read
//! one GET, a listing one LIST for each 1000 keys, and a deletion one POST for each 1000 keys. An open costs the
//! requests of [`crate::probe`], one each for the bucket's lifecycle, versioning and replication settings, and those of
//! the cluster's claim. An idle store gets no requests.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use highwater_io::{Device, OpenMode};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredentialProvider};
use object_store::path::Path;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, GetOptions, GetRange, ObjectStore, PutOptions,
    PutPayload, RetryConfig, UpdateVersion,
};

use crate::{
    IoClass, ObjectEntry, ObjectKey, ObjectStorage, ObjectVersion, Ports, PutMode, S3Config,
    StorageError,
};

mod answer;
mod bucket;
mod cached;
mod connections;
mod credentials;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod identities;
mod web_identity;

use answer::{is_past_the_end, unchanged, unread};
use bucket::BucketSettings;
use cached::Cached;
use connections::Connections;
use credentials::{Chain, provider_config};

const CONNECT_MAX: Duration = Duration::from_secs(5);
const REGION: &str = "us-east-1";

/// The reason why a bucket can't be used, as text for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// It can't be used as it is configured.
    #[error("{0}")]
    Refused(String),
    /// A service gave no answer, or answered that it is out of order. Another attempt may succeed.
    #[error("{0}")]
    NoAnswer(String),
}

impl From<String> for Unusable {
    fn from(reason: String) -> Self {
        Self::Refused(reason)
    }
}

/// A bucket, or a prefix in it, that holds a cluster or will hold one.
#[derive(Debug)]
pub(crate) struct Bucket {
    store: AmazonS3,
    settings: BucketSettings,
    prefix: String,
    url: String,
}

impl Bucket {
    /// Finds credentials and sets up connections, without a request to the store.
    pub(crate) async fn open(
        name: (&str, &str),
        config: &S3Config,
        ports: &Ports,
    ) -> Result<Self, Unusable> {
        let client = client_options(config, &*ports.device).await?;
        let connections = Connections::new(client.clone())?;
        let region = region(config, &connections).await?;
        let chain = Chain::new(config, &region, connections);
        let credentials = Cached::new(Arc::new(chain), ports.clock.clone(), ports.tasks.clone());
        // missing credentials are reported here instead of by the first request
        credentials.get().await?;
        let bucket = Self::of(name, config, &region, (client, Arc::new(credentials)))?;
        Ok(bucket)
    }

    fn of(
        (bucket, prefix): (&str, &str),
        config: &S3Config,
        region: &str,
        (client, credentials): (ClientOptions, AwsCredentialProvider),
    ) -> Result<Self, String> {
        let connections = Connections::new(client.clone())?;
        let address = Address::of(bucket, region, config)?;
        let url = address.url(bucket);
        let client = client.with_allow_http(url.starts_with("http://"));
        // no retries: see the module's comment
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 0,
            retry_timeout: Duration::ZERO,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(region)
            // used as it is, since it contains the bucket
            .with_endpoint(&url)
            .with_virtual_hosted_style_request(true)
            .with_credentials(Arc::clone(&credentials))
            .with_client_options(client)
            .with_http_connector(answer::Connector)
            // TLS protects the payload; without TLS the signature has to, as AWS demands
            .with_unsigned_payload(url.starts_with("https://"))
            .with_retry(retry);
        if let Some(key) = &config.kms_key {
            builder = builder.with_sse_kms_encryption(key);
        }
        let settings = BucketSettings {
            bucket: bucket.to_owned(),
            address,
            connections,
            region: region.to_owned(),
            credentials,
        };
        Ok(Self {
            store: builder.build().map_err(|error| error.to_string())?,
            settings,
            prefix: prefix.to_owned(),
            url,
        })
    }

    /// The store's address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn below(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.prefix)
        }
    }

    /// Refuses a bucket that itself deletes objects under the cluster's prefix (G5).
    pub(crate) async fn check(&self, cluster: &str) -> Result<(), Unusable> {
        self.settings
            .check(&format!("{}/", self.below(cluster)))
            .await
    }

    /// The store whose keys lie right below the prefix.
    pub(crate) fn root(&self) -> S3Storage {
        S3Storage {
            prefix: self.prefix.clone(),
            store: self.store.clone(),
        }
    }

    /// The store whose keys lie below the cluster's prefix.
    pub(crate) fn storage(self, cluster: &str) -> S3Storage {
        S3Storage {
            prefix: self.below(cluster),
            store: self.store,
        }
    }
}

/// The configured region; for AWS itself also the region of a profile or an instance.
async fn region(config: &S3Config, connections: &Connections) -> Result<String, String> {
    if let Some(region) = &config.region {
        return Ok(region.clone());
    }
    let mut chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
    if config.endpoint.is_none() {
        let aws = provider_config(connections);
        let mut profile = ProfileFileRegionProvider::builder().configure(&aws);
        if let Some(name) = &config.profile {
            profile = profile.profile_name(name);
        }
        let instance = ImdsRegionProvider::builder().configure(&aws);
        chain = chain.or_else(profile.build()).or_else(instance.build());
    }
    match (chain.region().await, &config.endpoint) {
        (Some(region), _) => Ok(region.to_string()),
        (None, Some(_)) => Ok(REGION.to_owned()),
        (None, None) => Err("set highwater.object.storage.region, or AWS_REGION".to_owned()),
    }
}

/// The address of a store.
#[derive(Debug)]
struct Address {
    scheme: String,
    host: String,
    path_style: bool,
}

impl Address {
    fn of(bucket: &str, region: &str, config: &S3Config) -> Result<Self, String> {
        let amazon = format!("https://s3.{region}.amazonaws.com");
        let endpoint = config.endpoint.as_deref().unwrap_or(&amazon);
        let (scheme, host) = S3Config::split_endpoint(endpoint)
            .map_err(|why| format!("highwater.object.storage.endpoint={endpoint}: {why}"))?;
        // the certificate's wildcard does not cover a bucket name with a dot
        let path_style = config
            .path_style
            .unwrap_or(config.endpoint.is_some() || bucket.contains('.'));
        Ok(Self {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            path_style,
        })
    }

    fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.host)
    }

    fn url(&self, bucket: &str) -> String {
        if self.path_style {
            format!("{}://{}/{bucket}", self.scheme, self.host)
        } else {
            format!("{}://{bucket}.{}", self.scheme, self.host)
        }
    }
}

async fn client_options(config: &S3Config, device: &dyn Device) -> Result<ClientOptions, String> {
    // the decorator has the deadline of a request, since it knows the request's size
    let mut options = ClientOptions::new()
        .with_connect_timeout(CONNECT_MAX)
        .with_timeout_disabled();
    if let Some(path) = &config.ca_file {
        let read = async {
            let file = device.open(path, OpenMode::Existing).await?;
            let bytes = usize::try_from(file.len().await?).unwrap_or(usize::MAX);
            file.read_at(0, bytes).await
        };
        let pem = read.await;
        let pem = pem.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let certificates = Certificate::from_pem_bundle(&pem);
        let certificates = certificates.map_err(|error| format!("{}: {error}", path.display()))?;
        if certificates.is_empty() {
            return Err(format!("{} holds no certificate", path.display()));
        }
        for certificate in certificates {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

/// Objects in a bucket, under one prefix.
#[derive(Debug)]
pub struct S3Storage {
    store: AmazonS3,
    prefix: String,
}

impl S3Storage {
    fn path(&self, key: &ObjectKey) -> Path {
        Path::from(format!("{}/{key}", self.prefix))
    }

    /// The key of an object; `None` for an object that is not one of ours.
    fn key(&self, path: &Path) -> Option<ObjectKey> {
        let below = path.as_ref().strip_prefix(&self.prefix)?;
        ObjectKey::parse(below.strip_prefix('/')?)
    }

    async fn read(
        &self,
        key: &ObjectKey,
        range: GetRange,
    ) -> Result<(Bytes, u64), object_store::Error> {
        let options = GetOptions {
            range: Some(range),
            ..GetOptions::default()
        };
        let got = self.store.get_opts(&self.path(key), options).await?;
        let length = got.meta.size;
        Ok((got.bytes().await?, length))
    }
}

#[async_trait]
impl ObjectStorage for S3Storage {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Vec<Bytes>,
        mode: PutMode,
        _class: IoClass,
    ) -> Result<ObjectVersion, StorageError> {
        let mode = match mode {
            PutMode::Overwrite => object_store::PutMode::Overwrite,
            PutMode::IfAbsent => object_store::PutMode::Create,
            PutMode::IfVersion(ObjectVersion(tag)) => {
                object_store::PutMode::Update(UpdateVersion {
                    e_tag: Some(tag),
                    version: None,
                })
            }
        };
        let path = self.path(key);
        let put = self
            .store
            .put_opts(&path, PutPayload::from_iter(body), PutOptions::from(mode));
        match put.await {
            Ok(put) => Ok(ObjectVersion(put.e_tag.unwrap_or_default())),
            Err(error) => Err(unchanged(key, error)),
        }
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        _class: IoClass,
    ) -> Result<Bytes, StorageError> {
        // the protocol has no empty range
        let asked = range.start..range.end.max(range.start + 1);
        match self.read(key, GetRange::Bounded(asked)).await {
            Ok(_) if range.is_empty() => Ok(Bytes::new()),
            Ok((bytes, _)) => Ok(bytes),
            Err(error) if is_past_the_end(&error) => Ok(Bytes::new()),
            Err(error) => Err(unread(key, error)),
        }
    }

    async fn get_suffix(
        &self,
        key: &ObjectKey,
        bytes: u64,
        _class: IoClass,
    ) -> Result<(Bytes, u64), StorageError> {
        match self.read(key, GetRange::Suffix(bytes)).await {
            // an empty object has no last bytes
            Err(error) if is_past_the_end(&error) => Ok((Bytes::new(), 0)),
            read => read.map_err(|error| unread(key, error)),
        }
    }

    fn list(
        &self,
        prefix: &ObjectKey,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectEntry, StorageError>> {
        let path = self.path(prefix);
        let listed = match after {
            Some(after) => self.store.list_with_offset(Some(&path), &self.path(after)),
            None => self.store.list(Some(&path)),
        };
        let prefix = prefix.clone();
        listed
            .map_err(move |error| unread(&prefix, error))
            .try_filter_map(|found| {
                let entry = self.key(&found.location).map(|key| ObjectEntry {
                    key,
                    bytes: found.size,
                });
                std::future::ready(Ok(entry))
            })
            .boxed()
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        let Some(first) = keys.first() else {
            return Ok(());
        };
        // each key once: for a key named twice MinIO sends an answer that the library can't parse
        let paths: BTreeSet<Path> = keys.iter().map(|key| self.path(key)).collect();
        let paths = stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut deleted = self.store.delete_stream(paths);
        while let Some(answer) = deleted.next().await {
            match answer {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(unchanged(first, error)),
            }
        }
        Ok(())
    }
}
