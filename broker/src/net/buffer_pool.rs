//! Read buffers, lent to connections only while they read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;

const BUFFER_BYTES: usize = 64 << 10;
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A stack of read buffers, bounded in bytes: the one given back last is lent first, while it is warm. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BufferPool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kept: Mutex<Kept>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Kept {
    buffers: Vec<BytesMut>,
    bytes: usize,
}

impl BufferPool {
    /// A pool that keeps at most `bytes_max`, in buffers of at most 1 MiB.
    #[must_use]
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Inner {
            kept: Mutex::default(),
            bytes_max,
        }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lend(&self) -> BytesMut {
        let mut kept = self.kept();
        let Some(buffer) = kept.buffers.pop() else {
            return BytesMut::with_capacity(BUFFER_BYTES);
        };
        kept.bytes -= buffer.capacity();
        buffer
    }

    pub(super) fn give_back(&self, mut buffer: BytesMut) {
        // reclaims the room of frames that were dropped; false if one of them is still alive
        buffer.clear();
        if !buffer.try_reclaim(BUFFER_BYTES) || buffer.capacity() > KEPT_BYTES_MAX {
            return;
        }
        let mut kept = self.kept();
        if kept.bytes + buffer.capacity() <= self.0.bytes_max {
            kept.bytes += buffer.capacity();
            kept.buffers.push(buffer);
        }
    }
}
