//! One connection: requests in order, answers in order.
//!
//! Only what a service serves as [`Served::Later`] may overlap with what follows (A3): Produce. Any other request starts
//! when all before it are answered. While one waits, at most a buffer is read ahead, and the end of the stream cancels
//! the wait, so that a vanished client frees its waiting fetch.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use highwater_io::net::Socket;
use highwater_runtime::BytePermit;
use tokio::time::Instant;

use super::frame_reader::{Frame, FrameReader, ReadError};
use super::{BufferPool, write};
use crate::memory::RequestBudgets;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a connection is, as handlers see it.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The client.
    pub peer: SocketAddr,
    /// The listener it came by.
    pub listener: Arc<str>,
    /// Whether it took its last large answer promptly; false until it has.
    pub(super) prompt: Arc<AtomicBool>,
}

impl ConnectionInfo {
    /// A connection that has taken nothing yet.
    #[must_use]
    pub(super) fn new(peer: SocketAddr, listener: Arc<str>) -> Self {
        Self {
            peer,
            listener,
            prompt: Arc::default(),
        }
    }

    /// Whether it takes its answers promptly, as far as is known.
    #[must_use]
    pub(crate) fn takes_promptly(&self) -> bool {
        self.prompt.load(Ordering::Relaxed)
    }
}

/// One answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The frame, length prefix and all, as a gather list, and the memory it holds until it is written.
    Frame(Vec<Bytes>, BytePermit),
    /// Nothing is answered: a produce with acks=0.
    Silent,
    /// The connection is closed instead.
    Close,
}

/// What became of one request.
pub(crate) enum Served {
    /// It is answered.
    Now(Answer),
    /// It is admitted, and will be answered; later requests of the same kind may be read meanwhile.
    Later(BoxFuture<Answer>),
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Now(answer) => f.debug_tuple("Now").field(answer).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

/// Serves requests; the broker's dispatch.
pub(crate) trait Service: Send + Sync + 'static {
    /// Whether a frame is of the kind that overlaps with earlier ones of its kind (A3).
    fn overlaps(&self, frame: &Bytes) -> bool;
    /// Serves one request. Dropped when the client vanishes while it waits.
    fn serve(&self, connection: &ConnectionInfo, frame: Frame) -> BoxFuture<Served>;
}

/// What bounds a connection.
#[derive(Debug, Clone)]
pub(super) struct ConnectionLimits {
    pub(super) frame_bytes_max: usize,
    pub(super) idle: Option<Duration>,
    /// M3: how long a client may take for one answer.
    pub(super) write: Duration,
    pub(super) pool: BufferPool,
    pub(super) budgets: RequestBudgets,
}

/// Answers admitted and not yet written; past it the socket is not read.
const PENDING_MAX: usize = 128;

enum Pending {
    Ready(Answer),
    Waiting(BoxFuture<Answer>),
}

struct Connection {
    socket: Box<dyn Socket>,
    prompt: Arc<AtomicBool>,
    reader: FrameReader,
    pending: VecDeque<Pending>,
    limits: ConnectionLimits,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("closed by the client")]
    Client,
    #[error("closed by a request that is not answered")]
    Request,
    #[error("idle for too long")]
    Idle,
    #[error("an answer was not taken in time")]
    Slow,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("write failed")]
    Write(#[source] std::io::Error),
}

/// Serves one connection until it ends.
pub(super) async fn run(
    socket: Box<dyn Socket>,
    info: ConnectionInfo,
    service: Arc<dyn Service>,
    limits: ConnectionLimits,
) -> Ended {
    let reader = FrameReader::new(limits.pool.clone(), limits.frame_bytes_max);
    let mut connection = Connection {
        socket,
        prompt: Arc::clone(&info.prompt),
        reader,
        pending: VecDeque::new(),
        limits,
    };
    loop {
        match connection.step(&info, &*service).await {
            Ok(()) => {}
            Err(ended) => return ended,
        }
    }
}

