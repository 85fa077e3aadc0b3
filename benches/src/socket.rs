//! The generator's sockets. They block their thread, so that only the kernel ever waits, and no runtime is needed.

use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use highwater_client::{Connection, Options};
use highwater_io::net::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The client id of the generator.
pub(crate) const CLIENT_ID: &str = "highwater-bench";

/// How long a broker may take to read a request, or to answer it: longer than Kafka's clients wait.
const ANSWER: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct BlockingSocket(TcpStream);

impl Socket for BlockingSocket {
    fn poll_read_ready(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for BlockingSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = again(|| self.0.read(buf.initialize_unfilled()))?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BlockingSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(again(|| self.0.write(buf)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(again(|| self.0.write_vectored(parts)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown(std::net::Shutdown::Write))
    }
}

/// Repeats a call that a signal interrupted.
fn again(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Connects, and returns the connection with a second handle on its socket, on which a caller waits with a time limit.
pub(crate) fn connect(bootstrap: &str) -> Result<(Connection, TcpStream)> {
    let socket =
        TcpStream::connect(bootstrap).with_context(|| format!("cannot connect to {bootstrap}"))?;
    socket.set_nodelay(true)?;
    // a broker that does not answer fails the run instead of stopping it
    socket.set_read_timeout(Some(ANSWER))?;
    socket.set_write_timeout(Some(ANSWER))?;
    let handle = socket.try_clone()?;
    let options = Options {
        client_id: CLIENT_ID.to_owned(),
        timeout: None,
        ..Options::default()
    };
    let connection = Connection::over(Box::new(BlockingSocket(socket)), options);
    Ok((connection, handle))
}

/// Runs a future of such a connection. Its sockets are always ready, so one poll is enough.
pub(crate) fn done<T, E>(asked: impl Future<Output = Result<T, E>>) -> Result<T>
where
    E: Into<anyhow::Error>,
{
    let mut asked = pin!(asked);
    match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done.map_err(Into::into),
        Poll::Pending => bail!("a socket that blocks is not ready"),
    }
}
