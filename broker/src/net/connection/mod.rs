//! One connection: requests in order, answers in order.
//!
//! Requests overlap only if their [`RequestClass`] allows it and they are served as [`Served::Later`] (A3). Any other
//! request starts when all requests before it are answered, so it finds the [`Session`] that they have negotiated.
//! While a request is served, the connection reads at most one buffer ahead.
//!
//! A request that was received is served even if the client closes the connection, because it may have closed only its
//! own side: the requests in the buffer are served, and the one in progress continues. A fetch that waits for records
//! stops waiting and answers with the records there are. Answers that can't be written are dropped.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{Either, select};
use highwater_io::net::Socket;
use highwater_runtime::{BytePermit, until};
use highwater_tls::Failure;
use highwater_types::{StreamOffset, TopicId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::frame_reader::{Frame, FrameLimits, FrameReader, ReadError, RequestClass};
use super::{BufferPool, Session, write};
use crate::memory::RequestBudgets;

/// A connection as handlers see it: its fixed properties, and the state that its requests and its socket share.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    /// The client.
    pub peer: SocketAddr,
    /// The listener that accepted it.
    pub listener: Arc<str>,
    /// Whether the client took its last large answer promptly; false before the first.
    prompt: AtomicBool,
    /// Whether no further request comes, because the client sends no more or the node stops.
    ended: watch::Sender<bool>,
    /// Whether requests are served or answers written.
    is_busy: AtomicBool,
    /// Whether no further request is served, because the node stops.
    stops: AtomicBool,
    /// When the next request may be read, if that has to wait.
    rests_until: Mutex<Option<Instant>>,
    /// Where the client, a consumer, was sent to another broker.
    sent_on: Mutex<Option<Box<SentOn>>>,
}

/// The partitions for which a consumer was sent to another broker within the last minute (KIP-392).
type SentOn = BTreeMap<(TopicId, i32), Sent>;

/// Where a consumer was sent to another broker.
#[derive(Debug)]
struct Sent {
    from: StreamOffset,
    at: Instant,
    /// Whether it came back for the same offset, so that the other broker does not serve it.
    is_back: bool,
}

/// How long a consumer is served, and not sent to another broker again, that came back for the same offset: the other one
/// may not answer it, and clients wait for half a minute.
const SENT_ON_ONCE_IN: Duration = Duration::from_secs(60);
/// The most partitions that are remembered; for others a consumer is not sent anywhere.
const SENT_ON_MAX: usize = 64;

impl ConnectionInfo {
    /// A new connection, whose client has taken no answer yet.
    #[must_use]
    pub(crate) fn new(peer: SocketAddr, listener: Arc<str>) -> Self {
        Self {
            peer,
            listener,
            prompt: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            is_busy: AtomicBool::new(false),
            stops: AtomicBool::new(false),
            rests_until: Mutex::default(),
            sent_on: Mutex::default(),
        }
    }

    /// Pauses reading for that time once the current request is answered. The connection holds no memory meanwhile.
    pub(crate) fn rest(&self, time: Duration) {
        *self.rests() = Some(Instant::now() + time);
    }

    fn rests(&self) -> MutexGuard<'_, Option<Instant>> {
        let rests = self.rests_until.lock();
        rests.unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the client is sent to another broker for a partition, from an offset on.
    pub(crate) fn sent_on(&self, partition: (TopicId, i32), from: StreamOffset) {
        let mut sent_on = self.sent_on.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = Sent {
            from,
            at: Instant::now(),
            is_back: false,
        };
        sent_on.get_or_insert_default().insert(partition, sent);
    }

    /// Whether the client may not be sent to another broker for that: it came back for the same offset within the last
    /// minute, or there are too many partitions to remember.
    #[must_use]
    pub(crate) fn stays_for(&self, partition: (TopicId, i32), offset: StreamOffset) -> bool {
        let mut sent_on = self.sent_on.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(all) = sent_on.as_mut() else {
            return false;
        };
        all.retain(|_, sent| sent.at.elapsed() < SENT_ON_ONCE_IN);
        let is_full = all.len() >= SENT_ON_MAX;
        match all.get_mut(&partition) {
            Some(sent) => {
                sent.is_back |= sent.from == offset;
                sent.is_back
            }
            None => is_full,
        }
    }

    /// Records that no further request comes, and wakes the requests that wait for that.
    pub(crate) fn set_ended(&self) {
        self.ended.send_replace(true);
    }

    /// Serves no further request. Those in progress go on, but wait for no new records and for no other clients (A5).
    pub(super) fn stop(&self) {
        self.stops.store(true, Ordering::SeqCst);
        self.set_ended();
    }

