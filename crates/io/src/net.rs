//! Ports to the network: listening and byte streams.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use async_trait::async_trait;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};

/// A connected byte stream: TCP, TLS over any other socket, or the simulation's.
///
/// What a connection counts on, whatever the stream is:
///
/// 1. `poll_read_ready` is ready when a read may make progress: there are bytes, the end, or an error. It may be ready in
///    vain, and the read is then pending: a record of TLS that has come in part makes TCP readable and yields nothing.
///    It is never pending while bytes can be read, though they may lie in the stream's own memory: where TLS has
///    decrypted more than was taken, it answers before TCP is asked.
/// 2. What was written has left the stream when a flush returns, not before: TLS keeps what TCP did not take at once.
/// 3. Every poll is cancellation safe: what was read or accepted for writing is not lost with the future that polled.
/// 4. A stream keeps little between calls. What it needs for each connection counts to what the broker allows an idle one.
/// 5. An [`Acceptor`] never waits for what a client sends: a handshake belongs to the connection's own task.
pub trait Socket: AsyncRead + AsyncWrite + Debug + Unpin + Send + Sync + 'static {
    /// Ready when a read may make progress (1), so that an idle connection holds no buffer.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// An address being listened on.
#[async_trait]
pub trait Acceptor: Debug + Send + Sync + 'static {
    /// The next connection and its peer. Cancellation safe.
    async fn accept(&self) -> io::Result<(Box<dyn Socket>, SocketAddr)>;
    /// The address, with the port that the machine chose.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Where connections come from.
#[async_trait]
pub trait Network: Debug + Send + Sync + 'static {
    /// Listens on `host` (empty: every address) and `port` (0: the machine chooses).
    async fn listen(&self, host: &str, port: u16) -> io::Result<Box<dyn Acceptor>>;
    /// How many connections the machine has room for, beside files.
    fn connections_max(&self) -> usize {
        usize::MAX
    }
}

/// The machine's TCP.
#[derive(Debug, Default, Clone, Copy)]
pub struct TcpNetwork;

#[async_trait]
impl Network for TcpNetwork {
    async fn listen(&self, host: &str, port: u16) -> io::Result<Box<dyn Acceptor>> {
        let host = if host.is_empty() { "0.0.0.0" } else { host };
        let listener = tokio::net::TcpListener::bind((host, port)).await?;
        Ok(Box::new(TcpAcceptor(listener)))
    }

    /// What the process may open, raised as far as it may be, less what files need.
    fn connections_max(&self) -> usize {
        const FOR_FILES: u64 = 512;
        let mut limit = getrlimit(Resource::Nofile);
        let soft = limit.current;
        limit.current = limit.maximum;
        let open = match setrlimit(Resource::Nofile, limit) {
            Ok(()) => limit.maximum,
            Err(_refused) => soft,
        };
        let open = open.unwrap_or(u64::MAX);
        usize::try_from(open.saturating_sub(FOR_FILES).max(open / 2)).unwrap_or(usize::MAX)
    }
}

#[derive(Debug)]
struct TcpAcceptor(tokio::net::TcpListener);

#[async_trait]
impl Acceptor for TcpAcceptor {
    async fn accept(&self) -> io::Result<(Box<dyn Socket>, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Socket for tokio::net::TcpStream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_read_ready(self, cx)
    }
}
