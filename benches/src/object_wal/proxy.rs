//! A proxy in front of an S3-compatible server, which answers as slowly as S3 does, and notes what it sees.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use hyper::body::Incoming;
use hyper::header::CONNECTION;
use hyper::http::uri::{Authority, Scheme};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use super::draws::{Draws, PUT_MS, READ_MS};
use crate::figures::Latency;
use crate::machine;

const LOOPBACK: &str = "127.0.0.1";
/// How long the server may take for the head of an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// The requests since some time, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Puts of the write-ahead log that succeeded.
    pub(super) wal_puts: u64,
    /// All puts. S3 bills them as it bills listings.
    pub(super) puts: u64,
    pub(super) gets: u64,
    pub(super) lists: u64,
    /// Requests that delete, one or many objects. S3 does not bill them.
    pub(super) deletes: u64,
}

impl Counts {
    pub(super) fn all(&self) -> u64 {
        self.puts + self.gets + self.lists + self.deletes
    }

    /// The requests of a span that began with other counts.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            wal_puts: self.wal_puts - before.wal_puts,
            puts: self.puts - before.puts,
            gets: self.gets - before.gets,
            lists: self.lists - before.lists,
            deletes: self.deletes - before.deletes,
        }
    }
}

#[derive(Debug)]
struct Seen {
    counts: Counts,
    /// The times of the log's puts, from the head of the request to the answer, which has no body.
    wal_puts: Latency,
    draws: Draws,
}

struct State {
    server: Authority,
    client: Client<HttpConnector, Incoming>,
    seen: Mutex<Seen>,
}

/// A running proxy, on a thread of its own.
pub(super) struct Proxy {
    /// Its endpoint without TLS.
    pub(super) http: String,
    /// Its endpoint with TLS.
    pub(super) https: String,
    /// The certificate of the endpoint with TLS, in PEM.
    pub(super) certificate: String,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Proxy {
    /// Starts a proxy in front of the server at `host:port`.
    pub(super) fn start(server: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxy")
            .enable_all()
            .build()?;
        let listen = || runtime.block_on(TcpListener::bind((LOOPBACK, 0)));
        let (plain, secured) = (listen()?, listen()?);
        let (http, https) = (plain.local_addr()?, secured.local_addr()?);
        let (tls, certificate) = tls()?;
        let seen = Seen {
            counts: Counts::default(),
            wal_puts: Latency::new()?,
            draws: Draws::new(20_261_129),
        };
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let state = Arc::new(State {
            server: server.parse()?,
            client: Client::builder(TokioExecutor::new()).build(connector),
            seen: Mutex::new(seen),
        });
        drop(runtime.spawn(accept(plain, None, Arc::clone(&state))));
        drop(runtime.spawn(accept(secured, Some(tls), Arc::clone(&state))));
        Ok(Self {
            http: format!("http://{http}"),
            https: format!("https://{https}"),
            certificate,
            state,
            runtime: Some(runtime),
        })
    }

    /// The requests so far.
    pub(super) fn counts(&self) -> Counts {
        self.state.seen().counts
    }

    /// The times of the log's puts since this was asked last.
    pub(super) fn take_wal_puts(&self) -> Result<Latency> {
        Ok(std::mem::replace(
            &mut self.state.seen().wal_puts,
            Latency::new()?,
        ))
    }
}

/// TLS with a new certificate, and that certificate in PEM.
fn tls() -> Result<(TlsAcceptor, String)> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([LOOPBACK.to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())?;
    Ok((TlsAcceptor::from(Arc::new(config)), cert.pem()))
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (state, tls) = (Arc::clone(&state), tls.clone());
        // an error ends the connection, which its client sees
        connections.spawn(async move {
            drop(socket.set_nodelay(true));
            match tls {
                None => state.serve(socket).await,
                Some(tls) => {
                    if let Ok(socket) = tls.accept(socket).await {
                        state.serve(socket).await;
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Whether a request writes: only then the answer waits for copies of new bytes.
fn is_put(method: &Method) -> bool {
    *method == Method::PUT
}

fn count(counts: &mut Counts, method: &Method, uri: &Uri) {
    // a POST deletes many objects, and a GET with a query that begins so lists them
    let kind = match *method {
        Method::PUT => &mut counts.puts,
        Method::DELETE | Method::POST => &mut counts.deletes,
        _ if uri.query().is_some_and(|it| it.contains("list-type=")) => &mut counts.lists,
        _ => &mut counts.gets,
    };
    *kind += 1;
}

impl State {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self: Arc<Self>, socket: impl AsyncRead + AsyncWrite + Unpin) {
        let answer = service_fn(move |request| Arc::clone(&self).answer(request));
        let serving = http1::Builder::new().serve_connection(TokioIo::new(socket), answer);
        drop(serving.await);
    }

    /// Asks the server, and answers when the drawn time has passed. Bodies are passed on as they come.
    async fn answer(self: Arc<Self>, mut request: Request<Incoming>) -> Result<Response<Incoming>> {
        let begun = machine::now();
        let is_of_wal = is_put(request.method()) && request.uri().path().contains("/wal/");
        let latency = {
            let mut seen = self.seen();
            count(&mut seen.counts, request.method(), request.uri());
            seen.draws.next(match is_put(request.method()) {
                true => PUT_MS,
                false => READ_MS,
            })
        };
        // the path stays as it was signed
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.server.clone());
        *request.uri_mut() = Uri::from_parts(uri)?;
        request.headers_mut().remove(CONNECTION);
        let mut answer = timeout(ANSWER, self.client.request(request)).await??;
        answer.headers_mut().remove(CONNECTION);
        sleep_until((begun + latency).into()).await;
        if is_of_wal && answer.status() == StatusCode::OK {
            let mut seen = self.seen();
            seen.counts.wal_puts += 1;
            seen.wal_puts.record(begun.elapsed());
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(method: &Method, path: &'static str) -> Counts {
        let mut counts = Counts::default();
        count(&mut counts, method, &Uri::from_static(path));
        counts
    }

    #[test]
    fn requests_are_counted_as_s3_bills_them() {
        let none = Counts::default();
        let put = counted(&Method::PUT, "/bucket/wal/1/2/3");
        assert_eq!(put, Counts { puts: 1, ..none });
        let list = counted(&Method::GET, "/bucket?list-type=2&prefix=wal");
        assert_eq!(list, Counts { lists: 1, ..none });
        let get = counted(&Method::GET, "/bucket/wal/1/2/3");
        assert_eq!(get, Counts { gets: 1, ..none });
        let delete = counted(&Method::POST, "/bucket?delete");
        assert_eq!(delete, Counts { deletes: 1, ..none });
        assert_eq!(delete.all(), 1);
        assert_eq!(delete.since(&delete), none);
    }
}