    /// Whether requests are served or answers written.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::SeqCst)
    }

    /// Begins a request; returns false if the node stops. If a stop comes at the same time, either the request is refused here
    /// or the stop sees that the connection is busy.
    fn begin_request(&self) -> bool {
        self.is_busy.store(true, Ordering::SeqCst);
        !self.stops.load(Ordering::SeqCst)
    }

    /// Whether no further request comes, so that those in progress need not wait.
    #[must_use]
    pub(crate) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Resolves when no further request comes.
    pub(crate) async fn ends(&self) {
        let mut ended = self.ended.subscribe();
        // the sender lives as long as this
        drop(ended.wait_for(|ended| *ended).await);
    }

    /// Whether the client is known to take its answers promptly.
    #[must_use]
    pub(crate) fn takes_promptly(&self) -> bool {
        self.prompt.load(Ordering::Relaxed)
    }
}

/// One answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The frame with its length prefix, as a gather list, and the memory that it holds until it is written.
    Frame(Vec<Bytes>, BytePermit),
    /// No answer is sent, as for a produce with acks=0.
    Silent,
    /// The connection is closed instead.
    Close,
}

/// The outcome of serving one request.
pub(crate) enum Served<L> {
    /// The request is answered.
    Now(Answer),
    /// The request is answered, and the connection has a new session from here on.
    Negotiated(Answer, Arc<Session>),
    /// The request is admitted and will be answered later. Requests behind it that overlap may be read meanwhile.
    Later(Later<L>),
}

impl<L> std::fmt::Debug for Served<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Now(answer) => f.debug_tuple("Now").field(answer).finish(),
            Self::Negotiated(answer, session) => f
                .debug_tuple("Negotiated")
                .field(answer)
                .field(session)
                .finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

/// The future answer to a request that is admitted.
pub(crate) struct Later<L> {
    /// Resolves with the answer. The connection polls it when it is woken, and once more at the deadline. So the future
    /// needs no timer of its own, but it must be ready when it is polled at the deadline or later.
    pub answer: L,
    /// The latest time for the answer.
    pub deadline: Instant,
}

/// Serves requests; the broker's dispatch.
pub(crate) trait Service: Send + Sync + 'static {
    /// Serves one request. It is dropped if it takes long after the client closed the connection.
    type Serving: Future<Output = Served<Self::Answer>> + Send;
    /// The answer to a request that is admitted.
    type Answer: Future<Output = Answer> + Send + Unpin;
    /// Begins to serve one request.
    fn serve(
        &self,
        connection: &Arc<ConnectionInfo>,
        session: &Arc<Session>,
        frame: Frame,
    ) -> Self::Serving;
}

/// How long a connection may take for its next request, while none of its requests is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// For ever.
    Endless,
    /// Any time, as long as the connection is not idle for longer than this.
    Idle(Duration),
    /// The whole request has to come within these times.
    Request {
        /// The time for the first request of the connection.
        first: Duration,
        /// The time for each further request.
        next: Duration,
    },
}

/// The limits of a connection.
#[derive(Debug, Clone)]
pub(super) struct ConnectionLimits {
    pub(super) frames: FrameLimits,
    pub(super) patience: Patience,
    /// M3: how long a client may take for one answer.
    pub(super) write: Duration,
    pub(super) pool: BufferPool,
    pub(super) budgets: RequestBudgets,
    /// The class of an API key as it was received.
    pub(super) class_of: fn(i16) -> RequestClass,
}

/// The most answers that may be pending. At that number the socket is not read.
const PENDING_MAX: usize = 128;

enum Pending<L> {
    Ready(Answer),
    Waiting(Later<L>),
}

struct Connection<S: Service> {
    socket: Box<dyn Socket>,
    info: Arc<ConnectionInfo>,
    session: Arc<Session>,
    reader: FrameReader,
    pending: VecDeque<Pending<S::Answer>>,
    /// The timer for the deadline of the first pending answer, or of the client's next request.
    alarm: Alarm,
    limits: ConnectionLimits,
    /// Whether a request was read.
    has_served: bool,
    /// Until when the requests of a client that closed the connection are served.
    given_up: Option<Instant>,
    /// Whether a write failed, so that further answers are dropped.
    deaf: bool,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("its handshake failed")]
    Handshake(#[source] Failure),
    #[error("closed by the client")]
    Client,
    #[error("closed by a request that is not answered")]
    Request,
    #[error("idle for too long")]
    Idle,
    #[error("the node stops")]
    Stopped,
    #[error("an answer was not taken in time")]
    Slow,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("write failed")]
    Write(#[source] std::io::Error),
}