impl Connection {
    /// Answers what is ready, or reads and serves one frame.
    async fn step(&mut self, info: &ConnectionInfo, service: &dyn Service) -> Result<(), Ended> {
        if self.pending.is_empty() {
            let next = self.reader.next(&mut *self.socket, &self.limits.budgets);
            let frame = match self.limits.idle {
                Some(idle) => tokio::time::timeout(idle, next)
                    .await
                    .map_err(|_cause| Ended::Idle)?,
                None => next.await,
            };
            return match frame? {
                Some(frame) => self.serve(info, service, frame).await,
                None => Err(Ended::Client),
            };
        }
        let may_read = self.pending.len() < PENDING_MAX;
        // both arms are cancellation safe: a pending answer keeps its state, so does the reader
        tokio::select! {
            biased;
            () = ready(&mut self.pending) => self.write_ready().await,
            frame = self.reader.next(&mut *self.socket, &self.limits.budgets), if may_read => {
                match frame? {
                    Some(frame) => self.serve(info, service, frame).await,
                    None => Err(Ended::Client),
                }
            }
        }
    }

    async fn serve(
        &mut self,
        info: &ConnectionInfo,
        service: &dyn Service,
        frame: Frame,
    ) -> Result<(), Ended> {
        let overlaps = service.overlaps(&frame.body);
        while !overlaps && !self.pending.is_empty() {
            ready(&mut self.pending).await;
            self.write_ready().await?;
        }
        let mut serving = service.serve(info, frame);
        let served = loop {
            // cancellation safe: `serving` lives outside, the other two keep their state
            tokio::select! {
                biased;
                served = &mut serving => break served,
                () = ready(&mut self.pending), if !self.pending.is_empty() => {
                    // what is served may have its turn at a budget meanwhile, and goes on: others wait behind it
                    let writing = pin!(self.write_ready());
                    match select(&mut serving, writing).await {
                        Either::Left((served, writing)) => {
                            writing.await?;
                            break served;
                        }
                        Either::Right((written, _)) => written?,
                    }
                }
                _closed = self.reader.until_closed(&mut *self.socket), if !overlaps => {
                    return Err(Ended::Client);
                }
            }
        };
        self.pending.push_back(match served {
            Served::Now(answer) => Pending::Ready(answer),
            Served::Later(answer) => Pending::Waiting(answer),
        });
        if matches!(self.pending.front(), Some(Pending::Ready(_))) {
            return self.write_ready().await;
        }
        Ok(())
    }

    /// Writes every answer that is ready at the front, in one go.
    async fn write_ready(&mut self) -> Result<(), Ended> {
        let mut parts = VecDeque::new();
        let mut held = BytePermit::empty();
        let mut close = false;
        while let Some(answer) = pop_ready(&mut self.pending) {
            match answer {
                Answer::Frame(frame, permit) => {
                    parts.extend(frame);
                    if held.bytes() == 0 {
                        held = permit;
                    } else if permit.bytes() > 0 {
                        held.merge(permit);
                    }
                }
                Answer::Silent => {}
                Answer::Close => {
                    close = true;
                    break;
                }
            }
        }
        if !parts.is_empty() {
            self.write(parts, &held).await?;
        }
        if close { Err(Ended::Request) } else { Ok(()) }
    }
}

/// How long an answer may take and be taken promptly; then it keeps nothing of what it shares with caches.
const PROMPT: Duration = Duration::from_millis(100);
/// How often it is looked at how an answer is taken.
const LOOK: Duration = Duration::from_secs(1);
/// What is taken at least between two looks where others wait for the memory.
const TAKEN_MIN: usize = 64 << 10;

impl Connection {
    /// Writes answers (M3). One that is not taken promptly is copied out of the segments and blocks that it shares, which
    /// it would keep from being freed; it is given up when others wait for its memory and it hardly moves, and at the
    /// deadline in any case.
    async fn write(&mut self, mut parts: VecDeque<Bytes>, held: &BytePermit) -> Result<(), Ended> {
        let begun = Instant::now();
        let deadline = begun + self.limits.write;
        let holds = held.bytes() > 0;
        let write = write::write_all(&mut *self.socket, &mut parts);
        let written = tokio::time::timeout_at(deadline.min(begun + PROMPT), write).await;
        if holds {
            self.prompt.store(written.is_ok(), Ordering::Relaxed);
        }
        if let Ok(written) = written {
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
            if Instant::now() >= deadline || (hardly && held.is_contended()) {
                return Err(Ended::Slow);
            }
        }
    }
}

