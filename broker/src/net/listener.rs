//! Accepts connections within the limits on their number.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use highwater_runtime::{TaskKind, Tasks, panic_text};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::BufferPool;
use super::connection::{self, ConnectionInfo, ConnectionLimits, Ended, Patience, Service};
use super::frame_reader::{FrameLimits, ReadError, RequestClass};
use super::handshakes::Handshakes;
use crate::addresses::Listening;
use crate::memory::RequestBudgets;
use crate::metrics::{self, CONNECTIONS, RefusedFrame};

/// The limits on the connections of a node.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// The size limits of frames.
    pub frames: FrameLimits,
    /// How long a connection may take for its next request.
    pub patience: Patience,
    /// The number of connections in all.
    pub connections_max: usize,
    /// The number of connections from one address.
    pub connections_per_ip_max: usize,
    /// The bytes of read buffers that are kept for the next connections that read.
    pub read_buffers_bytes: usize,
    /// The limits of single addresses.
    pub connections_per_ip: BTreeMap<IpAddr, usize>,
}

/// How long a client may take for one answer (M3).
const WRITE_DEADLINE: Duration = Duration::from_secs(60);
/// How long the listener pauses after `accept` failed, for example because too many files are open.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How long a listener that is at a limit waits until it says so again.
const LOG_REST: Duration = Duration::from_secs(60);

/// How often a stop looks whether all requests are answered.
const STOP_LOOK: Duration = Duration::from_millis(10);

/// The connections of a node, over all its listeners.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: Limits,
    connection: ConnectionLimits,
    slots: Arc<Semaphore>,
    open: Mutex<Open>,
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Open {
    /// The number of the next connection.
    next: u64,
    by_ip: BTreeMap<IpAddr, BTreeMap<u64, Arc<ConnectionInfo>>>,
}

impl Open {
    fn all(&self) -> impl Iterator<Item = &Arc<ConnectionInfo>> {
        self.by_ip.values().flat_map(BTreeMap::values)
    }
}

impl Connections {
    /// No connections yet.
    #[must_use]
    pub(crate) fn new(
        limits: Limits,
        budgets: RequestBudgets,
        class_of: fn(i16) -> RequestClass,
    ) -> Arc<Self> {
        let connection = ConnectionLimits {
            frames: limits.frames,
            patience: limits.patience,
            write: WRITE_DEADLINE,
            pool: BufferPool::new(limits.read_buffers_bytes),
            budgets,
            class_of,
        };
        let slots = limits.connections_max.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            limits,
            connection,
            slots: Arc::new(Semaphore::new(slots)),
            open: Mutex::default(),
        })
    }

    /// The number of connections that one address may have.
    fn limit_of(&self, ip: IpAddr) -> usize {
        let own = self.limits.connections_per_ip.get(&ip).copied();
        own.unwrap_or(self.limits.connections_per_ip_max)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection, unless its address has as many as it may have.
    fn enter(self: &Arc<Self>, peer: SocketAddr, listener: &Arc<str>) -> Option<Entered> {
        let ip = peer.ip();
        let max = self.limit_of(ip);
        let mut open = self.open();
        if open.by_ip.get(&ip).map_or(0, BTreeMap::len) >= max {
            return None;
        }
        let number = open.next;
        open.next += 1;
        let info = Arc::new(ConnectionInfo::new(peer, Arc::clone(listener)));
        let of_ip = open.by_ip.entry(ip).or_default();
        of_ip.insert(number, Arc::clone(&info));
        ::metrics::gauge!(CONNECTIONS).increment(1.0);
        Some(Entered {
            connections: Arc::clone(self),
            info,
            number,
        })
    }

    /// Takes no further request, and waits until those in progress are answered, at most until the deadline (A5). The
    /// connections stay open.
    pub(crate) async fn finish(&self, deadline: Instant) {
        self.open().all().for_each(|info| info.stop());
        while self.open().all().any(|info| info.is_busy()) && Instant::now() < deadline {
            tokio::time::sleep(STOP_LOOK).await;
        }
    }
}

