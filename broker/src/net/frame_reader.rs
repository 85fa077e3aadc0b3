//! Reads length-prefixed frames from a socket, each under a permit of its kind's budget (M2).
//!
//! A Produce may be larger than the memory allows and still be within `socket.request.max.bytes`. It is read without
//! being held: only what its answer needs is kept.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use highwater_io::net::Socket;
use highwater_protocol::{DecodeError, OUTLINE_BYTES_MAX, ProduceOutline};
use highwater_runtime::BytePermit;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::BufferPool;
use super::alarm::Alarm;
use crate::memory::{FrameBudget, RequestBudgets};

/// One request as it was received, without its length prefix.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The header and the body.
    pub body: Bytes,
    /// The memory that the frame holds.
    pub permit: BytePermit,
    /// Whether it is a Produce that was too large to be held, so that its records were dropped.
    pub is_outline: bool,
    /// The class of its API.
    pub class: RequestClass,
}

/// The size limits of frames, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameLimits {
    /// The largest frame that is held.
    pub held: usize,
    /// The largest Produce that is read and answered: the configured `socket.request.max.bytes`.
    pub read: usize,
}

/// The properties of a request that its connection needs before it is served. They are columns of the table of APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RequestClass {
    /// The budget that the memory of its frame comes from (M2).
    pub budget: FrameBudget,
    /// Whether it may be served while earlier requests that overlap are not answered (A3).
    pub overlaps: bool,
    /// Whether a request that is too large to be held is read without its records, and answered.
    pub is_outlined: bool,
}

/// Why a connection delivers no further frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The client closed the connection, or the operating system reported an error.
    #[error("connection ended")]
    Ended(#[source] io::Error),
    /// The length prefix is not accepted.
    #[error("frame length refused bytes={bytes} limit={limit}")]
    Length { bytes: i64, limit: usize },
    /// The client speaks TLS.
    #[error(
        "TLS came to a listener of PLAINTEXT: the client's security.protocol is not this listener's"
    )]
    Tls,
    /// Other requests waited for the memory of the frame, and the client sent it too slowly.
    #[error("a frame stopped halfway while others waited for its memory")]
    Stalled,
    /// A Produce that is too large to be held is malformed, or names too many partitions to be answered.
    #[error("a produce that is too large cannot be answered")]
    Outline(#[source] DecodeError),
}

/// Reads the frames of one socket. Every method is cancellation safe: the bytes that were read stay.
#[derive(Debug)]
pub(super) struct FrameReader {
    buffer: BytesMut,
    pool: BufferPool,
    held: Option<Held>,
    /// A frame that is read without being held, and the number of its bytes that are still to come.
    outline: Option<(ProduceOutline, usize)>,
    /// Bytes of the current frame that were already taken from the buffer.
    taken: usize,
    limits: FrameLimits,
    /// The class of an API key.
    class_of: fn(i16) -> RequestClass,
    /// When the last bytes were read.
    moved: Option<Instant>,
    /// Wakes the reader while it waits for the rest of a frame, to see whether the frame has stalled.
    alarm: Alarm,
}

/// The memory of the current frame.
#[derive(Debug)]
struct Held {
    permit: BytePermit,
    since: Instant,
    /// Bytes of the whole frame.
    length: usize,
    class: RequestClass,
}

/// A frame whose memory other requests wait for has to come at least at this pace, or it is given up.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;
/// It also has to come at a pace at which it would be complete in so many seconds, however large it is.
const WHOLE_WITHIN_SECONDS: u64 = 5;
const STALL: Duration = Duration::from_secs(1);
/// Bytes that are read of further requests while one is served: enough to notice that the client closes.
const AHEAD_BYTES: usize = 1 << 10;

/// The first bytes of TLS: a record of type handshake, of major version 3. As a length prefix it exceeds every limit.
const TLS_HANDSHAKE: &[u8] = &[0x16, 3];
const PREFIX_BYTES: usize = 4;
const KEY_BYTES: usize = 2;

