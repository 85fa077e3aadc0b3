//! One connection, on which answers come in the order of requests.

use std::future::Future;
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use highwater_io::net::{Network, Socket};
use highwater_protocol::messages::ApiVersionsRequest;
use highwater_protocol::{ErrorCode, Request};
use tokio::io::{AsyncWrite, AsyncWriteExt, BufReader};

use crate::incoming::Incoming;
use crate::{EncodedRequest, Error, Versions, decode, encode};

/// The options of a connection.
#[derive(Debug, Clone)]
pub struct Options {
    /// The client id in each request.
    pub client_id: String,
    /// The time limit for connecting, for sending one request, and for waiting for one answer. With `None` there is no
    /// limit, and the connection needs no timer.
    pub timeout: Option<Duration>,
    /// The longest answer that is read, in bytes.
    pub answer_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "highwater-client".to_owned(),
            timeout: Some(Duration::from_secs(30)),
            answer_bytes_max: 256 << 20,
        }
    }
}

/// A request that was sent and whose answer is not received. It is dropped if no answer is awaited.
#[derive(Debug)]
pub struct Sent<R> {
    correlation_id: i32,
    version: i16,
    request: PhantomData<fn() -> R>,
}

/// A connection to a broker. It holds one request while that is sent, and one answer while that is received; all other
/// requests in flight are in the kernel or at the broker.
#[derive(Debug)]
pub struct Connection {
    socket: BufReader<Box<dyn Socket>>,
    options: Options,
    last_id: i32,
    incoming: Incoming,
    /// Whether a request was sent only in part.
    is_torn: bool,
}

/// The size of the buffer for reading ahead, which holds hundreds of answers to produce requests.
const READ_AHEAD_BYTES: usize = 16 << 10;

impl Connection {
    /// Connects to a broker.
    ///
    /// # Errors
    /// Nothing listens at the address, or it does not answer in time.
    pub async fn open(
        network: &dyn Network,
        host: &str,
        port: u16,
        options: Options,
    ) -> Result<Self, Error> {
        let socket = within(options.timeout, network.connect(host, port)).await??;
        Ok(Self::over(socket, options))
    }

    /// Creates a connection over a socket that is connected.
    #[must_use]
    pub fn over(socket: Box<dyn Socket>, options: Options) -> Self {
        Self {
            socket: BufReader::with_capacity(READ_AHEAD_BYTES, socket),
            options,
            last_id: 0,
            incoming: Incoming::default(),
            is_torn: false,
        }
    }

    /// Changes the client id of later requests.
    pub fn set_client_id(&mut self, client_id: impl Into<String>) {
        self.options.client_id = client_id.into();
    }

    fn next_id(&mut self) -> i32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    /// Sends a request without waiting for its answer. Any number may be in flight, but a broker stops reading while
    /// its answers are not read. If the future is dropped before it is done, the connection can't be used any more.
    ///
    /// # Errors
    /// The request can't be encoded, the connection broke, or sending takes too long.
    pub async fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<Sent<R>, Error> {
        let correlation_id = self.next_id();
        let parts = encode(request, version, correlation_id, &self.options.client_id)?;
        self.write(parts.iter().map(|part| IoSlice::new(part)).collect())
            .await?;
        Ok(Sent {
            correlation_id,
            version,
            request: PhantomData,
        })
    }

    /// Does the same as [`Connection::send`], with a request that was encoded beforehand.
    ///
    /// # Errors
    /// The connection broke, or sending takes too long.
    pub async fn send_encoded<R: Request>(
        &mut self,
        request: &mut EncodedRequest<R>,
    ) -> Result<Sent<R>, Error> {
        let correlation_id = self.next_id();
        self.write(request.parts(correlation_id).map(IoSlice::new).collect())
            .await?;
        Ok(Sent {
            correlation_id,
            version: request.version,
            request: PhantomData,
        })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// As [`Connection::send_encoded`].
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write(vec![IoSlice::new(bytes)]).await
    }

