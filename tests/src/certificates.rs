//! Keys, certificates and trust in files, which a test changes while nodes use them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use highwater_client::{Connection, Options};
use highwater_io::net::TcpNetwork;
use highwater_runtime::WallClock;
use highwater_tls::fixture::{Authority, Leaf};
use highwater_tls::{Context, Keystore, Secret, Settings, Source, TlsNetwork};
use tempfile::TempDir;

/// The files of one node, or of several.
#[derive(Debug)]
pub struct Certificates(TempDir);

impl Certificates {
    /// The files of a node of this machine that trusts its own authority.
    ///
    /// # Errors
    /// The machine has no directory.
    pub fn new(authority: &Authority) -> Result<Self> {
        let files = Self(TempDir::new()?);
        files.identify(authority, "node")?;
        files.trust(&[authority])?;
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaces a file at once, so that no half of it is read.
    fn replace(&self, name: &str, text: &str) -> Result<()> {
        let (new, path) = (self.path("new"), self.path(name));
        std::fs::write(&new, text)?;
        Ok(std::fs::rename(new, path)?)
    }

    /// Replaces the key and the certificate, by those of this machine with this common name.
    ///
    /// # Errors
    /// The error of the disk.
    pub fn identify(&self, issuer: &Authority, name: &str) -> Result<()> {
        self.replace("keystore.pem", &issuer.keystore(&Leaf::local(name)))
    }

    /// Replaces the authorities that are trusted.
    ///
    /// # Errors
    /// The error of the disk.
    pub fn trust(&self, authorities: &[&Authority]) -> Result<()> {
        let all: String = authorities
            .iter()
            .map(|authority| authority.pem())
            .collect();
        self.replace("truststore.pem", &all)
    }

    /// The settings of a node that uses the files.
    #[must_use]
    pub fn settings(&self) -> [(&'static str, String); 4] {
        let path = |name| self.path(name).display().to_string();
        [
            ("ssl.keystore.type", "PEM".to_owned()),
            ("ssl.truststore.type", "PEM".to_owned()),
            ("ssl.keystore.location", path("keystore.pem")),
            ("ssl.truststore.location", path("truststore.pem")),
        ]
    }
}

/// A client that trusts an authority, with a certificate of this common name if there is an issuer.
///
/// # Panics
/// The certificates are unsound.
#[must_use]
pub fn tls_client(issuer: Option<&Authority>, name: &str, trusted: &Authority) -> Arc<Context> {
    let text = |setting: &str, text: String| Source::Text {
        setting: setting.to_owned(),
        text: Secret(text),
    };
    let keystore = issuer.map(|issuer| {
        let (key, chain) = issuer.issue(&Leaf::local(name));
        Keystore::Texts {
            chain: text("chain", chain),
            key: text("key", key),
        }
    });
    let settings = Settings {
        keystore,
        truststore: Some(text("trust", trusted.pem())),
        ..Settings::default()
    };
    let context = Context::open(settings, WallClock::system());
    Arc::new(context.expect("is sound"))
}

/// Connects to a node by TLS.
///
/// # Errors
/// The connection or the handshake is refused.
pub async fn connect_tls(address: SocketAddr, context: &Arc<Context>) -> Result<Connection> {
    let network = TlsNetwork {
        inner: Arc::new(TcpNetwork),
        context: Arc::clone(context),
    };
    let (host, port) = (address.ip().to_string(), address.port());
    let options = Options::default();
    Ok(Connection::open(&network, &host, port, options).await?)
}
