//! A proxy in front of an S3-compatible server, which fails as such servers do on their bad days.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::resigned::without_conditions;

/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The longest body of a request.
const BODY_BYTES_MAX: usize = 256 << 20;

/// A request, as a rule sees it.
#[derive(Debug)]
pub struct ProxiedRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, which has bucket and key, with the query.
    pub path: &'a str,
    /// The condition of a put.
    pub condition: Option<Condition>,
    /// The number of requests before it since the rule was set.
    pub nth: usize,
}

/// The condition under which a put is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// There is no object (`If-None-Match: *`).
    Absent,
    /// The object has this version (`If-Match`).
    Version,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The server is asked, and its answer is passed on.
    None,
    /// The server is asked after a delay.
    Delay(Duration),
    /// The server is asked, and its answer is passed on after a delay.
    SlowFirstByte(Duration),
    /// The server is not asked, and nothing is answered.
    Hang,
    /// The connection is closed, as if the server were away.
    Refuse,
    /// The server is not asked; the answer has this status and this code of S3.
    Answer(u16, &'static str),
    /// The server is asked, and the connection is closed without its answer.
    LoseAnswer,
    /// The server is not asked; the answer is 200 with an error as its body.
    ErrorBody,
    /// The server is asked, and the connection is closed within the body of the answer.
    Truncate,
    /// The server is asked without the request's condition.
    DropCondition,
    /// The server is asked, and a refusal for a failed condition is answered with 200.
    AcceptLosers,
}

type Rule = dyn Fn(&ProxiedRequest<'_>) -> Fault + Send + Sync;

struct State {
    server: String,
    /// The id and the secret of the key with which the proxy signs a request that it has changed.
    keys: (String, String),
    rule: Mutex<Arc<Rule>>,
    requests: AtomicUsize,
    faults: AtomicUsize,
}

/// A proxy on a port of its own. Each request meets the fault that the rule chooses. It ends when it is dropped.
pub struct FaultProxy {
    /// The proxy's `http://` endpoint.
    pub endpoint: String,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

impl std::fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultProxy")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl FaultProxy {
    /// Starts a proxy, without faults, in front of a server with an `http://` endpoint. The environment has the keys,
    /// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    ///
    /// # Errors
    /// The endpoint is another one, or no port is free.
    pub async fn start(server: &str) -> Result<Self> {
        let server = server.strip_prefix("http://").context("plain HTTP")?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let key = |name| std::env::var(name).unwrap_or_default();
        let state = Arc::new(State {
            keys: (key("AWS_ACCESS_KEY_ID"), key("AWS_SECRET_ACCESS_KEY")),
            server: server.trim_end_matches('/').to_owned(),
            rule: Mutex::new(Arc::new(|_: &ProxiedRequest<'_>| Fault::None)),
            requests: AtomicUsize::new(0),
            faults: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&state);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let state = Arc::clone(&accepting);
                // an error ends the connection, and the client sees that
                connections.spawn(async move { drop(state.serve(socket).await) });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            endpoint,
            state,
            _serving: serving,
        })
    }

    /// Sets the rule for the requests that come from now on, and counts from 0 again.
    pub fn set_rule(&self, rule: impl Fn(&ProxiedRequest<'_>) -> Fault + Send + Sync + 'static) {
        let mut present = self.state.rule();
        self.state.requests.store(0, Ordering::SeqCst);
        self.state.faults.store(0, Ordering::SeqCst);
        *present = Arc::new(rule);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.set_rule(|_| Fault::None);
    }

    /// The number of requests that have met a fault since the rule was set.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.state.faults.load(Ordering::SeqCst)
    }
}

struct Message {
    head: String,
    body: Vec<u8>,
}

/// The value of a header.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Reads a request; `None` if the client has closed the connection.
async fn read_request(socket: &mut BufReader<TcpStream>) -> Result<Option<Message>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        ensure!(head.len() < HEAD_BYTES_MAX, "a head without an end");
    }
    let head = String::from_utf8(head)?;
    let length = header(&head, "content-length").map_or(Ok(0), str::parse)?;
    ensure!(length <= BODY_BYTES_MAX, "a body of {length} bytes");
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    Ok(Some(Message { head, body }))
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn error_body(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>by the proxy</Message></Error>")
}

impl State {
    fn rule(&self) -> std::sync::MutexGuard<'_, Arc<Rule>> {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn choose(&self, head: &str) -> Fault {
        let mut words = head.split(' ');
        let (method, path) = (words.next(), words.next());
        let has = |name| header(head, name).is_some();
        let condition = match (has("if-none-match"), has("if-match")) {
            (true, _) => Some(Condition::Absent),
            (false, true) => Some(Condition::Version),
            (false, false) => None,
        };
        let rule = Arc::clone(&self.rule());
        let fault = rule(&ProxiedRequest {
            method: method.unwrap_or_default(),
            path: path.unwrap_or_default(),
            condition,
            nth: self.requests.fetch_add(1, Ordering::SeqCst),
        });
        if fault != Fault::None {
            self.faults.fetch_add(1, Ordering::SeqCst);
        }
        fault
    }

    /// Serves one client's connection until it ends.
    async fn serve(&self, socket: TcpStream) -> Result<()> {
        let mut socket = BufReader::new(socket);
        while let Some(request) = read_request(&mut socket).await? {
            let answer = match self.choose(&request.head) {
                Fault::None => self.ask(&request).await?,
                Fault::Delay(delay) => {
                    tokio::time::sleep(delay).await;
                    self.ask(&request).await?
                }
                Fault::SlowFirstByte(delay) => {
                    let answer = self.ask(&request).await?;
                    tokio::time::sleep(delay).await;
                    answer
                }
                Fault::Hang => std::future::pending().await,
                Fault::Refuse => return Ok(()),
                Fault::Answer(status, code) => {
                    answer(&format!("{status} {code}"), &error_body(code))
                }
                Fault::LoseAnswer => {
                    self.ask(&request).await?;
                    return Ok(());
                }
                Fault::ErrorBody => answer("200 OK", &error_body("InternalError")),
                Fault::Truncate => {
                    let whole = self.ask(&request).await?;
                    let body = body_of(&whole).unwrap_or(whole.len());
                    let half = body + (whole.len() - body) / 2;
                    socket.write_all(&whole[..half]).await?;
                    return Ok(());
                }
                Fault::DropCondition => {
                    let (id, secret) = &self.keys;
                    let head = without_conditions(&request.head, (id, secret))?;
                    let body = request.body;
                    self.ask(&Message { head, body }).await?
                }
                Fault::AcceptLosers => {
                    let real = self.ask(&request).await?;
                    match real.starts_with(b"HTTP/1.1 412") || real.starts_with(b"HTTP/1.1 409") {
                        true => {
                            b"HTTP/1.1 200 OK\r\netag: \"0\"\r\ncontent-length: 0\r\n\r\n".to_vec()
                        }
                        false => real,
                    }
                }
            };
            socket.write_all(&answer).await?;
        }
        Ok(())
    }

    /// Asks the server over a connection of its own, and returns the whole answer.
    async fn ask(&self, request: &Message) -> Result<Vec<u8>> {
        let mut server = TcpStream::connect(&self.server).await?;
        let lines = request.head.trim_end().lines();
        let lines = lines.filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let mut head = lines.collect::<Vec<_>>().join("\r\n");
        head += "\r\nConnection: close\r\n\r\n";
        // In one piece: a server that refuses a request may close the connection before it has read all of it, and an
        // answer is lost if something arrives after that.
        let request = [head.as_bytes(), &request.body].concat();
        let sent = server.write_all(&request).await;
        let mut whole = Vec::new();
        let read = server.read_to_end(&mut whole).await;
        if !is_whole(&whole) {
            sent?;
            read?;
        }
        let body = body_of(&whole).context("an answer without an end of its head")?;
        // the client's own connection stays open
        let head = String::from_utf8_lossy(&whole[..body]).into_owned();
        let head = head.replace("Connection: close\r\n", "");
        Ok([head.as_bytes(), &whole[body..]].concat())
    }
}