/// A connection among those that are open, until this is dropped.
struct Entered {
    connections: Arc<Connections>,
    info: Arc<ConnectionInfo>,
    number: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        ::metrics::gauge!(CONNECTIONS).decrement(1.0);
        let ip = self.info.peer.ip();
        let mut open = self.connections.open();
        if let Some(of_ip) = open.by_ip.get_mut(&ip) {
            of_ip.remove(&self.number);
            if of_ip.is_empty() {
                open.by_ip.remove(&ip);
            }
        }
    }
}

/// Keeps a message that many connections may cause from filling the log.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Option<Instant>);

impl Seldom {
    /// Whether the message may be logged again.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_none_or(|last| last.elapsed() >= LOG_REST)
    }

    /// Whether the message may be logged now. It is then due again after [`LOG_REST`].
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.is_over();
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}

/// Accepts connections for ever, each of which is a task of this kind. At the limit of all connections it accepts no
/// further one until one ends.
pub(crate) async fn serve<S: Service>(
    listening: Listening,
    connections: Arc<Connections>,
    service: Arc<S>,
    (tasks, kind): (Tasks, TaskKind),
) {
    let Listening {
        name: listener,
        acceptor,
        tls,
    } = listening;
    let handshakes = Arc::new(Handshakes::new(Arc::clone(&listener), tls));
    let mut full = Seldom::default();
    let mut crowded = Seldom::default();
    loop {
        if connections.slots.available_permits() == 0 && full.is_due() {
            tracing::warn!(
                %listener,
                limit = connections.limits.connections_max,
                "the listener has as many connections as it may have: the next one waits until another one ends"
            );
        }
        let Ok(slot) = Arc::clone(&connections.slots).acquire_owned().await else {
            return;
        };
        let (socket, peer) = match acceptor.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let entered = connections.enter(peer, &listener);
        metrics::count_connection(entered.is_some());
        let Some(entered) = entered else {
            if crowded.is_due() {
                tracing::warn!(
                    client = %peer,
                    %listener,
                    limit = connections.limit_of(peer.ip()),
                    "connection refused: its address has as many connections as one address may have"
                );
            }
            continue;
        };
        let info = Arc::clone(&entered.info);
        let (service, limits) = (Arc::clone(&service), connections.connection.clone());
        let beginning = Arc::clone(&handshakes);
        let run = async move {
            let (socket, session) = match beginning.begin(socket).await {
                Ok(begun) => begun,
                Err(failure) => {
                    beginning.tell(&failure, peer);
                    return Ended::Handshake(failure);
                }
            };
            drop(beginning);
            connection::run(socket, info, session, service, limits).await
        };
        // boxed, because a future that awaits another reserves space for it twice
        let run = AssertUnwindSafe(Box::pin(run)).catch_unwind();
        tasks.spawn(kind, async move {
            let ended = run.await;
            drop((slot, entered));
            match ended {
                Ok(ended) => log_end(&ended, peer),
                Err(panic) => {
                    metrics::count_panic("none");
                    let error = panic_text(&*panic);
                    tracing::error!(client = %peer, error, "connection panicked");
                }
            }
        });
    }
}

fn log_end(ended: &Ended, peer: SocketAddr) {
    let refused = match ended {
        Ended::Read(ReadError::Length { .. }) => Some(RefusedFrame::Length),
        Ended::Read(ReadError::Tls) => Some(RefusedFrame::Tls),
        Ended::Read(ReadError::Stalled) => Some(RefusedFrame::Stalled),
        _ => None,
    };
    if let Some(refused) = refused {
        refused.count();
    }
    if refused.is_some() || matches!(ended, Ended::Slow) {
        tracing::info!(client = %peer, error = %ended, "connection closed");
    } else {
        tracing::debug!(client = %peer, error = %ended, "connection closed");
    }
}