impl FrameReader {
    pub(super) fn new(
        pool: BufferPool,
        limits: FrameLimits,
        class_of: fn(i16) -> RequestClass,
    ) -> Self {
        Self {
            buffer: BytesMut::new(),
            pool,
            held: None,
            outline: None,
            taken: 0,
            limits,
            class_of,
            moved: None,
            alarm: Alarm::default(),
        }
    }

    /// When the last bytes were read; `None` before the first.
    pub(super) fn moved_at(&self) -> Option<Instant> {
        self.moved
    }

    /// Reads the next whole frame; `None` if the client closed the connection between frames.
    pub(super) async fn next(
        &mut self,
        socket: &mut dyn Socket,
        budgets: &RequestBudgets,
    ) -> Result<Option<Frame>, ReadError> {
        loop {
            if self.outline.is_some() {
                if let Some(frame) = self.skim()? {
                    return Ok(Some(frame));
                }
            } else if let Some(length) = self.length()? {
                let end = PREFIX_BYTES.saturating_add(length);
                if self.held.is_none() && self.buffer.len() >= PREFIX_BYTES + KEY_BYTES {
                    self.admit(length, budgets).await?;
                    continue;
                }
                if self.buffer.len() >= end {
                    self.buffer.advance(PREFIX_BYTES);
                    let body = self.buffer.split_to(length).freeze();
                    return Ok(Some(self.whole(body, false)));
                }
                let whole = end.saturating_sub(self.buffer.len());
                let wanted = if self.held.is_some() {
                    whole
                } else {
                    KEY_BYTES
                };
                self.buffer.reserve(wanted);
            }
            let filled = match self.held.is_some() {
                true => self.fill_held(socket).await?,
                false => self.fill(socket).await.map_err(ReadError::Ended)?,
            };
            if !filled {
                if self.buffer.is_empty() && self.outline.is_none() {
                    return Ok(None);
                }
                return Err(ReadError::Ended(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Takes the memory of a frame whose API key was read.
    async fn admit(&mut self, length: usize, budgets: &RequestBudgets) -> Result<(), ReadError> {
        let mut key = &self.buffer[PREFIX_BYTES..];
        let class = (self.class_of)(key.get_i16());
        let is_outline = length > self.limits.held;
        if is_outline && !class.is_outlined {
            return Err(ReadError::Length {
                bytes: i64::try_from(length).unwrap_or(i64::MAX),
                limit: self.limits.held,
            });
        }
        let bytes = if is_outline {
            OUTLINE_BYTES_MAX
        } else {
            length
        };
        let budget = budgets.of(class.budget, bytes);
        let permit = match budget.try_acquire(bytes as u64) {
            Some(permit) => permit,
            None => {
                self.shrink();
                let permit = budget.acquire(bytes as u64).await;
                permit.map_err(|too| ReadError::Length {
                    bytes: i64::try_from(too.bytes).unwrap_or(i64::MAX),
                    limit: usize::try_from(too.limit).unwrap_or(usize::MAX),
                })?
            }
        };
        self.held = Some(Held {
            permit,
            since: Instant::now(),
            length,
            class,
        });
        if is_outline {
            self.buffer.advance(PREFIX_BYTES);
            self.outline = Some((ProduceOutline::default(), length));
        }
        Ok(())
    }

    /// Consumes the bytes that were read of a frame that is not held, and returns the frame once it is complete.
    fn skim(&mut self) -> Result<Option<Frame>, ReadError> {
        let Some((outline, left)) = &mut self.outline else {
            return Ok(None);
        };
        let part = self.buffer.split_to(self.buffer.len().min(*left));
        *left = left.saturating_sub(part.len());
        self.taken = self.taken.saturating_add(part.len());
        outline.take(part.freeze()).map_err(ReadError::Outline)?;
        if *left > 0 {
            return Ok(None);
        }
        let Some((outline, _)) = self.outline.take() else {
            return Ok(None);
        };
        let body = outline.finish().map_err(ReadError::Outline)?;
        Ok(Some(self.whole(body, true)))
    }

    fn whole(&mut self, body: Bytes, is_outline: bool) -> Frame {
        self.taken = 0;
        let held = self.held.take().map(|held| (held.permit, held.class));
        let (permit, class) =
            held.unwrap_or_else(|| (BytePermit::empty(), RequestClass::default()));
        Frame {
            body,
            permit,
            is_outline,
            class,
        }
    }

    /// Reads a little ahead while a request is served, until the client closes the connection, or until there is no
    /// memory for the bytes it has sent behind that request. It holds a buffer only for bytes that were read.
    pub(super) async fn until_closed(&mut self, socket: &mut dyn Socket, budgets: &RequestBudgets) {
        self.shrink();
        while self.buffer.len() < AHEAD_BYTES {
            if self.buffer.is_empty() {
                self.pool.give_back(std::mem::take(&mut self.buffer));
                if poll_fn(|cx| socket.poll_read_ready(cx)).await.is_err() {
                    return;
                }
                self.buffer.reserve(AHEAD_BYTES);
            }
            if !matches!(self.fill(socket).await, Ok(true)) {
                return;
            }
        }
        let budget = budgets.of(FrameBudget::Other, usize::MAX);
        let mut permit = BytePermit::empty();
        loop {
            tokio::time::sleep(STALL).await;
            if permit.is_contended() {
                return;
            }
            if permit.bytes() == 0 {
                let Some(held) = budget.try_acquire(self.buffer.capacity() as u64) else {
                    return;
                };
                permit = held;
            }
        }
    }

    /// Gives the lent buffer back before a wait, and keeps a copy of the few bytes in it.
    pub(super) fn shrink(&mut self) {
        if self.buffer.is_empty() || self.buffer.len() <= self.buffer.capacity() / 4 {
            let few = BytesMut::from(&self.buffer[..]);
            self.pool
                .give_back(std::mem::replace(&mut self.buffer, few));
        }
    }

    fn length(&self) -> Result<Option<usize>, ReadError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        if prefix.starts_with(TLS_HANDSHAKE) {
            return Err(ReadError::Tls);
        }
        let length = i32::from_be_bytes(*prefix);
        match usize::try_from(length) {
            Ok(length) if (KEY_BYTES..=self.limits.read).contains(&length) => Ok(Some(length)),
            _ => Err(ReadError::Length {
                bytes: length.into(),
                limit: self.limits.read,
            }),
        }
    }

    /// Reads once for a frame whose memory is held, unless the frame has stalled.
    async fn fill_held(&mut self, socket: &mut dyn Socket) -> Result<bool, ReadError> {
        let mut look_at = None;
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(read) = self.poll_fill(socket, cx) {
                    return Poll::Ready(read.map_err(ReadError::Ended));
                }
                if self.is_stalled() {
                    return Poll::Ready(Err(ReadError::Stalled));
                }
                let at = *look_at.get_or_insert_with(|| Instant::now() + STALL);
                ready!(self.alarm.poll(at, cx));
                look_at = None;
            }
        })
        .await
    }

    fn is_stalled(&self) -> bool {
        let Some(held) = &self.held else {
            return false;
        };
        let seconds = held.since.elapsed().as_secs();
        let pace = BYTES_PER_SECOND_MIN.max(held.length as u64 / WHOLE_WITHIN_SECONDS);
        let came = self.taken.saturating_add(self.buffer.len());
        let is_late = seconds > 0 && (came as u64) < seconds.saturating_mul(pace);
        is_late && held.permit.is_contended()
    }

    /// Reads once; false at the end of the stream.
    async fn fill(&mut self, socket: &mut dyn Socket) -> io::Result<bool> {
        poll_fn(|cx| self.poll_fill(socket, cx)).await
    }

    /// Reads once. An empty buffer is held only while there is something to read.
    fn poll_fill(
        &mut self,
        socket: &mut dyn Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let read = self.poll_read(socket, cx);
        if read.is_pending() && self.buffer.is_empty() {
            self.pool.give_back(std::mem::take(&mut self.buffer));
        }
        let read = ready!(read)?;
        if read > 0 {
            self.moved = Some(Instant::now());
        }
        Poll::Ready(Ok(read > 0))
    }

    fn poll_read(
        &mut self,
        socket: &mut dyn Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            ready!(socket.poll_read_ready(cx))?;
            if self.buffer.capacity() < AHEAD_BYTES && !self.buffer.try_reclaim(AHEAD_BYTES) {
                self.buffer = self.pool.lend();
            }
        }
        pin!(socket.read_buf(&mut self.buffer)).poll(cx)
    }
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use highwater_io::Pipe;
    use highwater_io::net::{Network, TcpNetwork};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;
    use tokio::task::JoinSet;