/// Serves one connection until it ends.
pub(super) async fn run<S: Service>(
    socket: Box<dyn Socket>,
    info: Arc<ConnectionInfo>,
    session: Arc<Session>,
    service: Arc<S>,
    limits: ConnectionLimits,
) -> Ended {
    let reader = FrameReader::new(limits.pool.clone(), limits.frames, limits.class_of);
    let mut connection = Connection::<S> {
        socket,
        info,
        session,
        reader,
        pending: VecDeque::new(),
        alarm: Alarm::default(),
        limits,
        has_served: false,
        given_up: None,
        deaf: false,
    };
    loop {
        match connection.step(&*service).await {
            Ok(()) => {}
            Err(ended) => return ended,
        }
    }
}

impl<S: Service> Connection<S> {
    /// Writes the answers that are ready, or reads and serves one frame.
    async fn step(&mut self, service: &S) -> Result<(), Ended> {
        if self.pending.is_empty() {
            self.info.is_busy.store(false, Ordering::SeqCst);
            let rests_until = self.info.rests().take();
            if let Some(time) = rests_until {
                self.reader.shrink();
                tokio::time::sleep_until(time).await;
            }
            return match self.next_or_idle().await? {
                Some(frame) => self.serve(service, frame).await,
                None => Err(Ended::Client),
            };
        }
        let stops = self.info.stops.load(Ordering::SeqCst);
        let may_read = self.pending.len() < PENDING_MAX && self.given_up.is_none() && !stops;
        // every arm is cancellation safe: pending answers and the reader keep their state
        tokio::select! {
            biased;
            () = ready(&mut self.pending, &mut self.alarm) => self.write_ready().await,
            frame = self.reader.next(&mut *self.socket, &self.limits.budgets), if may_read => {
                match frame {
                    Ok(Some(frame)) => self.serve(service, frame).await,
                    Ok(None) | Err(ReadError::Ended(_)) => {
                        self.end_input();
                        Ok(())
                    }
                    Err(error) => Err(error.into()),
                }
            }
            () = until(self.given_up) => Err(Ended::Client),
        }
    }

    /// Reads the next frame, as long as the connection may take for it.
    async fn next_or_idle(&mut self) -> Result<Option<Frame>, Ended> {
        let idle = match self.limits.patience {
            Patience::Idle(idle) => idle,
            Patience::Endless => {
                let next = self.reader.next(&mut *self.socket, &self.limits.budgets);
                return Ok(next.await?);
            }
            Patience::Request { first, next } => {
                let time = if self.has_served { next } else { first };
                let next = self.reader.next(&mut *self.socket, &self.limits.budgets);
                let next = self.alarm.limit(Instant::now() + time, next).await;
                return Ok(next.ok_or(Ended::Idle)??);
            }
        };
        let mut moved = Instant::now();
        loop {
            let next = self.reader.next(&mut *self.socket, &self.limits.budgets);
            if let Some(next) = self.alarm.limit(moved + idle, next).await {
                return Ok(next?);
            }
            match self.reader.moved_at() {
                Some(at) if at > moved => moved = at,
                _ => return Err(Ended::Idle),
            }
        }
    }

    /// Notes that the client sends no more. Its requests get as long as one answer may take.
    fn end_input(&mut self) {
        let until = Instant::now() + self.limits.write;
        self.given_up.get_or_insert(until);
        self.info.set_ended();
    }

    async fn serve(&mut self, service: &S, frame: Frame) -> Result<(), Ended> {
        let is_begun = self.info.begin_request();
        self.has_served = true;
        let overlaps = frame.class.overlaps;
        while !(overlaps && is_begun || self.pending.is_empty()) {
            ready(&mut self.pending, &mut self.alarm).await;
            self.write_ready().await?;
        }
        if !is_begun {
            return Err(Ended::Stopped);
        }
        let mut serving = pin!(service.serve(&self.info, &self.session, frame));
        let served = loop {
            // cancellation safe: `serving` lives outside, and the other arms keep their state
            tokio::select! {
                biased;
                served = &mut serving => break served,
                () = ready(&mut self.pending, &mut self.alarm), if !self.pending.is_empty() => {
                    // the request in progress is polled during the write: it may be first in line at a budget, and
                    // requests of other connections wait behind it
                    let writing = pin!(self.write_ready());
                    match select(serving.as_mut(), writing).await {
                        Either::Left((served, writing)) => {
                            writing.await?;
                            break served;
                        }
                        Either::Right((written, _)) => written?,
                    }
                }
                _closed = self.reader.until_closed(&mut *self.socket, &self.limits.budgets),
                    if !overlaps && self.given_up.is_none() =>
                {
                    self.end_input();
                }
                () = until(self.given_up) => return Err(Ended::Client),
            }
        };
        self.pending.push_back(match served {
            Served::Now(answer) => Pending::Ready(answer),
            Served::Negotiated(answer, session) => {
                self.session = session;
                Pending::Ready(answer)
            }
            Served::Later(later) => Pending::Waiting(later),
        });
        if matches!(self.pending.front(), Some(Pending::Ready(_))) {
            self.write_ready().await?;
        }
        // if a client has sent many requests at once, other clients get their turns between them
        match overlaps {
            true => tokio::task::coop::consume_budget().await,
            false => tokio::task::yield_now().await,
        }
        Ok(())
    }