/// Whether an answer has all of the bytes that its head announces.
fn is_whole(answer: &[u8]) -> bool {
    body_of(answer).is_some_and(|body| {
        let head = String::from_utf8_lossy(&answer[..body]);
        let length = header(&head, "content-length").and_then(|length| length.parse().ok());
        length.is_some_and(|length: usize| answer.len() >= body + length)
    })
}

/// Where the body of a message begins.
fn body_of(message: &[u8]) -> Option<usize> {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

/// The latencies of puts that S3 shows: half of them take 25 ms at most, and 99 of 100 take 100 ms at most. `draw` is a
/// number between 0 and 1, evenly distributed.
#[must_use]
pub fn put_latency(draw: f64) -> Duration {
    // a log-normal distribution, approximated between these quantiles
    const QUANTILES: [(f64, f64); 6] = [
        (0.0, 8.0),
        (0.1, 12.0),
        (0.5, 25.0),
        (0.9, 54.0),
        (0.99, 100.0),
        (1.0, 180.0),
    ];
    let above = QUANTILES.iter().position(|(quantile, _)| draw < *quantile);
    let above = above.unwrap_or(QUANTILES.len() - 1).max(1);
    let ((from, low), (to, high)) = (QUANTILES[above - 1], QUANTILES[above]);
    let share = ((draw - from) / (to - from)).clamp(0.0, 1.0);
    Duration::from_secs_f64((low + share * (high - low)) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_puts_take_25_ms_and_99_of_100_take_100_ms() {
        assert_eq!(put_latency(0.5), Duration::from_millis(25));
        assert_eq!(put_latency(0.99), Duration::from_millis(100));
        assert!(put_latency(0.0) > Duration::ZERO && put_latency(1.0) < Duration::from_secs(1));
    }
}