    use super::*;
    use crate::api::class_of;
    use crate::config::MemoryPlan;

    const FRAME_MAX: usize = 1 << 20;
    const LIMITS: FrameLimits = FrameLimits {
        held: FRAME_MAX,
        read: FRAME_MAX,
    };

    async fn connected() -> (TcpStream, Box<dyn Socket>) {
        let acceptor = TcpNetwork.listen("127.0.0.1", 0).await.expect("listens");
        let address = acceptor.local_addr().expect("an address");
        let client = TcpStream::connect(address).await.expect("connects");
        let (socket, _) = acceptor.accept().await.expect("accepts");
        (client, socket)
    }

    fn budgets() -> RequestBudgets {
        RequestBudgets::new(&MemoryPlan::new(8 << 20))
    }

    // I11
    #[tokio::test]
    async fn a_connection_that_sends_nothing_holds_no_buffer() {
        let (mut client, mut socket) = connected().await;
        let budgets = budgets();
        let mut reader = FrameReader::new(BufferPool::new(1), LIMITS, class_of);
        for _ in 0..2 {
            let next = reader.next(&mut *socket, &budgets);
            let waited = tokio::time::timeout(Duration::from_millis(200), next).await;
            assert!(waited.is_err(), "there is nothing to read");
            assert_eq!(reader.buffer.capacity(), 0);
            client.write_all(&[0, 0, 0, 2, 0, 18]).await.expect("sends");
            let frame = reader.next(&mut *socket, &budgets).await.expect("is read");
            assert_eq!(frame.expect("a frame").body, [0, 18][..]);
        }
    }

