//! The key, the certificates and the trust that are in use.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use highwater_runtime::WallClock;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::keystore::Texts;
use crate::verify::{ClientVerifier, ServerVerifier};
use crate::{Certificate, ClientAuth, Error, Problem, Settings, Versions};

/// The outcome of [`Context::refresh`].
#[derive(Debug)]
pub enum Refreshed {
    /// Nothing has changed.
    Unchanged,
    /// The next handshakes use the files as they are now.
    Changed,
    /// The files have changed and can't be used; those before them stay in use. The error is told once.
    Refused(Error),
    /// The files still can't be used.
    StillRefused,
}

/// The key, the certificates and the trust of one listener.
#[derive(Debug)]
pub struct Context {
    settings: Settings,
    clock: WallClock,
    current: RwLock<Arc<Loaded>>,
    /// The text of the last refusal, while the files that were refused are there.
    refused: Mutex<Option<String>>,
}

/// What was read at one time.
pub(crate) struct Loaded {
    texts: Texts,
    pub(crate) own: Option<Arc<Certificate>>,
    /// `None` without a keystore.
    pub(crate) server: Option<Arc<ServerConfig>>,
    /// `None` without a truststore.
    pub(crate) client: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loaded({:?})", self.own)
    }
}

/// The node's clock, by which certificates expire.
#[derive(Debug)]
struct Time(WallClock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds(
            &self.0,
        ))))
    }
}

fn seconds(clock: &WallClock) -> u64 {
    u64::try_from(clock.now_ms() / 1000).unwrap_or_default()
}

impl Context {
    /// Reads the files of the settings, and checks them. It blocks for as long as the file system does.
    ///
    /// # Errors
    /// A key, a chain or the trust can't be used.
    pub fn open(settings: Settings, clock: WallClock) -> Result<Self, Error> {
        let texts = Texts::read(&settings)?;
        let loaded = Loaded::new(texts, &settings, &clock)?;
        Ok(Self {
            settings,
            clock,
            current: RwLock::new(Arc::new(loaded)),
            refused: Mutex::default(),
        })
    }

    /// Reads the files again. If they have changed and are sound, the next handshakes use them. It blocks for as long as
    /// the file system does.
    pub fn refresh(&self) -> Refreshed {
        let read = Texts::read(&self.settings);
        let loaded = match read {
            Ok(texts) if texts == self.loaded().texts => {
                *self.refused() = None;
                return Refreshed::Unchanged;
            }
            Ok(texts) => Loaded::new(texts, &self.settings, &self.clock),
            Err(error) => Err(error),
        };
        match loaded {
            Ok(loaded) => {
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(loaded);
                drop(current);
                *self.refused() = None;
                Refreshed::Changed
            }
            Err(error) => {
                let text = format!("{error}: {}", error.problem);
                let former = self.refused().replace(text.clone());
                match former == Some(text) {
                    true => Refreshed::StillRefused,
                    false => Refreshed::Refused(error),
                }
            }
        }
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// The own certificate; `None` without a keystore.
    #[must_use]
    pub fn own(&self) -> Option<Arc<Certificate>> {
        self.loaded().own.clone()
    }

    /// The seconds until the own certificate expires, negative once it has; `None` without a keystore.
    #[must_use]
    pub fn expires_in(&self) -> Option<i64> {
        let not_after = i64::try_from(self.own()?.not_after).unwrap_or(i64::MAX);
        Some(not_after.saturating_sub(self.clock.now_ms() / 1000))
    }
}

impl Loaded {
    fn new(texts: Texts, settings: &Settings, clock: &WallClock) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let password = settings.key_password.as_ref();
        let own = texts.own(password, &provider, seconds(clock))?;
        let (key, own) = own.map_or((None, None), |(key, own)| (Some(key), Some(Arc::new(own))));
        let roots = texts.trust()?;
        let parts = Parts {
            settings,
            provider,
            time: Arc::new(Time(clock.clone())),
            versions: versions(settings.versions),
        };
        let server = key.clone().map(|key| parts.server(key, roots.as_ref()));
        let client = roots.as_ref().map(|roots| parts.client(key, roots));
        Ok(Self {
            texts,
            own,
            server: server.transpose()?.map(Arc::new),
            client: client.transpose()?.map(Arc::new),
        })
    }
}

fn versions(versions: Versions) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(versions.tls12, &TLS12), (versions.tls13, &TLS13)];
    let enabled = all.into_iter().filter(|(is_enabled, _)| *is_enabled);
    enabled.map(|(_, version)| version).collect()
}

/// What the configurations of both sides are made from.
struct Parts<'a> {
    settings: &'a Settings,
    provider: Arc<CryptoProvider>,
    time: Arc<Time>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

fn refused(error: &dyn std::error::Error) -> Error {
    Problem::Refused(error.to_string()).at("TLS")
}

impl Parts<'_> {
    fn server(
        &self,
        key: Arc<CertifiedKey>,
        roots: Option<&Arc<RootCertStore>>,
    ) -> Result<ServerConfig, Error> {
        let builder = ServerConfig::builder_with_details(
            Arc::clone(&self.provider),
            Arc::clone(&self.time) as Arc<dyn TimeProvider>,
        );
        let builder = builder
            .with_protocol_versions(&self.versions)
            .map_err(|error| refused(&error))?;
        let builder = match self.settings.client_auth {
            ClientAuth::None => builder.with_no_client_auth(),
            asked => {
                let none = || {
                    Problem::Refused(
                        "clients are asked for certificates, and there is no truststore".to_owned(),
                    )
                };
                let roots = roots.ok_or_else(|| none().at("ssl.truststore.location"))?;
                let verifier = WebPkiClientVerifier::builder_with_provider(
                    Arc::clone(roots),
                    Arc::clone(&self.provider),
                );
                let verifier = match asked {
                    ClientAuth::Requested => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                let verifier = verifier.build().map_err(|error| refused(&error))?;
                builder.with_client_cert_verifier(Arc::new(ClientVerifier(verifier)))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        // no session is resumed; and a client that has sent nothing is sent nothing, so that its idle connection is
        // known to be idle
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn client(
        &self,
        key: Option<Arc<CertifiedKey>>,
        roots: &Arc<RootCertStore>,
    ) -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_details(
            Arc::clone(&self.provider),
            Arc::clone(&self.time) as Arc<dyn TimeProvider>,
        );
        let builder = builder
            .with_protocol_versions(&self.versions)
            .map_err(|error| refused(&error))?;
        let verifies_name = self.settings.verifies_name;
        let verifier = ServerVerifier::new(Arc::clone(roots), &self.provider, verifies_name);
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match key {
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}