    /// Writes every answer that is ready at the front, in one go.
    async fn write_ready(&mut self) -> Result<(), Ended> {
        let mut parts = VecDeque::new();
        // of different budgets: each goes back to its own
        let mut held = Vec::new();
        let mut close = false;
        while let Some(answer) = pop_ready(&mut self.pending) {
            match answer {
                Answer::Frame(frame, permit) => {
                    parts.extend(frame);
                    if permit.bytes() > 0 {
                        held.push(permit);
                    }
                }
                Answer::Silent => {}
                Answer::Close => {
                    close = true;
                    break;
                }
            }
        }
        if !parts.is_empty() && !self.deaf {
            match self.write(parts, &held).await {
                // what the client sent before it went is served all the same
                Err(Ended::Write(_)) => self.deaf = true,
                written => written?,
            }
        }
        if close { Err(Ended::Request) } else { Ok(()) }
    }
}

/// How long writing an answer may take until its shared memory is copied.
const PROMPT: Duration = Duration::from_millis(100);
/// The interval at which the progress of a write is checked.
const LOOK: Duration = Duration::from_secs(1);
/// The bytes that the client has to take in each interval while other answers wait for the memory.
const TAKEN_MIN: usize = 64 << 10;

impl<S: Service> Connection<S> {
    /// Writes answers (M3). An answer that the client does not take promptly is copied out of the segments and blocks
    /// that it shares, because it would keep them from being freed. It is given up if other answers wait for its memory
    /// and it hardly progresses, and at the deadline in any case.
    async fn write(
        &mut self,
        mut parts: VecDeque<Bytes>,
        held: &[BytePermit],
    ) -> Result<(), Ended> {
        let holds = !held.is_empty();
        // most answers are taken at once, and need neither time nor a timer
        let at_once = write::write_all(&mut *self.socket, &mut parts).now_or_never();
        let begun = Instant::now();
        let deadline = begun + self.limits.write;
        let written = match at_once {
            Some(written) => Some(written),
            None => {
                let write = write::write_all(&mut *self.socket, &mut parts);
                let prompt = tokio::time::timeout_at(deadline.min(begun + PROMPT), write);
                prompt.await.ok()
            }
        };
        if holds {
            self.info.prompt.store(written.is_some(), Ordering::Relaxed);
        }
        if let Some(written) = written {
            return written.map_err(Ended::Write);
        }
        self.reader.shrink();
        if holds {
            write::own(&mut parts);
        }
        loop {
            let before = bytes_of(&parts);
            let until = deadline.min(Instant::now() + LOOK);
            let write = write::write_all(&mut *self.socket, &mut parts);
            if let Ok(written) = tokio::time::timeout_at(until, write).await {
                return written.map_err(Ended::Write);
            }
            let hardly = before - bytes_of(&parts) < TAKEN_MIN;
            if Instant::now() >= deadline || (hardly && held.iter().any(BytePermit::is_contended)) {
                return Err(Ended::Slow);
            }
        }
    }
}

fn bytes_of(parts: &VecDeque<Bytes>) -> usize {
    parts.iter().map(Bytes::len).sum()
}

/// Waits until the first pending answer is ready. Cancellation safe. Answers are sent in the order of requests, so the
/// deadlines of the answers behind it don't matter yet.
async fn ready<L>(pending: &mut VecDeque<Pending<L>>, alarm: &mut Alarm)
where
    L: Future<Output = Answer> + Unpin,
{
    let Some(front) = pending.front_mut() else {
        return;
    };
    if let Pending::Waiting(Later { answer, deadline }) = front {
        let answer = match alarm.limit(*deadline, &mut *answer).await {
            Some(answer) => answer,
            None => answer.await,
        };
        *front = Pending::Ready(answer);
    }
}

/// Takes the first answer if it is ready, polling it without waiting.
fn pop_ready<L>(pending: &mut VecDeque<Pending<L>>) -> Option<Answer>
where
    L: Future<Output = Answer> + Unpin,
{
    if let Pending::Waiting(later) = pending.front_mut()? {
        let mut context = Context::from_waker(Waker::noop());
        return match Pin::new(&mut later.answer).poll(&mut context) {
            Poll::Ready(answer) => {
                pending.pop_front();
                Some(answer)
            }
            Poll::Pending => None,
        };
    }
    match pending.pop_front() {
        Some(Pending::Ready(answer)) => Some(answer),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
