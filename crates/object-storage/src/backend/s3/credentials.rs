//! Who we are to the store; what expires is fetched anew before it does.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_io::{Device, OpenMode};
use highwater_runtime::reasons;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};
use object_store::{
    BackoffConfig, ClientOptions, CredentialProvider, RetryConfig, StaticCredentialProvider,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::answer::NoCredentials;
use super::profile;
use crate::{CredentialSource, S3Config};

/// How long what a file said is good for: whoever rotates keys leaves the old ones valid for longer.
const FILE_TTL: Duration = Duration::from_secs(30);
const ATTEMPTS_MAX: usize = 3;
const FETCH_MAX: Duration = Duration::from_secs(10);
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a provider is made from.
pub(super) struct Chain<'a> {
    pub(super) config: &'a S3Config,
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) device: Arc<dyn Device>,
    pub(super) client: ClientOptions,
    pub(super) region: &'a str,
}

impl Chain<'_> {
    /// The configured source, or the first that is there.
    pub(super) async fn provider(&self) -> Result<AwsCredentialProvider, String> {
        let source = match self.config.credentials {
            CredentialSource::Auto => self.first().await?,
            source => source,
        };
        let name = source.name();
        tracing::info!("credentials for the object store come from {name}");
        let provider = match source {
            CredentialSource::Environment => self.environment()?,
            CredentialSource::Profile => self.of_profile().await?,
            CredentialSource::WebIdentity => self.web_identity(
                self.need("AWS_WEB_IDENTITY_TOKEN_FILE")?,
                self.need("AWS_ROLE_ARN")?,
            )?,
            CredentialSource::Container => self.container()?,
            CredentialSource::Instance | CredentialSource::Auto => self.instance()?,
        };
        // where nothing is configured there may still be an instance
        let is_guess = source == CredentialSource::Instance && self.config.credentials != source;
        Ok(Arc::new(Named {
            provider,
            name,
            is_guess,
        }))
    }

    async fn first(&self) -> Result<CredentialSource, String> {
        let has = |name: &str| self.environment.contains_key(name);
        if has("AWS_ACCESS_KEY_ID") {
            return Ok(CredentialSource::Environment);
        }
        let named = self.config.profile.is_some() || has("AWS_PROFILE");
        if named || self.profile().read().await?.is_some() {
            return Ok(CredentialSource::Profile);
        }
        if has("AWS_WEB_IDENTITY_TOKEN_FILE") {
            return Ok(CredentialSource::WebIdentity);
        }
        if has("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
            || has("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        {
            return Ok(CredentialSource::Container);
        }
        Ok(CredentialSource::Instance)
    }

    fn need(&self, name: &str) -> Result<&str, String> {
        let value = self.environment.get(name).map(String::as_str);
        value.ok_or_else(|| format!("the environment has no {name}"))
    }

    fn environment(&self) -> Result<AwsCredentialProvider, String> {
        Ok(Arc::new(StaticCredentialProvider::new(AwsCredential {
            key_id: self.need("AWS_ACCESS_KEY_ID")?.to_owned(),
            secret_key: self.need("AWS_SECRET_ACCESS_KEY")?.to_owned(),
            token: self.environment.get("AWS_SESSION_TOKEN").cloned(),
        })))
    }

    fn profile(&self) -> Profile {
        let of = |name: &str, file: &str| {
            let home = self.environment.get("HOME").map_or("", String::as_str);
            let default = || Path::new(home).join(".aws").join(file);
            self.environment
                .get(name)
                .map_or_else(default, PathBuf::from)
        };
        let named = self.config.profile.as_ref();
        let named = named.or_else(|| self.environment.get("AWS_PROFILE"));
        Profile {
            device: Arc::clone(&self.device),
            credentials: of("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config: of("AWS_CONFIG_FILE", "config"),
            name: named.map_or_else(|| "default".to_owned(), String::clone),
            last: Mutex::new(None),
        }
    }

    async fn of_profile(&self) -> Result<AwsCredentialProvider, String> {
        let profile = self.profile();
        let settings = profile.read().await?.ok_or_else(|| profile.absent())?;
        if let (Some(role), Some(file)) = (
            settings.get("role_arn"),
            settings.get("web_identity_token_file"),
        ) {
            return self.web_identity(file, role);
        }
        keys_of(&settings, &profile.name)?;
        Ok(Arc::new(profile))
    }

    fn web_identity(&self, file: &str, role: &str) -> Result<AwsCredentialProvider, String> {
        let mut builder = self
            .builder()
            .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, file)
            .with_config(AmazonS3ConfigKey::RoleArn, role);
        for (name, key) in [
            ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
            ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
        ] {
            if let Some(value) = self.environment.get(name) {
                builder = builder.with_config(key, value);
            }
        }
        built(builder)
    }

    fn container(&self) -> Result<AwsCredentialProvider, String> {
        if let Some(uri) = self
            .environment
            .get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        {
            let key = AmazonS3ConfigKey::ContainerCredentialsRelativeUri;
            return built(self.builder().with_config(key, uri));
        }
        let builder = self
            .builder()
            .with_config(
                AmazonS3ConfigKey::ContainerCredentialsFullUri,
                self.need("AWS_CONTAINER_CREDENTIALS_FULL_URI")?,
            )
            .with_config(
                AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
                self.need("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")?,
            );
        built(builder)
    }

    fn instance(&self) -> Result<AwsCredentialProvider, String> {
        let builder = self.builder();
        let endpoint = self.environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        built(match endpoint {
            Some(endpoint) => builder.with_metadata_endpoint(endpoint.trim_end_matches('/')),
            None => builder,
        })
    }

    /// The library makes a provider only within a store, so this is one whose bucket nobody asks for.
    fn builder(&self) -> AmazonS3Builder {
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: ATTEMPTS_MAX,
            retry_timeout: FETCH_MAX,
        };
        AmazonS3Builder::new()
            .with_bucket_name("none")
            .with_region(self.region)
            .with_client_options(self.client.clone().with_timeout(FETCH_MAX))
            .with_retry(retry)
    }
}

