//! Calls to voters, over connections that are kept while they are not used.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use highwater_client::{Connection, Error, Options};
use highwater_io::net::Network;
use highwater_kraft_meta::{Calls, Endpoint};
use highwater_runtime::reasons;
use highwater_tls::Failure;
use highwater_types::NodeId;
use tokio::time::{Instant, timeout};

use super::{ANSWERED, CALL, CALL_VERSION, FRAME_BYTES_MAX, KEPT, NOT_CALLED};

/// The most connections to one voter that are kept while nothing uses them.
const IDLE_MAX: usize = 4;

/// How long a connection may take. A host that is gone does not answer at all, and the kernel asks it less and less
/// often: another attempt finds it as soon as it is back.
const CONNECT: Duration = Duration::from_secs(1);

/// The way to the voters.
#[derive(Debug)]
pub(super) struct NetworkCalls {
    network: Arc<dyn Network>,
    /// The name of this node in the requests, for the log of the voter.
    client_id: String,
    /// The names of the controllers' listeners.
    listeners: Vec<String>,
    /// The configured host and port of each controller.
    addresses: BTreeMap<NodeId, (String, u16)>,
    /// Those that the metadata has, which come first.
    learned: Mutex<BTreeMap<NodeId, (String, u16)>>,
    /// The connections that nothing uses, and since when.
    idle: Mutex<BTreeMap<NodeId, Vec<(Instant, Connection)>>>,
    /// The failure of TLS that was last told of each voter, until a call succeeds.
    told: Mutex<BTreeMap<NodeId, Failure>>,
}

impl NetworkCalls {
    pub(super) fn new(
        network: Arc<dyn Network>,
        (node, listeners): (NodeId, Vec<String>),
        addresses: BTreeMap<NodeId, (String, u16)>,
    ) -> Self {
        Self {
            network,
            client_id: format!("node-{node}"),
            listeners,
            addresses,
            learned: Mutex::default(),
            idle: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// The configured controllers.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.addresses.keys().copied().collect()
    }

    /// Uses these addresses from now on. A connection that is kept to another address ends.
    pub(super) fn learn(&self, addresses: &BTreeMap<NodeId, Vec<Endpoint>>) {
        let chosen = addresses.iter().filter_map(|(node, endpoints)| {
            let is_own = |endpoint: &&Endpoint| self.listeners.contains(&endpoint.listener);
            let endpoint = endpoints.iter().find(is_own).or(endpoints.first())?;
            let port = u16::try_from(endpoint.port).ok()?;
            Some((*node, (endpoint.host.clone(), port)))
        });
        let chosen: BTreeMap<NodeId, (String, u16)> = chosen.collect();
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut idle = self.idle();
        idle.retain(|node, _| {
            chosen
                .get(node)
                .is_none_or(|now| learned.get(node) == Some(now))
        });
        // an answer that names some controllers says nothing of the others
        learned.extend(chosen);
    }

    /// The addresses of a controller: the one that was learned, then the one that is configured, because an address in the
    /// metadata may be wrong, and is corrected only by a quorum.
    fn addresses(&self, of: NodeId) -> Vec<(String, u16)> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let learned = learned.get(&of);
        let configured = self.addresses.get(&of).filter(|it| learned != Some(it));
        learned.into_iter().chain(configured).cloned().collect()
    }