    #[tokio::test]
    async fn tls_on_a_plaintext_listener_is_called_so() {
        let (mut client, mut socket) = connected().await;
        client
            .write_all(b"\x16\x03\x01\x02\x00\x01")
            .await
            .expect("sends");
        let mut reader = FrameReader::new(BufferPool::new(1), LIMITS, class_of);
        let read = reader.next(&mut *socket, &budgets()).await;
        assert!(matches!(read, Err(ReadError::Tls)), "{read:?}");
    }

    // M2: large frames of produce requests that stop halfway
    #[tokio::test]
    async fn half_a_frame_gives_way_to_those_that_wait_and_never_holds_up_small_ones() {
        let budgets = budgets();
        let produce = FrameBudget::Produce;
        // a quarter of an eighth of 8 MiB is for small frames
        let large_bytes = budgets.of(produce, FRAME_MAX).limit();
        assert_eq!(large_bytes, 768 << 10);
        let (mut client, mut socket) = connected().await;
        let length = i32::try_from(large_bytes).expect("fits");
        client.write_i32(length).await.expect("sends");
        client.write_all(&[0; 1000]).await.expect("sends");
        let mut reader = FrameReader::new(BufferPool::new(1), LIMITS, class_of);
        let half = reader.next(&mut *socket, &budgets);
        let wait = async {
            while budgets.of(produce, FRAME_MAX).used() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(budgets.of(produce, 1000).try_acquire(1000).is_some());
            tokio::time::sleep(2 * STALL).await;
            budgets.of(produce, FRAME_MAX).acquire(100_000).await
        };
        let half = async {
            tokio::select! {
                half = half => half,
                waited = wait => panic!("it is held for ever: {waited:?}"),
            }
        };
        let half = tokio::time::timeout(20 * STALL, half).await;
        let half = half.expect("not for ever");
        assert!(matches!(half, Err(ReadError::Stalled)), "{half:?}");
    }

