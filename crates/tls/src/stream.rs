//! A stream of TLS over another socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use highwater_io::net::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;
#[cfg(test)]
use tokio_rustls::rustls::HandshakeKind;
use tokio_rustls::rustls::IoState;

use crate::{Certificate, Failure};

/// The most bytes that a stream holds while the network takes them slowly: TLS's records of two of their largest size.
pub(crate) const WRITE_BUFFER_BYTES: usize = 32 << 10;

/// A stream of TLS whose handshake is done. It tells the other side when it is dropped (close_notify), if the network
/// takes that at once.
#[derive(Debug)]
pub struct TlsSocket {
    stream: TlsStream<Box<dyn Socket>>,
    /// Whether a read yields something without the network: decrypted bytes, the end, or an error.
    holds: bool,
    /// The own certificate of a client that has not read anything yet, and is not known to be accepted.
    unconfirmed: Option<Arc<Certificate>>,
    /// Whether nothing was read yet.
    is_first: bool,
}

impl TlsSocket {
    /// A client's `own` certificate is not known to be accepted before the first read.
    pub(crate) fn new(stream: TlsStream<Box<dyn Socket>>, own: Option<Arc<Certificate>>) -> Self {
        let mut socket = Self {
            stream,
            holds: false,
            unconfirmed: own,
            is_first: true,
        };
        let limit = Some(WRITE_BUFFER_BYTES);
        match &mut socket.stream {
            TlsStream::Client(stream) => stream.get_mut().1.set_buffer_limit(limit),
            TlsStream::Server(stream) => stream.get_mut().1.set_buffer_limit(limit),
        }
        // what came together with the end of the handshake
        socket.holds = socket.has_more();
        socket
    }

    #[cfg(test)]
    pub(crate) fn is_resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether the next read yields something without the network.
    fn has_more(&mut self) -> bool {
        let state = match &mut self.stream {
            TlsStream::Client(stream) => stream.get_mut().1.process_new_packets(),
            TlsStream::Server(stream) => stream.get_mut().1.process_new_packets(),
        };
        let holds = |state: IoState| state.plaintext_bytes_to_read() > 0 || state.peer_has_closed();
        // an error stays, and is the result of the next read
        state.map_or(true, holds)
    }
}

impl Socket for TlsSocket {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.holds {
            true => Poll::Ready(Ok(())),
            false => self.stream.get_ref().0.poll_read_ready(cx),
        }
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let came = buf.filled().len() > before;
        let is_end = polled.is_ready() && !came;
        self.holds = is_end || self.has_more();
        match polled {
            Poll::Ready(Err(error)) if self.is_first => {
                let own = self.unconfirmed.take();
                let failure = Failure::of_first_read(&error, own.as_deref());
                Poll::Ready(Err(failure.map_or(error, Into::into)))
            }
            polled => {
                if came {
                    self.is_first = false;
                    self.unconfirmed = None;
                }
                polled
            }
        }
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for TlsSocket {
    /// Says that nothing more comes, without a wait: a network that is full takes it no more.
    fn drop(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let (_, connection) = self.stream.get_mut();
        connection.send_close_notify();
        let _flushed = Pin::new(&mut self.stream).poll_flush(&mut context);
    }
}
