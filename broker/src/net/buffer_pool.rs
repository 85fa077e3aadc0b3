//! Read buffers, lent to connections only while they read.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;

const BUFFER_BYTES: usize = 64 << 10;
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A bounded stack of read buffers: the one given back last is lent first, while it is warm. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BufferPool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    buffers: Mutex<Vec<BytesMut>>,
    kept_max: usize,
}

impl BufferPool {
    /// A pool that keeps at most `kept_max` buffers of at most 1 MiB.
    #[must_use]
    pub(crate) fn new(kept_max: usize) -> Self {
        Self(Arc::new(Inner {
            buffers: Mutex::default(),
            kept_max,
        }))
    }

    pub(super) fn lend(&self) -> BytesMut {
        let mut buffers = self
            .0
            .buffers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        buffers
            .pop()
            .unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES))
    }

    pub(super) fn give_back(&self, mut buffer: BytesMut) {
        // takes back the room of frames that are gone; false when one of them still lives
        buffer.clear();
        if !buffer.try_reclaim(BUFFER_BYTES) || buffer.capacity() > KEPT_BYTES_MAX {
            return;
        }
        let mut buffers = self
            .0
            .buffers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < self.0.kept_max {
            buffers.push(buffer);
        }
    }
}
