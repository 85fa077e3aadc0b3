//! Records as a field of a message: complete record batches in a list of slices.

use bytes::{Bytes, BytesMut};

/// Record batches, one after the other, in slices that needn't be adjacent in memory.
#[derive(Debug, Clone, Default)]
pub struct Records(Vec<Bytes>);

impl Records {
    /// The size of all slices together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// The slices.
    #[must_use]
    pub fn parts(&self) -> &[Bytes] {
        &self.0
    }

    /// All bytes as one slice. Nothing is copied if there is only one slice, as in every request.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.0.len() <= 1 {
            return self.0.pop().unwrap_or_default();
        }
        let mut joined = BytesMut::with_capacity(self.len());
        for part in &self.0 {
            joined.extend_from_slice(part);
        }
        joined.freeze()
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.clone().into_bytes() == other.clone().into_bytes()
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self(vec![bytes])
    }
}

impl From<Vec<Bytes>> for Records {
    fn from(parts: Vec<Bytes>) -> Self {
        Self(parts)
    }
}
