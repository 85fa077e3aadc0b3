//! Builds record batches for coordinators, tools and tests.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};

use super::batch::{BatchHeader, seal};
use super::{Codec, RecordHeader, compress};

/// The producer fields of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerFields {
    /// The producer id, or -1.
    pub id: i64,
    /// The producer epoch, or -1.
    pub epoch: i16,
    /// The sequence of the first record, or -1.
    pub base_sequence: i32,
}

impl Default for ProducerFields {
    fn default() -> Self {
        Self {
            id: -1,
            epoch: -1,
            base_sequence: -1,
        }
    }
}

/// Builds a batch.
#[derive(Debug)]
pub struct BatchBuilder {
    producer: ProducerFields,
    codec: Codec,
    body: BytesMut,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new(ProducerFields::default(), Codec::None)
    }
}

impl BatchBuilder {
    /// Begins an empty batch.
    #[must_use]
    pub fn new(producer: ProducerFields, codec: Codec) -> Self {
        Self {
            producer,
            codec,
            body: BytesMut::new(),
            count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
        }
    }

    /// The number of records so far.
    #[must_use]
    pub fn len(&self) -> i32 {
        self.count
    }

    /// Whether there are no records yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a record without headers.
    pub fn push(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.push_with_headers(timestamp, key, value, &[]);
    }

    /// Adds a record.
    pub fn push_with_headers(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let mut record = BytesMut::new();
        record.put_u8(0);
        varlong(&mut record, timestamp.saturating_sub(self.base_timestamp));
        varlong(&mut record, self.count.into());
        field(&mut record, key);
        field(&mut record, value);
        length(&mut record, headers.len());
        for header in headers {
            field(&mut record, Some(&header.key));
            field(&mut record, header.value.as_deref());
        }
        length(&mut self.body, record.len());
        self.body.put_slice(&record);
        self.count = self.count.saturating_add(1);
    }

    /// Returns the batch, with base offset 0 and leader epoch -1.
    ///
    /// # Errors
    /// Errors of the codec.
    pub fn build(self) -> io::Result<Bytes> {
        let codec = i16::from(self.codec as u8);
        let header = BatchHeader {
            base_offset: 0,
            bytes: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: codec,
            last_offset_delta: self.count.saturating_sub(1),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer.id,
            producer_epoch: self.producer.epoch,
            base_sequence: self.producer.base_sequence,
            count: self.count,
        };
        let mut out = BytesMut::new();
        header.put(&mut out);
        match self.codec {
            Codec::None => out.put_slice(&self.body),
            codec => out.put_slice(&compress(codec, &self.body)?),
        }
        seal(&mut out);
        Ok(out.freeze())
    }
}

fn varlong(out: &mut BytesMut, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while left >= 0x80 {
        out.put_u8((left & 0x7f).to_le_bytes()[0] | 0x80);
        left >>= 7;
    }
    out.put_u8(left.to_le_bytes()[0]);
}

fn length(out: &mut BytesMut, length: usize) {
    varlong(out, i64::try_from(length).unwrap_or(i64::MAX));
}

fn field(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            length(out, bytes.len());
            out.put_slice(bytes);
        }
        None => varlong(out, -1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{BatchError, BatchHeader, CompressionError, RecordError, decompress};

    fn batch(codec: Codec) -> Bytes {
        let producer = ProducerFields {
            id: 7,
            epoch: 1,
            base_sequence: i32::MAX,
        };
        let mut builder = BatchBuilder::new(producer, codec);
        let header = |key: &str, value: Option<&'static [u8]>| RecordHeader {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: value.map(Bytes::from_static),
        };
        let headers = [
            header("a", Some(b"1")),
            header("a", Some(b"\xff")),
            header("b", None),
        ];
        builder.push_with_headers(1000, Some(b"key"), None, &headers);
        builder.push(900, None, Some(&[b'x'; 5000]));
        builder.build().expect("builds")
    }

    #[test]
    fn batches_survive_every_codec_with_duplicate_headers_and_nulls() {
        for codec in [
            Codec::None,
            Codec::Gzip,
            Codec::Snappy,
            Codec::Lz4,
            Codec::Zstd,
        ] {
            let batch = batch(codec);
            let header = BatchHeader::read(&batch).expect("sound");
            header.check_crc(&batch).expect("sound");
            assert_eq!(header.codec(), Ok(codec));
            assert_eq!((header.max_timestamp, header.last_sequence()), (1000, 0));
            let records = header.records(&batch, 1 << 20).expect("opens");
            let records: Vec<_> = records.iter().collect::<Result<_, _>>().expect("sound");
            assert_eq!(records[0].headers.len(), 3);
            assert_eq!(records[0].value, None);
            assert_eq!(
                (records[1].timestamp_delta, records[1].offset_delta),
                (-100, 1)
            );
            let error = header.records(&batch, 100).map(|_| ());
            if codec != Codec::None {
                assert_eq!(
                    error,
                    Err(RecordError::Compression(CompressionError::TooLarge(100)))
                );
            }
        }
    }

    #[test]
    fn a_flipped_bit_or_a_missing_byte_is_noticed() {
        let batch = batch(Codec::None);
        for at in 16..batch.len() {
            let mut broken = BytesMut::from(&batch[..]);
            broken[at] ^= 1;
            let header = BatchHeader::read(&broken);
            let noticed = header.and_then(|header| header.check_crc(&broken)).is_err();
            assert!(noticed, "byte {at}");
        }
        for length in 0..batch.len() {
            let cut = BatchHeader::read(&batch[..length]);
            assert!(
                matches!(cut, Err(BatchError::Truncated(_))),
                "length {length}"
            );
        }
    }

    #[test]
    fn a_lying_size_is_an_error_and_costs_nothing() {
        let lie = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
        assert!(decompress(Codec::Snappy, &lie, usize::MAX).is_err());
        for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
            assert!(decompress(codec, &Bytes::from_static(b"nonsense"), 1000).is_err());
        }
    }
}
