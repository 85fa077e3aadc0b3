//! Produce requests that are larger than the memory for them. Everything except the records is kept, so that they can
//! be answered.

use bytes::{Buf, Bytes, BytesMut};

use crate::messages::ProduceRequest;
use crate::wire::{DecodeError, Reader};
use crate::{Request, RequestHeader};

/// The number of bytes kept of one request, at most.
pub const OUTLINE_BYTES_MAX: usize = 64 << 10;

/// Reads the frame of a Produce request while it arrives, and keeps it with null in place of the records.
#[derive(Debug, Default)]
pub struct ProduceOutline {
    kept: BytesMut,
    /// Bytes that have arrived and are fewer than the next step needs.
    rest: Bytes,
    /// The number of bytes of records that are still to be skipped.
    skipped: usize,
    is_flexible: bool,
    has_topic_ids: bool,
    topics: usize,
    partitions: usize,
    next: Step,
}

/// What comes next in the frame. A step is decoded once all its bytes are there.
#[derive(Debug, Default, Clone, Copy)]
enum Step {
    #[default]
    Head,
    Topic,
    Partition,
    PartitionTail,
    TopicTail,
    Tail,
    /// Bytes after the request, which are ignored as after any request.
    End,
}

impl ProduceOutline {
    /// Takes the next bytes of the frame.
    ///
    /// # Errors
    /// [`DecodeError`]; [`DecodeError::TooMany`] if more than [`OUTLINE_BYTES_MAX`] would be kept.
    pub fn take(&mut self, more: Bytes) -> Result<(), DecodeError> {
        let mut left = match self.rest.is_empty() {
            true => more,
            false => [&self.rest[..], &more[..]].concat().into(),
        };
        loop {
            let skipped = self.skipped.min(left.len());
            left.advance(skipped);
            self.skipped = self.skipped.saturating_sub(skipped);
            if left.is_empty() || matches!(self.next, Step::End) {
                left = Bytes::new();
                break;
            }
            let mut reader = Reader::new(left.clone());
            match self.step(&mut reader) {
                Ok(()) => left = reader.into_rest(),
                Err(DecodeError::Truncated { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        self.rest = left;
        let count = self.kept.len().saturating_add(self.rest.len());
        let limit = OUTLINE_BYTES_MAX;
        match count > limit {
            true => Err(DecodeError::TooMany { count, limit }),
            false => Ok(()),
        }
    }

    /// Returns the frame without its records, once all of it was taken.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if the frame ended too early.
    pub fn finish(self) -> Result<Bytes, DecodeError> {
        match self.next {
            Step::End => Ok(self.kept.freeze()),
            _ => Err(DecodeError::Truncated {
                wanted: self.skipped.max(1),
                left: self.rest.len(),
            }),
        }
    }

    /// Decodes one step, keeps it and moves to the next. Changes nothing if the step isn't there completely.
    fn step(&mut self, reader: &mut Reader) -> Result<(), DecodeError> {
        let all = reader.clone().into_rest();
        let is_flexible = self.is_flexible;
        match self.next {
            Step::Head => return self.head(reader),
            Step::Topic => {
                match self.has_topic_ids {
                    true => drop(reader.uuid()?),
                    false => drop(reader.string(is_flexible)?),
                }
                self.partitions = reader.count(is_flexible)?.unwrap_or(0);
                self.next = self.after_topic_head();
            }
            Step::Partition => return self.partition(reader),
            Step::PartitionTail => {
                self.tail(reader)?;
                self.next = self.after_topic_head();
            }
            Step::TopicTail => {
                self.tail(reader)?;
                self.next = self.after_head();
            }
            Step::Tail => {
                self.tail(reader)?;
                self.next = Step::End;
            }
            Step::End => {}
        }
        self.keep(&all, reader);
        Ok(())
    }

    fn head(&mut self, reader: &mut Reader) -> Result<(), DecodeError> {
        let all = reader.clone().into_rest();
        let mut frame = all.clone();
        let header = RequestHeader::parse(&mut frame)?;
        if !ProduceRequest::VALID.contains(&header.api_version) {
            return Err(DecodeError::Version(header.api_version));
        }
        let is_flexible = header.api_version >= ProduceRequest::FLEXIBLE_FROM;
        *reader = Reader::new(frame);
        drop(reader.nullable_string(is_flexible)?);
        let (_acks, _timeout_ms) = (reader.i16()?, reader.i32()?);
        self.topics = reader.count(is_flexible)?.unwrap_or(0);
        self.is_flexible = is_flexible;
        self.has_topic_ids = header.api_version >= 13;
        self.next = self.after_head();
        self.keep(&all, reader);
        Ok(())
    }

    fn partition(&mut self, reader: &mut Reader) -> Result<(), DecodeError> {
        let index = reader.i32()?;
        self.skipped = reader.count(self.is_flexible)?.unwrap_or(0);
        self.kept.extend_from_slice(&index.to_be_bytes());
        match self.is_flexible {
            true => self.kept.extend_from_slice(&[0]),
            false => self.kept.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
        self.next = Step::PartitionTail;
        Ok(())
    }

    fn tail(&self, reader: &mut Reader) -> Result<(), DecodeError> {
        match self.is_flexible {
            true => reader.tagged_fields(|_, _| Ok(false)),
            false => Ok(()),
        }
    }

    fn after_head(&mut self) -> Step {
        match self.topics.checked_sub(1) {
            Some(left) => {
                self.topics = left;
                Step::Topic
            }
            None => Step::Tail,
        }
    }

    fn after_topic_head(&mut self) -> Step {
        match self.partitions.checked_sub(1) {
            Some(left) => {
                self.partitions = left;
                Step::Partition
            }
            None => Step::TopicTail,
        }
    }

    fn keep(&mut self, all: &Bytes, reader: &Reader) {
        let read = all.len().saturating_sub(reader.left());
        self.kept.extend_from_slice(&all[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{PartitionProduceData, TopicProduceData};
    use crate::{FrameWriter, Message, Records, StrBytes};

    const RECORDS: usize = 1000;

    fn request(has_records: bool) -> ProduceRequest {
        let partition = |index| PartitionProduceData {
            index,
            records: has_records.then(|| Records::from(Bytes::from(vec![7; RECORDS]))),
        };
        let topic = |name: &str, partitions| TopicProduceData {
            name: StrBytes::from(name),
            partition_data: (0..partitions).map(partition).collect(),
            ..Default::default()
        };
        ProduceRequest {
            acks: -1,
            timeout_ms: 5000,
            topic_data: vec![topic("a", 2), topic("none", 0), topic("b", 1)],
            ..Default::default()
        }
    }

    fn frame(request: &ProduceRequest, version: i16) -> Vec<u8> {
        let is_flexible = version >= ProduceRequest::FLEXIBLE_FROM;
        let mut out = FrameWriter::request(ProduceRequest::KEY, version, is_flexible, 5, "client");
        request.write(&mut out, version);
        let frame = out.finish().expect("fits").concat();
        // without the frame's length
        frame[4..].to_vec()
    }

    #[test]
    fn an_outline_is_the_frame_without_records_however_it_comes() {
        for version in 3..=*ProduceRequest::VALID.end() {
            let without = frame(&request(false), version);
            let mut whole = frame(&request(true), version);
            whole.extend([9; 5]);
            for step in [1, 7, 900, whole.len()] {
                let mut outline = ProduceOutline::default();
                for part in whole.chunks(step) {
                    let taken = outline.take(Bytes::copy_from_slice(part));
                    taken.expect("is sound");
                }
                let kept = outline.finish().expect("is whole");
                assert_eq!(kept, without, "version={version} step={step}");
            }
        }
    }

    #[test]
    fn what_is_cut_short_lies_or_keeps_too_much_is_refused() {
        let whole = frame(&request(true), 9);
        for length in 0..whole.len() {
            let mut outline = ProduceOutline::default();
            let taken = outline.take(Bytes::copy_from_slice(&whole[..length]));
            taken.expect("is sound as far as it goes");
            let cut = outline.finish();
            assert!(
                matches!(cut, Err(DecodeError::Truncated { .. })),
                "{length}"
            );
        }
        let mut many = request(false);
        let one = many.topic_data[0].partition_data[0].clone();
        many.topic_data[0].partition_data = vec![one; OUTLINE_BYTES_MAX / 5];
        let mut outline = ProduceOutline::default();
        let taken = outline.take(frame(&many, 9).into());
        assert!(
            matches!(taken, Err(DecodeError::TooMany { .. })),
            "{taken:?}"
        );
    }
}