    async fn write(&mut self, mut parts: Vec<IoSlice<'_>>) -> Result<(), Error> {
        if std::mem::replace(&mut self.is_torn, true) {
            return Err(Error::Torn);
        }
        within(
            self.options.timeout,
            write_all(&mut self.socket, &mut parts),
        )
        .await??;
        self.is_torn = false;
        Ok(())
    }

    /// Receives the answer to a request, which must be the oldest without one. Cancellation safe, but `sent` is lost.
    ///
    /// # Errors
    /// Any error but [`Error::Refused`]; the caller judges the error codes in an answer.
    pub async fn receive<R: Request>(&mut self, sent: Sent<R>) -> Result<R::Response, Error> {
        let (found, body) = self.receive_raw().await?.ok_or(Error::Closed)?;
        let expected = sent.correlation_id;
        if found != expected {
            return Err(Error::Order { expected, found });
        }
        Ok(decode::<R>(body, sent.version)?)
    }

    /// Receives any answer: its correlation id and the rest; `None` if the broker closed the connection between two
    /// answers. Cancellation safe.
    ///
    /// # Errors
    /// The connection broke, also within an answer, or no answer comes in time.
    pub async fn receive_raw(&mut self) -> Result<Option<(i32, Bytes)>, Error> {
        let next = self
            .incoming
            .next(&mut self.socket, self.options.answer_bytes_max);
        within(self.options.timeout, next).await?
    }

    /// Whether the broker has sent nothing that was not received, and has not closed the connection, as far as this
    /// machine knows.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let socket = self.socket.get_ref();
        self.socket.buffer().is_empty() && socket.poll_read_ready(&mut context).is_pending()
    }

    /// Whether an answer has been read already, so that receiving it doesn't wait.
    #[must_use]
    pub fn has_answer(&self) -> bool {
        self.incoming.is_whole(self.socket.buffer())
    }

    /// Sends a request and receives its answer; no other request may be in flight.
    ///
    /// # Errors
    /// As [`Connection::send`] and [`Connection::receive`].
    pub async fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, Error> {
        let sent = self.send(request, version).await?;
        self.receive(sent).await
    }

    /// Requests the versions of each API that the broker serves; no request may be in flight.
    ///
    /// # Errors
    /// As [`Connection::call`]; [`Error::Refused`].
    pub async fn versions(&mut self) -> Result<Versions, Error> {
        // Every broker answers version 0.
        let answer = self.call(&ApiVersionsRequest::default(), 0).await?;
        match answer.error_code {
            code if code == ErrorCode::None.code() => Ok(Versions::new(&answer.api_keys)),
            code => Err(Error::Refused {
                api: ApiVersionsRequest::KEY,
                code,
            }),
        }
    }

    /// Closes the client's own side, so that nothing more is sent.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn shutdown(&mut self) -> Result<(), Error> {
        Ok(self.socket.shutdown().await?)
    }

    /// Waits until the broker closes the connection; returns false if it answers instead, or if the connection breaks.
    pub async fn is_closed(&mut self) -> bool {
        matches!(self.receive_raw().await, Ok(None))
    }
}

async fn within<T>(timeout: Option<Duration>, done: impl Future<Output = T>) -> Result<T, Error> {
    match timeout {
        None => Ok(done.await),
        Some(timeout) => {
            let done = tokio::time::timeout(timeout, done).await;
            done.map_err(|_elapsed| Error::Late)
        }
    }
}

/// Writes parts that follow each other: as a vector if the stream supports it, otherwise as one piece, for one packet.
async fn write_all(
    stream: &mut (impl AsyncWrite + Unpin),
    mut parts: &mut [IoSlice<'_>],
) -> io::Result<()> {
    if let [one] = parts {
        stream.write_all(one).await?;
    } else if stream.is_write_vectored() {
        while !parts.is_empty() {
            match stream.write_vectored(parts).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut parts, written),
            }
        }
    } else {
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        stream.write_all(&whole).await?;
    }
    stream.flush().await
}
