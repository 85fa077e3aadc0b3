//! Reads length-prefixed frames from a socket, each under a permit of its kind's budget (M2).

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use highwater_io::net::Socket;
use highwater_runtime::BytePermit;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::BufferPool;
use crate::memory::RequestBudgets;

/// One request as it came, without its length prefix.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Header and body.
    pub body: Bytes,
    /// The memory it holds.
    pub permit: BytePermit,
}

/// Why no frame comes any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The client closed the connection, or the machine broke it.
    #[error("connection ended")]
    Ended(#[source] io::Error),
    /// The prefix is no length that is accepted.
    #[error("frame length refused bytes={bytes} limit={limit}")]
    Length { bytes: i64, limit: usize },
    /// Its memory was wanted by others, and it hardly came.
    #[error("a frame stopped halfway while others waited for its memory")]
    Stalled,
}

/// Frames of one socket. Every method is cancellation safe: what was read stays.
#[derive(Debug)]
pub(super) struct FrameReader {
    buffer: BytesMut,
    pool: BufferPool,
    permit: Option<(BytePermit, Instant)>,
    frame_max: usize,
}

/// A frame whose memory others wait for comes at least at this pace, or it gives way.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;
const STALL: Duration = Duration::from_secs(1);

const PREFIX_BYTES: usize = 4;
const KEY_BYTES: usize = 2;

impl FrameReader {
    pub(super) fn new(pool: BufferPool, frame_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            pool,
            permit: None,
            frame_max,
        }
    }

    /// The next whole frame; `None` when the client closed between frames.
    pub(super) async fn next(
        &mut self,
        socket: &mut dyn Socket,
        budgets: &RequestBudgets,
    ) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(length) = self.length()? {
                if self.permit.is_none() && self.buffer.len() >= PREFIX_BYTES + KEY_BYTES {
                    let mut key = &self.buffer[PREFIX_BYTES..];
                    let budget = budgets.of(key.get_i16(), length);
                    let permit = match budget.try_acquire(length as u64) {
                        Some(permit) => permit,
                        None => {
                            self.shrink();
                            let permit = budget.acquire(length as u64).await;
                            permit.map_err(|too| ReadError::Length {
                                bytes: i64::try_from(too.bytes).unwrap_or(i64::MAX),
                                limit: usize::try_from(too.limit).unwrap_or(usize::MAX),
                            })?
                        }
                    };
                    self.permit = Some((permit, Instant::now()));
                }
                if self.buffer.len() >= PREFIX_BYTES + length {
                    self.buffer.advance(PREFIX_BYTES);
                    let body = self.buffer.split_to(length).freeze();
                    let held = self.permit.take();
                    let permit = held.map_or_else(BytePermit::empty, |(permit, _)| permit);
                    return Ok(Some(Frame { body, permit }));
                }
                let whole = PREFIX_BYTES + length - self.buffer.len();
                let wanted = if self.permit.is_some() {
                    whole
                } else {
                    KEY_BYTES
                };
                self.buffer.reserve(wanted);
            }
            let filled = match self.permit.is_some() {
                true => self.fill_held(socket).await?,
                false => self.fill(socket).await.map_err(ReadError::Ended)?,
            };
            if !filled {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(ReadError::Ended(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads ahead, within what the buffer holds, until the client closes; returns then.
    pub(super) async fn until_closed(&mut self, socket: &mut dyn Socket) -> io::Error {
        loop {
            if !self.buffer.is_empty() && self.buffer.len() == self.buffer.capacity() {
                std::future::pending::<()>().await;
            }
            match self.fill(socket).await {
                Ok(true) => {}
                Ok(false) => return io::ErrorKind::UnexpectedEof.into(),
                Err(error) => return error,
            }
        }
    }

    /// Gives the lent buffer back, keeping a copy of the few bytes in it: for a wait.
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
        let length = i32::from_be_bytes(*prefix);
        match usize::try_from(length) {
            Ok(length) if (KEY_BYTES..=self.frame_max).contains(&length) => Ok(Some(length)),
            _ => Err(ReadError::Length {
                bytes: length.into(),
                limit: self.frame_max,
            }),
        }
    }

    /// One read of a frame whose memory is held.
    async fn fill_held(&mut self, socket: &mut dyn Socket) -> Result<bool, ReadError> {
        loop {
            if self.is_stalled() {
                return Err(ReadError::Stalled);
            }
            if let Ok(read) = tokio::time::timeout(STALL, self.fill(socket)).await {
                return read.map_err(ReadError::Ended);
            }
        }
    }

    fn is_stalled(&self) -> bool {
        let Some((permit, since)) = &self.permit else {
            return false;
        };
        let seconds = since.elapsed().as_secs();
        let enough = seconds.saturating_mul(BYTES_PER_SECOND_MIN);
        seconds > 0 && (self.buffer.len() as u64) < enough && permit.is_contended()
    }

    /// One read. False at the end of the stream.
    async fn fill(&mut self, socket: &mut dyn Socket) -> io::Result<bool> {
        if self.buffer.is_empty() {
            let mut lent_back = false;
            poll_fn(|cx| {
                let ready = socket.poll_read_ready(cx);
                if ready.is_pending() && !lent_back {
                    lent_back = true;
                    self.pool.give_back(std::mem::take(&mut self.buffer));
                }
                ready
            })
            .await?;
            if self.buffer.capacity() == 0 && !self.buffer.try_reclaim(1) {
                self.buffer = self.pool.lend();
            }
        }
        Ok(socket.read_buf(&mut self.buffer).await? > 0)
    }
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}
