//! Vectored writes of gather lists.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use highwater_io::net::Socket;
use tokio::io::AsyncWriteExt;

const SLICES_MAX: usize = 64;

/// Writes every part in order, without joining them, and flushes. Cancellation safe: `parts` keeps the unwritten rest.
pub(super) async fn write_all(
    socket: &mut dyn Socket,
    parts: &mut VecDeque<Bytes>,
) -> io::Result<()> {
    while !parts.is_empty() {
        // the slices are built for each write, so that ten thousand waiting connections do not hold them
        let mut written = poll_fn(|cx| poll_write(socket, parts, cx)).await?;
        if written == 0 && parts.iter().take(SLICES_MAX).any(|part| !part.is_empty()) {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = parts.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            parts.pop_front();
        }
    }
    socket.flush().await
}

fn poll_write(
    socket: &mut dyn Socket,
    parts: &VecDeque<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let count = parts.len().min(SLICES_MAX);
    for (slice, part) in slices.iter_mut().zip(parts) {
        *slice = IoSlice::new(part);
    }
    pin!(socket.write_vectored(&slices[..count])).poll(cx)
}

/// Copies the parts into memory of their own.
pub(super) fn own(parts: &mut VecDeque<Bytes>) {
    let mut own = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts.drain(..) {
        own.put_slice(&part);
    }
    parts.push_back(own.freeze());
}
