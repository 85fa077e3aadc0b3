//! The native consumer: a thread per connection, batches counted by their headers, records not looked at.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use highwater_protocol::messages::FetchRequest;
use highwater_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use highwater_protocol::records::{BatchError, BatchHeader};
use highwater_protocol::{FrameWriter, Message, Request};
use highwater_types::{ByteSize, Uuid};

use crate::connection::{CLIENT_ID, connect, decode};
use crate::figures::Figures;
use crate::machine;
use crate::produce::{Extent, share};

/// The version of Fetch that is spoken: by topic id.
pub(crate) const FETCH: i16 = 17;
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// How to fetch; the defaults are those of Kafka's consumer.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Fetches {
    /// The most bytes of an answer.
    #[arg(long, default_value = "50MiB")]
    pub(crate) fetch_max_bytes: ByteSize,
    /// The most bytes of one partition in an answer.
    #[arg(long, default_value = "1MiB")]
    pub(crate) partition_max_bytes: ByteSize,
    /// The fewest bytes that are answered at once.
    #[arg(long, default_value_t = 1)]
    pub(crate) min_bytes: i32,
    /// How long the broker may wait for them.
    #[arg(long, default_value_t = 500)]
    pub(crate) max_wait_ms: i32,
}

/// What is read: from an offset of each partition to another.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) from: Vec<i64>,
    pub(crate) to: Vec<i64>,
    /// Begins anew at the end, until the extent is reached.
    pub(crate) repeats: bool,
}

impl Span {
    /// Leaves out all but so many records of each partition.
    pub(crate) fn keep_last(&mut self, records: i64) {
        for (from, to) in self.from.iter_mut().zip(&self.to) {
            *from = (*from).max(to - records);
        }
    }
}

/// Reads a topic until the extent, or the end of the span, is reached.
pub(crate) fn run(
    bootstrap: &str,
    topic: Uuid,
    connections: usize,
    (span, fetches): (&Span, &Fetches),
    extent: &Extent,
) -> Result<Figures> {
    let start = machine::now();
    let left = AtomicU64::new(extent.bytes.map_or(u64::MAX, |bytes| bytes.0));
    let partitions = i32::try_from(span.from.len())?;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for index in 0..connections {
            let own = share(partitions, connections, index)?;
            let consumer = Consumer::open(bootstrap, topic, &own, span, fetches)?;
            let left = &left;
            threads.push(scope.spawn(move || until(consumer, span, extent.until(start), left)));
        }
        let done = threads.into_iter().map(|thread| {
            let figures = thread.join();
            figures.unwrap_or_else(|_panic| Err(anyhow::anyhow!("a consumer failed")))
        });
        let mut figures = Figures::join(done)?;
        figures.elapsed = start.elapsed();
        Ok(figures)
    })
}

fn until(
    mut consumer: Consumer,
    span: &Span,
    until: Option<Instant>,
    left: &AtomicU64,
) -> Result<Figures> {
    loop {
        let before = consumer.figures.bytes;
        consumer.fetch(|_partition, _batch| Ok(()))?;
        let bytes = consumer.figures.bytes - before;
        let took = left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(bytes)
        });
        let late = until.is_some_and(|until| machine::now() >= until);
        let over = !consumer.go_on(span);
        if late || took.is_err() || over {
            return Ok(consumer.figures);
        }
    }
}

struct Place {
    partition: i32,
    offset: i64,
    /// Has to be named in the next request of the session (KIP-227).
    is_news: bool,
}

/// One connection with a fetch session.
pub(crate) struct Consumer {
    socket: TcpStream,
    buffer: BytesMut,
    topic: Uuid,
    fetches: Fetches,
    places: Vec<Place>,
    session_id: i32,
    session_epoch: i32,
    next_id: i32,
    pub(crate) figures: Figures,
}

impl Consumer {
    pub(crate) fn open(
        bootstrap: &str,
        topic: Uuid,
        partitions: &[i32],
        span: &Span,
        fetches: &Fetches,
    ) -> Result<Self> {
        let place = |partition: &i32| {
            let offset = span.from.get(usize::try_from(*partition)?);
            Ok(Place {
                partition: *partition,
                offset: *offset.context("a partition of the topic")?,
                is_news: true,
            })
        };
        Ok(Self {
            socket: connect(bootstrap)?,
            buffer: BytesMut::new(),
            topic,
            fetches: fetches.clone(),
            places: partitions.iter().map(place).collect::<Result<_>>()?,
            session_id: 0,
            session_epoch: 0,
            next_id: 0,
            figures: Figures::new()?,
        })
    }

