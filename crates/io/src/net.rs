//! Ports to the network: listeners and byte streams.

use std::fmt::Debug;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use async_trait::async_trait;
use rustix::net::sockopt::set_ipv6_v6only;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};

/// A connected byte stream: TCP, TLS over another socket, or the simulation's.
///
/// The duties of every stream, on which a connection relies:
///
/// 1. `poll_read_ready` is ready when a read may make progress, because there are bytes, an end, or an error. It may
///    be ready although the read is then pending: a TLS record of which only a part has arrived makes TCP readable
///    and yields nothing. It is never pending while bytes can be read, even if these lie in the stream's own memory:
///    if TLS has decrypted more than was taken, it answers before it asks TCP.
/// 2. Written bytes may stay in the stream until a flush returns: TLS keeps what TCP doesn't take at once.
/// 3. Every poll is cancellation safe: bytes that were read or accepted for writing aren't lost when the polling
///    future is dropped.
/// 4. A stream holds little memory between calls. This memory counts towards what the broker allows an idle
///    connection.
/// 5. An [`Acceptor`] never waits for bytes of a client: a handshake belongs to the connection's own task.
pub trait Socket: AsyncRead + AsyncWrite + Debug + Unpin + Send + Sync + 'static {
    /// Becomes ready when a read may make progress (duty 1), so that an idle connection needs no buffer.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A listener.
#[async_trait]
pub trait Acceptor: Debug + Send + Sync + 'static {
    /// Waits for the next connection, and returns it with the peer's address. Cancellation safe.
    async fn accept(&self) -> io::Result<(Box<dyn Socket>, SocketAddr)>;
    /// The listener's address, with the port that the machine chose.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// The network of a machine.
#[async_trait]
pub trait Network: Debug + Send + Sync + 'static {
    /// Connects to a host, by its name or address.
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Socket>>;
    /// Listens on `host` (empty: on every address, of IPv4 and IPv6) and `port` (0: the machine chooses one).
    async fn listen(&self, host: &str, port: u16) -> io::Result<Box<dyn Acceptor>>;
    /// The number of connections for which the machine has descriptors, after those for files.
    fn connections_max(&self) -> usize {
        usize::MAX
    }
}

/// The connections that wait to be accepted, as many as the standard library allows.
const BACKLOG: u32 = 128;

/// TCP on the real machine.
#[derive(Debug, Default, Clone, Copy)]
pub struct TcpNetwork;

#[async_trait]
impl Network for TcpNetwork {
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Socket>> {
        let stream = tokio::net::TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    async fn listen(&self, host: &str, port: u16) -> io::Result<Box<dyn Acceptor>> {
        Ok(Box::new(TcpAcceptor(bind(host, port).await?)))
    }

    /// Raises the process's limit of descriptors as far as allowed, and returns it less those that files need.
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

/// Binds an address. An empty host means every address, of IPv6 and of IPv4, as in Java; only of IPv4 on a machine without
/// IPv6.
///
/// # Errors
/// Those of the operating system.
pub async fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    if !host.is_empty() {
        return TcpListener::bind((host, port)).await;
    }
    match bind_dual(port) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

/// Binds every address of IPv6 and of IPv4, whatever the machine's default is (`net.ipv6.bindv6only`).
fn bind_dual(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    set_ipv6_v6only(&socket, false)?;
    // as `TcpListener::bind` does
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    socket.listen(BACKLOG)
}

#[derive(Debug)]
struct TcpAcceptor(TcpListener);

#[async_trait]
impl Acceptor for TcpAcceptor {
    async fn accept(&self) -> io::Result<(Box<dyn Socket>, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        // a socket of IPv6 tells an address of IPv4 as one of its own
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_host_is_every_address_and_a_peer_has_its_own() {
        let acceptor = TcpNetwork.listen("", 0).await.expect("listens");
        let port = acceptor.local_addr().expect("is bound").port();
        let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok();
        let hosts = ["127.0.0.1", "::1"];
        for host in &hosts[..1 + usize::from(has_ipv6)] {
            let _client = TcpNetwork.connect(host, port).await.expect("connects");
            let (_server, peer) = acceptor.accept().await.expect("accepts");
            assert_eq!(peer.ip().to_string(), *host);
        }
    }
}
