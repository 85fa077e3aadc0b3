//! A web identity (IRSA): a token service exchanges the token in a file for the keys of a role.
//!
//! AWS's own provider refuses an answer without the ARN of the assumed role, and MinIO's token service sends such
//! answers.

use std::time::SystemTime;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_sdk_sts::Client;
use aws_types::os_shim_internal::{Env, Fs};

use super::connections::Connections;

/// The name of the role's sessions if `AWS_ROLE_SESSION_NAME` is not set.
const SESSION: &str = "highwater";

/// The provider. It reads environment and file each time, because the token in the file is renewed.
#[derive(Debug)]
pub(super) struct WebIdentity {
    pub(super) connections: Connections,
    pub(super) region: String,
}

impl WebIdentity {
    async fn load(&self) -> provider::Result {
        let environment = Env::real();
        let needed = |name: &str| {
            let value = environment.get(name);
            value.map_err(|_absent| CredentialsError::not_loaded(format!("{name} is not set")))
        };
        let file = needed("AWS_WEB_IDENTITY_TOKEN_FILE")?;
        let role = needed("AWS_ROLE_ARN")?;
        let session = environment.get("AWS_ROLE_SESSION_NAME");
        let token = Fs::real().read_to_end(&file).await;
        let token = token.map_err(|error| {
            CredentialsError::invalid_configuration(format!("cannot read {file}: {error}"))
        })?;
        let token = String::from_utf8(token).map_err(|_cause| {
            CredentialsError::invalid_configuration(format!("{file} is not UTF-8"))
        })?;
        let mut config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.connections.clone())
            .region(Region::new(self.region.clone()));
        let elsewhere = ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"];
        if let Some(url) = elsewhere.iter().find_map(|name| environment.get(name).ok()) {
            config = config.endpoint_url(url);
        }
        let answer = Client::from_conf(config.build())
            .assume_role_with_web_identity()
            .role_arn(role)
            .role_session_name(session.unwrap_or_else(|_absent| SESSION.to_owned()))
            .web_identity_token(token)
            .send()
            .await
            .map_err(CredentialsError::provider_error)?;
        let without = || CredentialsError::unhandled("the token service answered without keys");
        let keys = answer.credentials.ok_or_else(without)?;
        let expires = SystemTime::try_from(keys.expiration).map_err(CredentialsError::unhandled)?;
        Ok(Credentials::new(
            keys.access_key_id,
            keys.secret_access_key,
            Some(keys.session_token),
            Some(expires),
            "WebIdentity",
        ))
    }
}

impl ProvideCredentials for WebIdentity {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.load())
    }
}
