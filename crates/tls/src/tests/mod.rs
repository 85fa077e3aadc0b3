//! Both sides of a connection, with certificates that are made here.

mod handshakes;
mod keystores;
mod streams;

use std::sync::Arc;

use highwater_io::Pipe;
use highwater_io::net::Socket;
use highwater_runtime::WallClock;
use tokio::io::DuplexStream;

use crate::fixture::{Authority, Leaf};
use crate::{
    Accepted, ClientAuth, Context, Failure, Keystore, Secret, Settings, Source, TlsSocket,
};

/// A time of 2026, in milliseconds since 1970.
const NOW: i64 = 1_780_000_000_000;

fn clock() -> WallClock {
    WallClock::new(|| NOW)
}

fn text(setting: &str, text: &str) -> Source {
    Source::Text {
        setting: setting.to_owned(),
        text: Secret(text.to_owned()),
    }
}

/// The settings with a key and a certificate, and with the trust in an authority.
fn settings(issuer: &Authority, leaf: &Leaf<'_>, trusted: &Authority) -> Settings {
    let (key, chain) = issuer.issue(leaf);
    Settings {
        keystore: Some(Keystore::Texts {
            chain: text("chain", &chain),
            key: text("key", &key),
        }),
        truststore: Some(text("trust", &trusted.pem())),
        client_auth: ClientAuth::Required,
        ..Settings::default()
    }
}

fn context(settings: Settings) -> Arc<Context> {
    Arc::new(Context::open(settings, clock()).expect("is sound"))
}

/// A context of a node whose authority all trust.
fn node(authority: &Authority) -> Arc<Context> {
    context(settings(authority, &Leaf::local("node"), authority))
}

fn pipe() -> (Box<dyn Socket>, Box<dyn Socket>) {
    let (one, other) = tokio::io::duplex(1 << 16);
    (boxed(one), boxed(other))
}

fn boxed(stream: DuplexStream) -> Box<dyn Socket> {
    Box::new(Pipe::new(stream))
}

type Sides = (Result<TlsSocket, Failure>, Result<Accepted, Failure>);

/// The outcome of a handshake on both sides; the client names the server so.
async fn shake(client: &Context, server: &Context, host: &str) -> Sides {
    let (near, far) = pipe();
    tokio::join!(client.connect(near, host), server.accept(far))
}
