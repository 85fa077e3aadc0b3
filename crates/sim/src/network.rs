//! The port to the network, implemented with turmoil's network, and the port to threads, implemented with tasks.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use highwater_io::Threads;
use highwater_io::net::{Acceptor, Network, Socket};
use highwater_runtime::Standstill;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::Trace;

/// The simulated network of the current host.
#[derive(Debug, Clone)]
pub struct SimNetwork {
    /// The trace notes every message at each end of its connection.
    pub trace: Trace,
}

impl SimNetwork {
    fn socket(&self, stream: TcpStream, peer: SocketAddr) -> Box<dyn Socket> {
        Box::new(SimSocket {
            stream: Mutex::new(stream),
            peer,
            trace: self.trace.clone(),
        })
    }
}

#[async_trait]
impl Network for SimNetwork {
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Socket>> {
        let stream = TcpStream::connect((host, port)).await?;
        let peer = stream.peer_addr()?;
        self.trace.event(&format_args!("connect {peer}"));
        Ok(self.socket(stream, peer))
    }

    async fn listen(&self, _host: &str, port: u16) -> io::Result<Box<dyn Acceptor>> {
        let listener = TcpListener::bind(("0.0.0.0", port)).await?;
        let network = self.clone();
        Ok(Box::new(SimAcceptor { listener, network }))
    }
}

struct SimAcceptor {
    listener: TcpListener,
    network: SimNetwork,
}

impl fmt::Debug for SimAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimAcceptor")
    }
}

#[async_trait]
impl Acceptor for SimAcceptor {
    async fn accept(&self) -> io::Result<(Box<dyn Socket>, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        let network = &self.network;
        network.trace.event(&format_args!("accept {peer}"));
        Ok((network.socket(stream, peer), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One end of a connection.
#[derive(Debug)]
struct SimSocket {
    stream: Mutex<TcpStream>,
    peer: SocketAddr,
    trace: Trace,
}

impl SimSocket {
    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(
            self.stream
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl Socket for SimSocket {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let mut byte = [0];
        stream
            .poll_peek(cx, &mut ReadBuf::new(&mut byte))
            .map_ok(|_| ())
    }
}

impl AsyncRead for SimSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = self.stream().poll_read(cx, buf);
        if polled.is_ready() {
            let read = &buf.filled()[before..];
            let (len, crc) = (read.len(), crc32fast::hash(read));
            self.trace
                .event(&format_args!("from {} {len} {crc:08x}", self.peer));
        }
        polled
    }
}

impl AsyncWrite for SimSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream().poll_write(cx, buf);
        if let Poll::Ready(written) = &polled {
            let crc = crc32fast::hash(buf);
            let written = written.as_ref().ok();
            self.trace
                .event(&format_args!("to {} {written:?} {crc:08x}", self.peer));
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

/// Runs writers as tasks of the simulated host, because a real thread would stop virtual time.
#[derive(Debug, Clone, Default)]
pub struct SimThreads {
    /// The standstill of the threads' process.
    pub standstill: Standstill,
}

impl Threads for SimThreads {
    fn spawn(&self, _name: &'static str, body: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let standstill = self.standstill.clone();
        let held = async move { standstill.hold(body).await };
        #[expect(clippy::disallowed_methods, reason = "this is what a thread is here")]
        drop(tokio::spawn(held));
    }
}