fn built(builder: AmazonS3Builder) -> Result<AwsCredentialProvider, String> {
    let store = builder.build().map_err(|error| error.to_string())?;
    Ok(Arc::clone(store.credentials()))
}

/// A provider whose failures say that no request was sent.
#[derive(Debug)]
struct Named {
    provider: AwsCredentialProvider,
    /// The source's.
    name: &'static str,
    /// Whether nobody said that they are there.
    is_guess: bool,
}

impl Named {
    fn explain(&self, error: object_store::Error) -> String {
        let why = match error {
            object_store::Error::Generic { source, .. } => reasons(&*source),
            other => reasons(&other),
        };
        let name = self.name;
        match self.is_guess {
            true => format!(
                ": set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or see \
                 highwater.object.storage.credentials (last tried: {name}: {why})"
            ),
            false => format!(" from {name}: {why}"),
        }
    }
}

#[async_trait]
impl CredentialProvider for Named {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let credential = self.provider.get_credential().await;
        credential.map_err(|error| failed(NoCredentials(self.explain(error))))
    }
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::Generic {
        store: "S3",
        source: source.into(),
    }
}

/// A profile with keys in it.
#[derive(Debug)]
struct Profile {
    device: Arc<dyn Device>,
    credentials: PathBuf,
    config: PathBuf,
    name: String,
    last: Mutex<Option<(Instant, Arc<AwsCredential>)>>,
}

impl Profile {
    async fn read(&self) -> Result<Option<BTreeMap<String, String>>, String> {
        let credentials = text(&*self.device, &self.credentials).await?;
        let config = text(&*self.device, &self.config).await?;
        Ok(profile::find(&credentials, &config, &self.name))
    }

    fn absent(&self) -> String {
        let (credentials, config) = (self.credentials.display(), self.config.display());
        format!("no profile {} in {credentials} or {config}", self.name)
    }
}

#[async_trait]
impl CredentialProvider for Profile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut last = self.last.lock().await;
        if let Some((at, credential)) = &*last
            && at.elapsed() < FILE_TTL
        {
            return Ok(Arc::clone(credential));
        }
        let settings = self.read().await.map_err(failed)?;
        let settings = settings.ok_or_else(|| failed(self.absent()))?;
        let credential = Arc::new(keys_of(&settings, &self.name).map_err(failed)?);
        *last = Some((Instant::now(), Arc::clone(&credential)));
        Ok(credential)
    }
}

fn keys_of(settings: &BTreeMap<String, String>, name: &str) -> Result<AwsCredential, String> {
    let need = |key: &str| {
        settings.get(key).cloned().ok_or_else(|| {
            format!(
                "the profile {name} has no {key} (of a profile keys and web_identity_token_file are read; \
                 source_profile, credential_process and sso are not)"
            )
        })
    };
    Ok(AwsCredential {
        key_id: need("aws_access_key_id")?,
        secret_key: need("aws_secret_access_key")?,
        token: settings.get("aws_session_token").cloned(),
    })
}

/// The text of a file, nothing of one that is not there.
async fn text(device: &dyn Device, path: &Path) -> Result<String, String> {
    let read = async {
        let file = device.open(path, OpenMode::Existing).await?;
        let bytes = file.len().await?.min(FILE_BYTES_MAX);
        file.read_at(0, usize::try_from(bytes).unwrap_or(usize::MAX))
            .await
    };
    match read.await {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(String::new())
        }
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}