    fn idle(&self) -> MutexGuard<'_, BTreeMap<NodeId, Vec<(Instant, Connection)>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is kept and still open.
    fn kept(&self, to: NodeId) -> Option<Connection> {
        let mut idle = self.idle();
        let kept = idle.get_mut(&to)?;
        // one that the voter has closed, or is about to close, is not used: a call on it would have an unknown outcome
        kept.retain(|(since, _)| since.elapsed() < KEPT);
        let mut newest_first = std::iter::from_fn(|| kept.pop()).map(|(_, connection)| connection);
        newest_first.find(Connection::is_silent)
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<NodeId, Failure>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs why a voter can't be called by TLS: once for each cause, because calls are repeated all the time.
    fn tell(&self, to: NodeId, error: &io::Error) {
        let Some(failure) = Failure::of(error) else {
            return;
        };
        let former = self.told().insert(to, failure.clone());
        if former.as_ref() != Some(failure) {
            tracing::error!(node_id = %to, error = %failure, "TLS handshake with a controller failed");
        }
    }

    /// Keeps a connection for the next call.
    fn keep(&self, to: NodeId, connection: Connection) {
        let mut idle = self.idle();
        let kept = idle.entry(to).or_default();
        if kept.len() < IDLE_MAX {
            kept.push((Instant::now(), connection));
        }
    }

    /// Opens a connection to the first address that takes one. All errors say that nothing was sent.
    async fn connect(&self, to: NodeId, within: Duration) -> io::Result<Connection> {
        let addresses = self.addresses(to);
        let each = within / u32::try_from(addresses.len()).unwrap_or(1).max(1);
        let mut failed = Err(not_sent("its address is unknown".to_owned()));
        for (host, port) in addresses {
            failed = self.connect_to(to, (&host, port), each).await;
            if failed.is_ok() {
                break;
            }
        }
        failed
    }

    async fn connect_to(
        &self,
        to: NodeId,
        (host, port): (&str, u16),
        within: Duration,
    ) -> io::Result<Connection> {
        let options = Options {
            client_id: self.client_id.clone(),
            timeout: None,
            answer_bytes_max: FRAME_BYTES_MAX,
        };
        let opening = Connection::open(&*self.network, host, port, options);
        match timeout(within, opening).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                if let Error::Connection(error) = &error {
                    self.tell(to, error);
                }
                Err(not_sent(format!("{host}:{port}: {}", reasons(&error))))
            }
            Err(_elapsed) => Err(not_sent(format!(
                "{host}:{port}: no connection within {within:?}"
            ))),
        }
    }

    async fn exchange(&self, connection: &mut Connection, request: &[u8]) -> io::Result<Bytes> {
        let head = self.head(request.len())?;
        connection.send_raw(&head).await.map_err(failed)?;
        connection.send_raw(request).await.map_err(failed)?;
        let answer = connection.receive_raw().await.map_err(failed)?;
        let closed = || io::Error::from(io::ErrorKind::ConnectionReset);
        let (_correlation_id, mut answer) = answer.ok_or_else(closed)?;
        if answer.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the answer is empty",
            ));
        }
        match answer.get_u8() {
            ANSWERED => Ok(answer),
            NOT_CALLED => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                String::from_utf8_lossy(&answer).into_owned(),
            )),
            _ => Err(io::Error::other(
                String::from_utf8_lossy(&answer).into_owned(),
            )),
        }
    }

    /// Length and header of a request with a body of so many bytes.
    fn head(&self, body_bytes: usize) -> io::Result<Bytes> {
        let mut header = BytesMut::new();
        header.put_i16(CALL);
        header.put_i16(CALL_VERSION);
        header.put_i32(0);
        header.put_i16(i16::try_from(self.client_id.len()).map_err(io::Error::other)?);
        header.put_slice(self.client_id.as_bytes());
        let length = i32::try_from(header.len() + body_bytes).map_err(io::Error::other)?;
        let mut head = BytesMut::with_capacity(4 + header.len());
        head.put_i32(length);
        head.put_slice(&header);
        Ok(head.freeze())
    }
}

fn failed(error: Error) -> io::Error {
    match error {
        Error::Connection(error) => error,
        error => io::Error::other(error.to_string()),
    }
}

#[async_trait]
impl Calls for NetworkCalls {
    async fn call(&self, to: NodeId, request: Bytes, within: Duration) -> io::Result<Bytes> {
        let mut connection = match self.kept(to) {
            Some(connection) => connection,
            None => self.connect(to, within.min(CONNECT)).await?,
        };
        // a connection whose call was dropped or failed is not used again
        let answer = timeout(within, self.exchange(&mut connection, &request)).await;
        let answer = answer.map_err(|_elapsed| {
            let why = format!("no answer within {within:?}");
            io::Error::new(io::ErrorKind::TimedOut, why)
        })?;
        match &answer {
            Ok(_) => {
                self.told().remove(&to);
                self.keep(to, connection);
            }
            Err(error) => self.tell(to, error),
        }
        answer
    }
}

fn not_sent(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, why)
}
