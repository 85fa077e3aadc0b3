//! The sources of credentials: AWS's own providers, except for web identities, in AWS's own order. The providers read
//! the environment of the process and the shared files themselves.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::{self, ProfileFileCredentialsProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_types::os_shim_internal::{Env, Fs};
use highwater_runtime::reasons;
use object_store::aws::AwsCredential;

use super::answer::{NoCredentials, cause};
use super::cached::{Issuer, Lifetime};
use super::connections::Connections;
use super::web_identity::WebIdentity;
use crate::{CredentialSource, S3Config};

/// The sources in the order in which they are tried.
const ORDER: [CredentialSource; 5] = [
    CredentialSource::Environment,
    CredentialSource::Profile,
    CredentialSource::WebIdentity,
    CredentialSource::Container,
    CredentialSource::Instance,
];

/// The profile that is used if none is named.
const DEFAULT: &str = "default";

type Providers = Arc<Vec<(CredentialSource, SharedCredentialsProvider)>>;

/// The configured source, or the first one that has credentials. The process then stays with that source, so that it
/// does not change its identity while a file is missing for a moment.
#[derive(Debug)]
pub(super) struct Chain {
    source: CredentialSource,
    profile: Option<String>,
    region: String,
    connections: Connections,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    settled: Option<CredentialSource>,
    /// The providers that were used last, with their own state, such as a token. `None` makes new ones, which read the
    /// files again.
    providers: Option<Providers>,
}

impl Chain {
    pub(super) fn new(config: &S3Config, region: &str, connections: Connections) -> Self {
        Self {
            source: config.credentials,
            profile: config.profile.clone(),
            region: region.to_owned(),
            connections,
            state: Mutex::default(),
        }
    }

    fn providers(&self) -> Providers {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = state.settled;
        let made = state.providers.get_or_insert_with(|| {
            let asked = ORDER.into_iter().filter(|source| match self.source {
                CredentialSource::Auto => settled.is_none_or(|settled| settled == *source),
                one => one == *source,
            });
            Arc::new(
                asked
                    .map(|source| (source, self.provider(source)))
                    .collect(),
            )
        });
        Arc::clone(made)
    }

    fn provider(&self, source: CredentialSource) -> SharedCredentialsProvider {
        let config =
            provider_config(&self.connections).with_region(Some(Region::new(self.region.clone())));
        match source {
            CredentialSource::Environment => {
                SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new())
            }
            CredentialSource::Profile => {
                let mut profile = ProfileFileCredentialsProvider::builder().configure(&config);
                if let Some(name) = &self.profile {
                    profile = profile.profile_name(name);
                }
                SharedCredentialsProvider::new(profile.build())
            }
            CredentialSource::WebIdentity => SharedCredentialsProvider::new(WebIdentity {
                connections: self.connections.clone(),
                region: self.region.clone(),
            }),
            CredentialSource::Container => {
                let container = EcsCredentialsProvider::builder().configure(&config);
                SharedCredentialsProvider::new(container.build())
            }
            CredentialSource::Instance | CredentialSource::Auto => {
                let instance = ImdsCredentialsProvider::builder().configure(&config);
                SharedCredentialsProvider::new(instance.build())
            }
        }
    }

    /// Remembers the source that gave credentials, and keeps its provider if the provider may be used again.
    fn settle(&self, source: CredentialSource, lifetime: Lifetime) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let providers = state.providers.take();
        if lifetime != Lifetime::ReadAgain {
            let one = |all: Providers| {
                let one = all.iter().filter(|(of, _)| *of == source).cloned();
                Arc::new(one.collect())
            };
            state.providers = providers.map(one);
        }
        if state.settled.replace(source) != Some(source) {
            let name = source.name();
            tracing::info!("credentials for the object store come from {name}");
        }
    }

    fn forget(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.providers = None;
    }

    /// The profile that was named explicitly.
    fn named_profile(&self) -> Option<String> {
        let named = self.profile.clone();
        named.or_else(|| std::env::var("AWS_PROFILE").ok())
    }

    /// Whether the next source is tried if this one has no credentials.
    fn is_guess(&self, source: CredentialSource) -> bool {
        self.source == CredentialSource::Auto
            && !(source == CredentialSource::Profile && self.named_profile().is_some())
    }

    /// The reason why a source has no credentials. For a profile, the parser of the files gives a better reason than
    /// the provider.
    async fn why(&self, source: CredentialSource, error: &CredentialsError) -> String {
        if source == CredentialSource::Profile {
            let name = self.named_profile().unwrap_or_else(|| DEFAULT.to_owned());
            let files = EnvConfigFiles::default();
            match profile::load(&Fs::real(), &Env::real(), &files, None).await {
                Err(error) => return reasons(&error),
                Ok(found) if found.get_profile(&name).is_none() => {
                    return "there is no such profile".to_owned();
                }
                Ok(_) => {}
            }
        }
        match (error, error.source()) {
            (CredentialsError::CredentialsNotLoaded(_), Some(why)) => reasons(why),
            (CredentialsError::CredentialsNotLoaded(_), None) => "it has no credentials".to_owned(),
            _ => reasons(error),
        }
    }

    /// The name by which an operator knows a source.
    fn describe(&self, source: CredentialSource) -> String {
        if source != CredentialSource::Profile {
            return source.name().to_owned();
        }
        let name = self.named_profile();
        format!(
            "{} {} of {} and {}",
            source.name(),
            name.as_deref().unwrap_or(DEFAULT),
            shared_file("AWS_SHARED_CREDENTIALS_FILE", "credentials").display(),
            shared_file("AWS_CONFIG_FILE", "config").display()
        )
    }
}

