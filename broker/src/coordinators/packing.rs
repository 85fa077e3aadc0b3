//! Packs the records of requests into batches.

use highwater_coordinator::{CoordinatorRecord, batch_bytes};

/// The most bytes of a batch with several requests.
const BATCH_BYTES: usize = 256 << 10;

/// The batches that are being filled. The records of one request share a batch, which is stored whole or not at all.
/// Only records that no single batch may hold, such as the tombstones of a large group, are spread over several.
#[derive(Debug)]
pub(super) struct Packing {
    batches: Vec<Vec<CoordinatorRecord>>,
    /// The approximate bytes of each batch.
    bytes: Vec<usize>,
    /// The most bytes of a batch.
    bytes_max: usize,
}

impl Packing {
    /// Starts without batches.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            batches: Vec::new(),
            bytes: Vec::new(),
            bytes_max,
        }
    }

    /// The approximate bytes of all batches.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.iter().sum()
    }

    /// Adds the records of one request.
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
