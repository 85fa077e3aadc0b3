//! Puts the records of requests into batches.

use highwater_coordinator::{CoordinatorRecord, batch_bytes};

/// Bytes of a batch of several requests.
const BATCH_BYTES: usize = 256 << 10;

/// Records on their way into batches. Those of one request share a batch, which is there whole or not at all; only what no
/// batch may hold, as the tombstones of a large group, is spread over several.
#[derive(Debug)]
pub(super) struct Packing {
    batches: Vec<Vec<CoordinatorRecord>>,
    /// Bytes of each, about.
    bytes: Vec<usize>,
    /// The largest batch.
    bytes_max: usize,
}

impl Packing {
    /// Nothing yet.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            batches: Vec::new(),
            bytes: Vec::new(),
            bytes_max,
        }
    }

    /// Bytes of all batches, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.iter().sum()
    }

    /// Adds what one request writes.
    pub(super) fn add(&mut self, request: Vec<CoordinatorRecord>) {
        let bytes = batch_bytes(&request);
        if request.is_empty() {
            return;
        }
        if bytes <= self.bytes_max {
            return self.put(request, bytes);
        }
        for record in request {
            let bytes = batch_bytes([&record]);
            self.put(vec![record], bytes);
        }
    }

    fn put(&mut self, mut records: Vec<CoordinatorRecord>, bytes: usize) {
        let most = BATCH_BYTES.min(self.bytes_max);
        match (self.batches.last_mut(), self.bytes.last_mut()) {
            (Some(last), Some(held)) if *held + bytes <= most => {
                last.append(&mut records);
                *held += bytes;
            }
            _ => {
                self.batches.push(records);
                self.bytes.push(bytes);
            }
        }
    }

    /// The batches, in order.
    pub(super) fn batches(self) -> Vec<Vec<CoordinatorRecord>> {
        self.batches
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request(records: usize, bytes: usize) -> Vec<CoordinatorRecord> {
        let record = CoordinatorRecord {
            key: Bytes::from_static(b"k"),
            value: Some(Bytes::from(vec![b'v'; bytes])),
        };
        vec![record; records]
    }

    #[test]
    fn a_request_is_in_one_batch_unless_no_batch_may_hold_it() {
        let mut packing = Packing::new(1 << 20);
        packing.add(request(3, 50 << 10));
        packing.add(Vec::new());
        packing.add(request(1, 50 << 10));
        packing.add(request(2, 50 << 10));
        packing.add(request(9, 100 << 10));
        let counts = |packing: Packing| {
            let batches = packing.batches().into_iter();
            batches.map(|batch| batch.len()).collect::<Vec<_>>()
        };
        assert_eq!(counts(packing), [4, 2, 9]);
        let mut packing = Packing::new(1 << 20);
        packing.add(request(22, 50 << 10));
        assert_eq!(counts(packing), [5, 5, 5, 5, 2]);
    }
}