/// The configuration that all AWS providers share.
pub(super) fn provider_config(connections: &Connections) -> ProviderConfig {
    ProviderConfig::without_region()
        .with_http_client(connections.clone())
        .with_behavior_version(Some(BehaviorVersion::latest()))
}

fn shared_file(variable: &str, name: &str) -> PathBuf {
    let home = || std::env::var_os("HOME").unwrap_or_else(|| "~".into());
    let default = || Path::new(&home()).join(".aws").join(name);
    std::env::var_os(variable).map_or_else(default, PathBuf::from)
}

#[async_trait]
impl Issuer for Chain {
    async fn issue(&self) -> Result<(AwsCredential, Lifetime), NoCredentials> {
        let mut tried = Vec::new();
        let mut is_silent = false;
        for (source, provider) in &*self.providers() {
            let why = match provider.provide_credentials().await {
                Ok(found) => {
                    let lifetime = lifetime(*source, &found);
                    self.settle(*source, lifetime);
                    return Ok((credential(&found), lifetime));
                }
                Err(error) => {
                    is_silent |= has_no_answer(&error);
                    // that there is an instance is only a guess, so that any error of its service means "no
                    // credentials"
                    let nothing = matches!(error, CredentialsError::CredentialsNotLoaded(_));
                    let nothing = nothing || *source == CredentialSource::Instance;
                    let told = format!(
                        "{}: {}",
                        self.describe(*source),
                        self.why(*source, &error).await
                    );
                    if !(nothing && self.is_guess(*source)) {
                        self.forget();
                        let why = format!(" from {told}");
                        return Err(NoCredentials { why, is_silent });
                    }
                    told
                }
            };
            tried.push(why);
        }
        self.forget();
        let why = format!(
            ": set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or see highwater.object.storage.credentials (tried {})",
            tried.join("; ")
        );
        Err(NoCredentials { why, is_silent })
    }
}

/// Whether a provider asked a service that gave no answer.
fn has_no_answer(error: &CredentialsError) -> bool {
    matches!(error, CredentialsError::ProviderTimedOut(_))
        || cause::<ConnectorError>(error).is_some()
}

fn credential(found: &Credentials) -> AwsCredential {
    AwsCredential {
        key_id: found.access_key_id().to_owned(),
        secret_key: found.secret_access_key().to_owned(),
        token: found.session_token().map(str::to_owned),
    }
}

fn lifetime(source: CredentialSource, found: &Credentials) -> Lifetime {
    // a process's credentials without an expiry stay valid, as in AWS's own tools, but a file may change
    let features = found.get_property::<Vec<AwsCredentialFeature>>();
    let by_process =
        features.is_some_and(|all| all.contains(&AwsCredentialFeature::CredentialsProcess));
    match found.expiry() {
        Some(at) => Lifetime::Until(milliseconds(at)),
        None if source == CredentialSource::Profile && !by_process => Lifetime::ReadAgain,
        None => Lifetime::Process,
    }
}

fn milliseconds(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_without_an_answer_is_told_from_one_that_refuses() {
        let silent = ConnectorError::io("connection refused".into());
        assert!(has_no_answer(&CredentialsError::provider_error(silent)));
        let late = CredentialsError::provider_timed_out(std::time::Duration::from_secs(1));
        assert!(has_no_answer(&late));
        let denied = CredentialsError::provider_error("AccessDenied");
        assert!(!has_no_answer(&denied));
        let none = CredentialsError::not_loaded("AWS_ACCESS_KEY_ID is not set");
        assert!(!has_no_answer(&none));
    }
}