    /// One request and its answer; each batch is shown to `seen`.
    pub(crate) fn fetch(
        &mut self,
        seen: impl FnMut(i32, &BatchHeader) -> Result<()>,
    ) -> Result<()> {
        self.ask()?;
        let mut length = [0; 4];
        self.socket
            .read_exact(&mut length)
            .context("the broker hung up")?;
        let length = usize::try_from(i32::from_be_bytes(length))?;
        ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        self.socket.read_exact(&mut self.buffer[..length])?;
        let whole = std::mem::take(&mut self.buffer).freeze();
        self.take(whole.slice(..length), seen)?;
        // nothing refers to it any more, so the next answer is read into the same memory
        self.buffer = whole.try_into_mut().unwrap_or_default();
        Ok(())
    }

    fn ask(&mut self) -> Result<()> {
        let fetches = &self.fetches;
        let limit = i32::try_from(fetches.partition_max_bytes.0)?;
        let mut partitions = Vec::new();
        for place in self.places.iter_mut().filter(|place| place.is_news) {
            place.is_news = false;
            partitions.push(FetchPartition {
                partition: place.partition,
                fetch_offset: place.offset,
                partition_max_bytes: limit,
                ..Default::default()
            });
        }
        let topic = FetchTopic {
            topic_id: self.topic,
            partitions,
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms: fetches.max_wait_ms,
            min_bytes: fetches.min_bytes,
            max_bytes: i32::try_from(fetches.fetch_max_bytes.0)?,
            session_id: self.session_id,
            session_epoch: self.session_epoch,
            topics: Some(topic)
                .filter(|topic| !topic.partitions.is_empty())
                .into_iter()
                .collect(),
            ..Default::default()
        };
        let mut out = FrameWriter::request(FetchRequest::KEY, FETCH, true, self.next_id, CLIENT_ID);
        request.write(&mut out, FETCH);
        for part in out.finish()? {
            self.socket.write_all(&part)?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        frame: Bytes,
        mut seen: impl FnMut(i32, &BatchHeader) -> Result<()>,
    ) -> Result<()> {
        let answer = decode::<FetchRequest>(frame, FETCH, self.next_id)?;
        self.next_id = self.next_id.wrapping_add(1);
        ensure!(
            answer.error_code == 0,
            "the fetch failed: error {}",
            answer.error_code
        );
        self.session_id = answer.session_id;
        self.session_epoch = match (answer.session_id, self.session_epoch) {
            (0, _) => 0,
            (_, i32::MAX) => 1,
            (_, epoch) => epoch + 1,
        };
        for part in answer
            .responses
            .into_iter()
            .flat_map(|topic| topic.partitions)
        {
            let index = part.partition_index;
            ensure!(
                part.error_code == 0,
                "partition {index}: error {}",
                part.error_code
            );
            let place = self
                .places
                .iter_mut()
                .find(|place| place.partition == index);
            let place = place.context("a partition that was asked for")?;
            let mut rest = part
                .records
                .map(|records| records.into_bytes())
                .unwrap_or_default();
            while !rest.is_empty() {
                let batch = match BatchHeader::read(&rest) {
                    // the last one may be cut short
                    Err(BatchError::Truncated(_)) => break,
                    other => other?,
                };
                // batches are read whole: the first may begin before the offset that was asked for
                place.offset = batch.next_offset();
                place.is_news = true;
                self.figures.batches += 1;
                self.figures.records += u64::try_from(batch.count)?;
                self.figures.bytes += u64::try_from(batch.bytes)?;
                seen(index, &batch)?;
                rest = rest.split_off(batch.bytes);
            }
        }
        if self.session_id == 0 {
            self.places
                .iter_mut()
                .for_each(|place| place.is_news = true);
        }
        Ok(())
    }

    /// Begins anew where a partition's end is reached; answers whether there is more to read.
    fn go_on(&mut self, span: &Span) -> bool {
        let mut more = false;
        for place in &mut self.places {
            let index = usize::try_from(place.partition).unwrap_or_default();
            if place.offset < span.to[index] {
                more = true;
            } else if span.repeats {
                place.offset = span.from[index];
                place.is_news = true;
                more |= place.offset < span.to[index];
            }
        }
        more
    }
}
