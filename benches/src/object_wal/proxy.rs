//! A proxy in front of an S3-compatible server, which answers as slowly as S3 does, and notes what it sees.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::draws::{Draws, PUT_MS, READ_MS};
use crate::figures::Latency;
use crate::machine;

/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The longest body of a request.
const BODY_BYTES_MAX: usize = 256 << 20;
/// The bytes that a connection reads ahead.
const READ_AHEAD_BYTES: usize = 64 << 10;
/// How long the server may take for an answer.
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
    /// The times of the log's puts, from the head of the request to the end of the answer.
    wal_puts: Latency,
    draws: Draws,
}

struct State {
    server: String,
    seen: Mutex<Seen>,
}

/// A running proxy, on a thread of its own.
pub(super) struct Proxy {
    pub(super) endpoint: String,
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
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address: SocketAddr = listener.local_addr()?;
        let seen = Seen {
            counts: Counts::default(),
            wal_puts: Latency::new()?,
            draws: Draws::new(20_261_129),
        };
        let state = Arc::new(State {
            server: server.to_owned(),
            seen: Mutex::new(seen),
        });
        drop(runtime.spawn(accept(listener, Arc::clone(&state))));
        Ok(Self {
            endpoint: format!("http://{address}"),
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

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        // an error ends the connection, which its client sees
        connections.spawn(async move { drop(state.serve(socket).await) });
        while connections.try_join_next().is_some() {}
    }
}

/// A request, as the server gets it.
struct Request {
    method: String,
    path: String,
    bytes: Vec<u8>,
}

/// Reads a request; `None` if the client has closed the connection. The server is told to close its own connection, so
/// that the end of an answer is the end of the connection.
async fn read_request(socket: &mut BufReader<TcpStream>) -> Result<Option<Request>> {
    let mut bytes = Vec::new();
    let (mut first, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await? == 0 {
            ensure!(bytes.is_empty(), "a head without an end");
            return Ok(None);
        }
        ensure!(bytes.len() + line.len() < HEAD_BYTES_MAX, "a long head");
        if line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "connection" => continue,
            "content-length" => length = value.trim().parse()?,
            "transfer-encoding" => bail!("a body without a length"),
            _ => {}
        }
        first.get_or_insert_with(|| line.clone());
        bytes.extend_from_slice(line.as_bytes());
    }
    bytes.extend_from_slice(b"Connection: close\r\n\r\n");
    ensure!(length <= BODY_BYTES_MAX, "a body of {length} bytes");
    let head = bytes.len();
    bytes.resize(head + length, 0);
    socket.read_exact(&mut bytes[head..]).await?;
    let first = first.context("a request line")?;
    let mut words = first.split(' ').map(str::to_owned);
    Ok(Some(Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        bytes,
    }))
}

impl Request {
    /// Whether it reads or deletes: neither waits for copies of new bytes.
    fn is_put(&self) -> bool {
        self.method == "PUT"
    }

    fn is_of_wal(&self) -> bool {
        self.is_put() && self.path.contains("/wal/")
    }

    fn count(&self, counts: &mut Counts) {
        // a POST deletes many objects, and a GET with a query that begins so lists them
        let kind = match self.method.as_str() {
            "PUT" => &mut counts.puts,
            "DELETE" | "POST" => &mut counts.deletes,
            _ if self.path.contains("list-type=") => &mut counts.lists,
            _ => &mut counts.gets,
        };
        *kind += 1;
    }
}

impl State {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, socket: TcpStream) -> Result<()> {
        socket.set_nodelay(true)?;
        let mut socket = BufReader::with_capacity(READ_AHEAD_BYTES, socket);
        loop {
            socket.fill_buf().await?;
            let begun = machine::now();
            let Some(request) = read_request(&mut socket).await? else {
                return Ok(());
            };
            let latency = {
                let mut seen = self.seen();
                request.count(&mut seen.counts);
                seen.draws.next(match request.is_put() {
                    true => PUT_MS,
                    false => READ_MS,
                })
            };
            let answer = timeout(ANSWER, self.ask(&request)).await??;
            sleep_until((begun + latency).into()).await;
            socket.write_all(&answer).await?;
            if request.is_of_wal() && answer.starts_with(b"HTTP/1.1 200") {
                let mut seen = self.seen();
                seen.counts.wal_puts += 1;
                seen.wal_puts.record(begun.elapsed());
            }
        }
    }

    /// Asks the server over a connection of its own, and returns the whole answer.
    async fn ask(&self, request: &Request) -> Result<Vec<u8>> {
        let mut server = TcpStream::connect(&self.server).await?;
        server.set_nodelay(true)?;
        // a server that refuses a request may answer before it has read all of it
        let sent = server.write_all(&request.bytes).await;
        let mut answer = Vec::new();
        let read = server.read_to_end(&mut answer).await;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else {
            sent?;
            read?;
            bail!("an answer without a head");
        };
        // the client's own connection stays open
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let kept = head
            .split("\r\n")
            .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let head: Vec<_> = kept.collect();
        Ok([head.join("\r\n").as_bytes(), &answer[end..]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(method: &str, path: &str) -> Counts {
        let mut counts = Counts::default();
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            bytes: Vec::new(),
        };
        request.count(&mut counts);
        counts
    }

    #[test]
    fn requests_are_counted_as_s3_bills_them() {
        let none = Counts::default();
        let put = counted("PUT", "/bucket/wal/1/2/3");
        assert_eq!(put, Counts { puts: 1, ..none });
        let list = counted("GET", "/bucket?list-type=2&prefix=wal");
        assert_eq!(list, Counts { lists: 1, ..none });
        let get = counted("GET", "/bucket/wal/1/2/3");
        assert_eq!(get, Counts { gets: 1, ..none });
        let delete = counted("POST", "/bucket?delete");
        assert_eq!(delete, Counts { deletes: 1, ..none });
        assert_eq!(delete.all(), 1);
        assert_eq!(delete.since(&delete), none);
    }
}