fn bytes_of(parts: &VecDeque<Bytes>) -> usize {
    parts.iter().map(Bytes::len).sum()
}

/// Waits until the first pending answer is ready. Cancellation safe.
async fn ready(pending: &mut VecDeque<Pending>) {
    let Some(front) = pending.front_mut() else {
        return;
    };
    if let Pending::Waiting(answer) = front {
        let answer = answer.await;
        *front = Pending::Ready(answer);
    }
}

/// Takes the first answer if it is ready, polling it without waiting.
fn pop_ready(pending: &mut VecDeque<Pending>) -> Option<Answer> {
    if let Some(front @ Pending::Waiting(_)) = pending.front_mut() {
        let Pending::Waiting(answer) = front else {
            return None;
        };
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match answer.as_mut().poll(&mut context) {
            std::task::Poll::Ready(answer) => *front = Pending::Ready(answer),
            std::task::Poll::Pending => return None,
        }
    }
    match pending.pop_front() {
        Some(Pending::Ready(answer)) => Some(answer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use highwater_io::net::{Network, TcpNetwork};
    use highwater_runtime::ByteBudget;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::Notify;
    use tokio::task::JoinSet;

    use super::*;
    use crate::config::MemoryPlan;

    const LARGE_BYTES: usize = 64 << 20;
    const ENDS_WITHIN: Duration = Duration::from_secs(20);

    /// Answers with more than the machine takes off its hands, from memory that is shared, under a permit for all of it.
    struct Large {
        shared: Bytes,
        budget: ByteBudget,
    }

    impl Large {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                shared: Bytes::from(vec![0; LARGE_BYTES]),
                budget: ByteBudget::new(LARGE_BYTES as u64),
            })
        }
    }

    impl Service for Large {
        fn overlaps(&self, _frame: &Bytes) -> bool {
            false
        }

        fn serve(&self, _connection: &ConnectionInfo, _frame: Frame) -> BoxFuture<Served> {
            let body = vec![self.shared.clone()];
            let permit = self.budget.try_acquire(LARGE_BYTES as u64);
            let permit = permit.unwrap_or_else(BytePermit::empty);
            let answer = Answer::Frame(body, permit);
            Box::pin(async { Served::Now(answer) })
        }
    }

    /// One request, of a kind that nobody reads.
    const REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255];

    /// A client that sent a request, and its connection, which runs.
    async fn connect<S: Service>(
        write: Duration,
        service: &Arc<S>,
    ) -> (TcpStream, JoinSet<(Ended, bool)>) {
        let acceptor = TcpNetwork.listen("127.0.0.1", 0).await.expect("listens");
        let address = acceptor.local_addr().expect("an address");
        let mut client = TcpStream::connect(address).await.expect("connects");
        let (socket, peer) = acceptor.accept().await.expect("accepts");
        let info = ConnectionInfo::new(peer, Arc::from("PLAINTEXT"));
        let limits = ConnectionLimits {
            frame_bytes_max: 1000,
            idle: None,
            write,
            pool: BufferPool::new(0),
            budgets: RequestBudgets::new(&MemoryPlan::new(64 << 20)),
        };
        client.write_all(&REQUEST).await.expect("is taken");
        let service = Arc::clone(service);
        let mut running = JoinSet::new();
        running.spawn(async move {
            let seen = info.clone();
            let ended = run(socket, info, service, limits).await;
            (ended, seen.takes_promptly())
        });
        (client, running)
    }

    async fn end_of(mut running: JoinSet<(Ended, bool)>) -> (Ended, bool) {
        let ended = tokio::time::timeout(ENDS_WITHIN, running.join_next()).await;
        let ended = ended.expect("not for ever").expect("it ran");
        ended.expect("no panic")
    }

    // M3
    #[tokio::test]
    async fn who_does_not_take_an_answer_is_closed() {
        let (_client, running) = connect(Duration::from_millis(300), &Large::new()).await;
        let (ended, prompt) = end_of(running).await;
        assert!(matches!(ended, Ended::Slow), "{ended}");
        assert!(!prompt);
    }

    // M3: long before its deadline, when somebody else waits for the memory
    #[tokio::test]
    async fn who_hardly_takes_an_answer_gives_way_and_pins_no_cache() {
        let large = Large::new();
        let (_client, mut running) = connect(Duration::from_secs(3600), &large).await;
        let holds = || async {
            while large.budget.used() == 0 || !large.shared.is_unique() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let copied = tokio::time::timeout(ENDS_WITHIN, holds()).await;
        copied.expect("what it shares is let go of while it is written");
        tokio::time::sleep(2 * LOOK).await;
        assert!(running.try_join_next().is_none(), "nobody else waits");
        let wanted = large.budget.acquire(1);
        let wanted = tokio::time::timeout(ENDS_WITHIN, wanted).await;
        let permit = wanted.expect("not for ever").expect("fits");
        assert_eq!(permit.bytes(), 1);
        let (ended, _) = end_of(running).await;
        assert!(matches!(ended, Ended::Slow), "{ended}");
    }

    #[tokio::test]
    async fn who_takes_an_answer_at_once_is_known_to() {
        let large = Large::new();
        let (mut client, running) = connect(Duration::from_secs(3600), &large).await;
        let mut answer = vec![0; LARGE_BYTES];
        client.read_exact(&mut answer).await.expect("is written");
        while large.budget.used() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(client);
        let (ended, prompt) = end_of(running).await;
        assert!(matches!(ended, Ended::Client), "{ended}");
        // on a machine that is very busy it may have taken longer
        assert!(prompt || large.shared.is_unique());
    }

    /// Answers the first request with [`Large`], when the second has got in line for the budget.
    struct InLine {
        large: Arc<Large>,
        requests: AtomicUsize,
        in_line: Arc<Notify>,
    }

    impl Service for InLine {
        fn overlaps(&self, _frame: &Bytes) -> bool {
            true
        }

        fn serve(&self, _connection: &ConnectionInfo, _frame: Frame) -> BoxFuture<Served> {
            let in_line = Arc::clone(&self.in_line);
            if self.requests.fetch_add(1, Ordering::Relaxed) == 0 {
                let body = vec![self.large.shared.clone()];
                let answer = async move {
                    in_line.notified().await;
                    Answer::Frame(body, BytePermit::empty())
                };
                return Box::pin(async { Served::Later(Box::pin(answer)) });
            }
            let budget = self.large.budget.clone();
            Box::pin(async move {
                in_line.notify_one();
                drop(budget.acquire(1).await.expect("fits"));
                Served::Now(Answer::Silent)
            })
        }
    }

    // M3
    #[tokio::test]
    async fn who_takes_no_answer_holds_up_nobody_in_line_for_memory() {
        let service = Arc::new(InLine {
            large: Large::new(),
            requests: AtomicUsize::new(0),
            in_line: Arc::default(),
        });
        let budget = &service.large.budget;
        let all = budget.try_acquire(LARGE_BYTES as u64).expect("is free");
        let (mut client, mut running) = connect(Duration::from_secs(3600), &service).await;
        client.write_all(&REQUEST).await.expect("is taken");
        let given_up = Instant::now() + ENDS_WITHIN;
        while budget.try_acquire(0).is_some() {
            assert!(Instant::now() < given_up, "the second request gets in line");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // the first one's answer is under way
        tokio::time::sleep(PROMPT).await;
        drop(all);
        let behind = tokio::time::timeout(ENDS_WITHIN, budget.acquire(1)).await;
        let permit = behind.expect("not for ever").expect("fits");
        assert_eq!(permit.bytes(), 1);
        assert!(running.try_join_next().is_none());
    }
}
