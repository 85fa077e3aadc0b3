//! TLS over the [`Socket`](highwater_io::net::Socket) port, with keys and certificates in PEM.
//!
//! A [`Context`] holds the key, the certificates and the trust of one listener, and makes streams of sockets: as a
//! server by [`Context::accept`], as a client by [`Context::connect`] or through a [`TlsNetwork`]. It reads its files anew
//! by [`Context::refresh`]; streams that are open stay as they are.
//!
//! Every handshake verifies the other side's certificate: sessions are never resumed, because a resumed session would
//! outlive the certificate that opened it. TLS and its primitives are rustls's and aws-lc-rs's.

mod certificate;
mod context;
mod encrypted_key;
mod error;
mod failure;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
mod handshake;
mod keystore;
mod name;
mod network;
mod pem;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod verify;

pub use certificate::Certificate;
pub use context::{Context, Refreshed};
pub use error::{Error, Problem};
pub use failure::{Cause, Failure};
pub use handshake::{Accepted, HANDSHAKE_MAX};
pub use network::TlsNetwork;
pub use settings::{ClientAuth, Keystore, Secret, Settings, Source, Versions};
pub use stream::TlsSocket;