    // M2: this frame comes faster than the slowest pace that is tolerated, for as long as it takes
    #[tokio::test(start_paused = true)]
    async fn a_large_frame_that_comes_slowly_gives_way_to_those_that_wait() {
        let budgets = budgets();
        let large = budgets.of(FrameBudget::Produce, FRAME_MAX);
        let (mut client, pipe) = tokio::io::duplex(FRAME_MAX);
        let mut socket = Pipe::new(pipe);
        let mut reader = FrameReader::new(BufferPool::new(1), LIMITS, class_of);
        let length = i32::try_from(large.limit()).expect("fits");
        client.write_i32(length).await.expect("sends");
        client.write_all(&[0; 2]).await.expect("sends");
        let slowly = async {
            loop {
                client.write_all(&[0; 70 << 10]).await.expect("sends");
                tokio::time::sleep(STALL).await;
            }
        };
        let waits = async {
            while large.used() == 0 {
                tokio::task::yield_now().await;
            }
            drop(large.acquire(1).await);
            std::future::pending::<()>().await;
        };
        let frame = tokio::select! {
            frame = reader.next(&mut socket, &budgets) => frame,
            () = slowly => unreachable!("it sends for ever"),
            () = waits => unreachable!("it waits for ever"),
        };
        let error = frame.err();
        assert!(matches!(error, Some(ReadError::Stalled)), "{error:?}");
    }

    // M2: no other future of its task wakes the reader
    #[tokio::test(start_paused = true)]
    async fn a_frame_that_stopped_is_looked_at_again_without_being_woken() {
        let budgets = budgets();
        let large = budgets.of(FrameBudget::Produce, FRAME_MAX).clone();
        let (mut client, pipe) = tokio::io::duplex(FRAME_MAX);
        let length = i32::try_from(large.limit()).expect("fits");
        client.write_i32(length).await.expect("sends");
        client.write_all(&[0; 2]).await.expect("sends");
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut reader = FrameReader::new(BufferPool::new(1), LIMITS, class_of);
            reader.next(&mut Pipe::new(pipe), &budgets).await.err()
        });
        while large.used() == 0 {
            tokio::task::yield_now().await;
        }
        let waits = tokio::time::timeout(20 * STALL, large.acquire(1)).await;
        drop(waits.expect("it gave way"));
        let error = running.join_next().await.expect("it ran");
        let error = error.expect("no panic");
        assert!(matches!(error, Some(ReadError::Stalled)), "{error:?}");
    }

    // I11
    #[tokio::test(start_paused = true)]
    async fn what_comes_behind_a_request_that_waits_is_left_to_the_machine_or_counted() {
        let budgets = budgets();
        let (mut client, pipe) = tokio::io::duplex(1 << 20);
        let mut socket = Pipe::new(pipe);
        let mut reader = FrameReader::new(BufferPool::new(1), LIMITS, class_of);
        let frame = [0, 0, 0, 2, 0, 18];
        client.write_all(&frame).await.expect("sends");
        let next = reader.next(&mut socket, &budgets).await;
        drop(next.expect("is read"));
        let all = [7; 64 << 10];
        client.write_all(&all).await.expect("sends");
        let waits = reader.until_closed(&mut socket, &budgets);
        assert!(tokio::time::timeout(STALL / 2, waits).await.is_err());
        assert!(reader.buffer.capacity() <= 2 * AHEAD_BYTES);
        // the bytes that were read together with the request can't all stay in the socket
        reader.buffer = BytesMut::from(&all[..]);
        let large = budgets.of(FrameBudget::Other, usize::MAX);
        let waits = reader.until_closed(&mut socket, &budgets);
        assert!(tokio::time::timeout(3 * STALL, waits).await.is_err());
        let waits = reader.until_closed(&mut socket, &budgets);
        let others = async {
            while large.used() == 0 {
                tokio::time::sleep(STALL).await;
            }
            assert_eq!(large.used(), all.len() as u64);
            large.acquire(large.limit()).await
        };
        drop(tokio::join!(waits, others).1.expect("it gave way"));
    }
}
