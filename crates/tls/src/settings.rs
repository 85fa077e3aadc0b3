//! The settings of one listener.

use std::fmt;
use std::path::PathBuf;

/// A text that is not shown: a password or a private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Where PEM comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, which is read anew when it changes.
    File(PathBuf),
    /// The value of a setting.
    Text {
        /// The setting's name, for messages.
        setting: String,
        /// Its value.
        text: Secret,
    },
}

/// The own private key and the certificates that prove it, the own one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keystore {
    /// One file with both, so that they change together.
    File(PathBuf),
    /// The values of settings.
    Texts {
        /// The setting with the chain.
        chain: Source,
        /// The setting with the key.
        key: Source,
    },
}

/// Whether clients show a certificate: `ssl.client.auth`. A certificate that is shown is always verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// They are not asked for one.
    #[default]
    None,
    /// They are asked, and may have none.
    Requested,
    /// They need one.
    Required,
}

/// The versions of TLS: `ssl.enabled.protocols`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// TLSv1.2.
    pub tls12: bool,
    /// TLSv1.3.
    pub tls13: bool,
}

impl Default for Versions {
    fn default() -> Self {
        Self {
            tls12: true,
            tls13: true,
        }
    }
}

/// The settings of one listener, for its servers and its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The own key and chain. A server needs them.
    pub keystore: Option<Keystore>,
    /// The password of an encrypted private key.
    pub key_password: Option<Secret>,
    /// The certificates that are trusted to have issued others. A client needs them, and a server that asks for client
    /// certificates.
    pub truststore: Option<Source>,
    /// Whether a server asks for client certificates.
    pub client_auth: ClientAuth,
    /// The versions of TLS.
    pub versions: Versions,
    /// Whether a client verifies that the server's certificate has the name of the host:
    /// `ssl.endpoint.identification.algorithm`.
    pub verifies_name: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keystore: None,
            key_password: None,
            truststore: None,
            client_auth: ClientAuth::None,
            versions: Versions::default(),
            verifies_name: true,
        }
    }
}
