//! The connections of the admin listener. Their number is bounded, and an inactive one is closed.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use highwater_types::limits::ADMIN_CONNECTIONS_MAX;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, Sleep};

/// How long a connection may take no byte of an answer, whether it is idle or has sent half a request.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// How long the listener waits after an error before it accepts again.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Accepts at most [`ADMIN_CONNECTIONS_MAX`] connections. One more replaces the oldest, so that a client that holds
/// many can't keep a health check out.
#[derive(Debug)]
pub(super) struct Connections {
    listener: Arc<TcpListener>,
    slots: Arc<Semaphore>,
    /// One for each connection, oldest first; dropping it ends the connection. Some connections may have ended already.
    open: VecDeque<oneshot::Sender<()>>,
}

impl Connections {
    pub(super) fn new(listener: Arc<TcpListener>) -> Self {
        Self {
            listener,
            slots: Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX)),
            open: VecDeque::with_capacity(ADMIN_CONNECTIONS_MAX),
        }
    }

    /// A slot for one more connection, and the signal that takes it away again. Cancellation safe.
    async fn slot(&mut self) -> (OwnedSemaphorePermit, oneshot::Receiver<()>) {
        self.open.retain(|open| !open.is_closed());
        if self.open.len() >= ADMIN_CONNECTIONS_MAX {
            self.open.pop_front();
        }
        let permit = Arc::clone(&self.slots).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let (ends, ended) = oneshot::channel();
        self.open.push_back(ends);
        (permit, ended)
    }
}

impl Listener for Connections {
    type Io = Connection<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let error = match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let (permit, ended) = self.slot().await;
                    return (Connection::new(stream, permit, ended), peer);
                }
                Err(error) => error,
            };
            tracing::warn!(%error, "cannot accept a connection on the admin listener");
            tokio::time::sleep(ACCEPT_REST).await;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once it has been inactive for too long, or has lost its slot to another.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    silent_until: Pin<Box<Sleep>>,
    ended: oneshot::Receiver<()>,
    over: Option<io::ErrorKind>,
    _permit: OwnedSemaphorePermit,
}

impl<S> Connection<S> {
    fn new(stream: S, permit: OwnedSemaphorePermit, ended: oneshot::Receiver<()>) -> Self {
        Self {
            stream,
            silent_until: Box::pin(tokio::time::sleep(SILENT_MAX)),
            ended,
            over: None,
            _permit: permit,
        }
    }

    /// Fails, from then on always, once the connection must end; its task is woken at that time.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.over.is_none() {
            if Pin::new(&mut self.ended).poll(cx).is_ready() {
                self.over = Some(io::ErrorKind::ConnectionAborted);
            } else if self.silent_until.as_mut().poll(cx).is_ready() {
                self.over = Some(io::ErrorKind::TimedOut);
            }
        }
        self.over.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.silent_until
            .as_mut()
            .reset(Instant::now() + SILENT_MAX);
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const HALF: &[u8] = b"GET /health/live HTTP/1.1\r\nX: ";

    #[tokio::test]
    async fn one_more_than_there_may_be_takes_the_place_of_the_oldest() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("has one");
        let mut connections = Connections::new(Arc::new(listener));
        let mut clients = Vec::new();
        let mut accepted = VecDeque::new();
        for _ in 0..ADMIN_CONNECTIONS_MAX {
            clients.push(TcpStream::connect(address).await.expect("connects"));
            accepted.push_back(connections.accept().await.0);
        }
        let mut oldest = accepted.pop_front().expect("is there");
        clients[0].write_all(HALF).await.expect("is sent");
        clients.push(TcpStream::connect(address).await.expect("connects"));
        // A server reads from its connection, and drops it after an error.
        let served = async move {
            let read = oldest.read_to_end(&mut Vec::new()).await;
            read.expect_err("its place is another's").kind()
        };
        let (kind, (mut newest, _)) = tokio::join!(served, connections.accept());
        assert_eq!(kind, io::ErrorKind::ConnectionAborted);
        newest.write_all(b"answer").await.expect("is there");
        accepted[0]
            .write_all(b"answer")
            .await
            .expect("is there still");
        assert_eq!(connections.open.len(), ADMIN_CONNECTIONS_MAX);
    }

    fn connection<S>(stream: S) -> (Connection<S>, oneshot::Sender<()>) {
        let slots = Arc::new(Semaphore::new(1));
        let permit = slots.try_acquire_owned().expect("is free");
        let (ends, ended) = oneshot::channel();
        (Connection::new(stream, permit, ended), ends)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_takes_no_answer_ends_however_it_dribbles() {
        let (stream, mut client) = tokio::io::duplex(1 << 10);
        let (mut connection, _ends) = connection(stream);
        let since = Instant::now();
        let dribbles = async {
            loop {
                tokio::time::sleep(SILENT_MAX / 4).await;
                if client.write_all(b"x").await.is_err() {
                    return;
                }
            }
        };
        let reads = async {
            let mut read = Vec::new();
            let first = tokio::time::timeout(SILENT_MAX / 2, connection.read_to_end(&mut read));
            assert!(first.await.is_err(), "has time");
            connection.write_all(b"answer").await.expect("has time");
            let answered = Instant::now();
            let ended = connection.read_to_end(&mut read).await;
            let kind = ended.expect_err("has no time left").kind();
            (kind, answered.elapsed())
        };
        let (kind, silent) = tokio::select! {
            ended = reads => ended,
            () = dribbles => panic!("ended by the client after {:?}", since.elapsed()),
        };
        assert_eq!((kind, silent), (io::ErrorKind::TimedOut, SILENT_MAX));
    }
}
