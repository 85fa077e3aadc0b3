//! Handshakes, within a deadline.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::time::Duration;

use highwater_io::net::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::verify::take_refused;
use crate::{Cause, Certificate, Context, Failure, TlsSocket};

/// How long a handshake may take. It has three round trips at most.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long a side whose handshake failed goes on reading, so that the other side gets the alert: the kernel drops what
/// was sent if the connection is closed while bytes are unread.
const LINGER: Duration = Duration::from_secs(1);

/// A client whose handshake is done.
#[derive(Debug)]
pub struct Accepted {
    /// The stream.
    pub socket: TlsSocket,
    /// The client's certificate, which was verified; `None` if it showed none.
    pub certificate: Option<Certificate>,
}

impl Context {
    /// Does the handshake of a server with a client that has connected, within [`HANDSHAKE_MAX`]. The client's
    /// certificate is verified if it shows one.
    ///
    /// # Errors
    /// [`Failure`]; the connection is closed.
    pub async fn accept(&self, socket: Box<dyn Socket>) -> Result<Accepted, Failure> {
        let loaded = self.loaded();
        let config = loaded.server.clone();
        let config = config.ok_or_else(|| Failure::new(Cause::Unconfigured))?;
        let accepting = TlsAcceptor::from(config).accept(socket).into_fallible();
        let own = loaded.own.as_deref();
        let stream = finish(Box::pin(accepting), own).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let certificate = shown.and_then(|chain| chain.first());
        let certificate = certificate
            .map(|der| Certificate::from_der(der))
            .transpose();
        let certificate = certificate.map_err(|why| Failure {
            detail: Some(why),
            ..Failure::new(Cause::WrongCertificate)
        })?;
        let socket = TlsSocket::new(TlsStream::Server(stream), None);
        Ok(Accepted {
            socket,
            certificate,
        })
    }

    /// Does the handshake of a client with a server to which it has connected, within [`HANDSHAKE_MAX`]. `host` is the
    /// name or the address by which the server was found, which its certificate must have. The server may still refuse
    /// the own certificate: the first read then fails with a [`Failure`].
    ///
    /// # Errors
    /// [`Failure`]; the connection is closed.
    pub async fn connect(&self, socket: Box<dyn Socket>, host: &str) -> Result<TlsSocket, Failure> {
        let loaded = self.loaded();
        let config = loaded.client.clone();
        let config = config.ok_or_else(|| Failure::new(Cause::Unconfigured))?;
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| Failure {
            detail: Some(format!("{host}: {error}")),
            ..Failure::new(Cause::WrongName)
        })?;
        let connecting = TlsConnector::from(config).connect(name, socket);
        let own = loaded.own.clone();
        let stream = finish(Box::pin(connecting.into_fallible()), own.as_deref()).await?;
        Ok(TlsSocket::new(TlsStream::Client(stream), own))
    }
}

/// Drives a handshake to its end. If it fails, the other side gets the reason, as an alert of TLS.
async fn finish<S>(
    handshake: impl Future<Output = Result<S, (io::Error, Box<dyn Socket>)>> + Unpin,
    own: Option<&Certificate>,
) -> Result<S, Failure> {
    let mut handshake = handshake;
    let polled = poll_fn(|cx| {
        drop(take_refused());
        // within one poll, the certificate that is refused is left on this thread
        pin!(&mut handshake)
            .poll(cx)
            .map(|done| (done, take_refused()))
    });
    let Ok((done, refused)) = timeout(HANDSHAKE_MAX, polled).await else {
        return Err(Failure::new(Cause::Late));
    };
    match done {
        Ok(stream) => Ok(stream),
        Err((error, socket)) => {
            let failure = Failure::of_handshake(&error, refused, own);
            // nothing more can be done for the other side if this fails
            drop(timeout(LINGER, linger(socket)).await);
            Err(failure)
        }
    }
}

/// Sends what is left, and reads until the other side closes.
async fn linger(mut socket: Box<dyn Socket>) -> io::Result<()> {
    socket.shutdown().await?;
    let mut buffer = [0; 512];
    while socket.read(&mut buffer).await? > 0 {}
    Ok(())
}
