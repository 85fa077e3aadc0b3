//! The native consumer. Each connection has a thread; batches are counted by their headers, and records are not parsed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use highwater_client::{Connection, Limits};
use highwater_protocol::Records;
use highwater_protocol::records::{BatchError, BatchHeader};
use highwater_types::{ByteSize, Uuid};

use crate::figures::Figures;
use crate::machine;
use crate::produce::{Extent, share};
use crate::socket::{connect, done};

/// How to fetch. The defaults are those of Kafka's consumer.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Fetches {
    /// The most bytes of an answer.
    #[arg(long, default_value = "50MiB")]
    pub(crate) fetch_max_bytes: ByteSize,
    /// The most bytes of one partition in an answer.
    #[arg(long, default_value = "1MiB")]
    pub(crate) partition_max_bytes: ByteSize,
    /// The number of bytes from which the broker answers at once.
    #[arg(long, default_value_t = 1)]
    pub(crate) min_bytes: i32,
    /// The time that the broker may wait for those bytes.
    #[arg(long, default_value_t = 500)]
    pub(crate) max_wait_ms: i32,
}

/// The offsets to read, from one offset of each partition to another.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) from: Vec<i64>,
    pub(crate) to: Vec<i64>,
    /// Whether reading begins again at the end, until the extent is reached.
    pub(crate) repeats: bool,
}

impl Span {
    /// Restricts the span to the last `records` records of each partition.
    pub(crate) fn keep_last(&mut self, records: i64) {
        for (from, to) in self.from.iter_mut().zip(&self.to) {
            *from = (*from).max(to - records);
        }
    }
}

/// Reads a topic until the extent or the end of the span is reached.
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

/// One connection with a fetch session.
pub(crate) struct Consumer {
    connection: Connection,
    inner: highwater_client::Consumer,
    partitions: Vec<i32>,
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
            Ok((*partition, *offset.context("a partition of the topic")?))
        };
        let offsets: Vec<_> = partitions.iter().map(place).collect::<Result<_>>()?;
        let limits = Limits {
            max_bytes: i32::try_from(fetches.fetch_max_bytes.0)?,
            partition_max_bytes: i32::try_from(fetches.partition_max_bytes.0)?,
            min_bytes: fetches.min_bytes,
            max_wait_ms: fetches.max_wait_ms,
        };
        let inner = highwater_client::Consumer::new(topic.into(), offsets, limits);
        Ok(Self {
            connection: connect(bootstrap)?.0,
            inner: inner.with_session(),
            partitions: partitions.to_vec(),
            figures: Figures::new()?,
        })
    }

    /// Sends one request and receives its answer; each batch is passed to `seen`.
    pub(crate) fn fetch(
        &mut self,
        mut seen: impl FnMut(i32, &BatchHeader) -> Result<()>,
    ) -> Result<()> {
        for part in done(self.inner.fetch(&mut self.connection))? {
            let index = part.partition_index;
            let code = part.error_code;
            ensure!(code == 0, "partition {index}: error {code}");
            let records = part.records.map(Records::into_bytes);
            let mut rest = records.unwrap_or_default();
            let mut next = None;
            while !rest.is_empty() {
                let batch = match BatchHeader::read(&rest) {
                    // The last batch may be truncated.
                    Err(BatchError::Truncated(_)) => break,
                    other => other?,
                };
                // Batches are read whole, so the first may begin before the requested offset.
                next = Some(batch.next_offset());
                self.figures.batches += 1;
                self.figures.records += u64::try_from(batch.count)?;
                self.figures.bytes += u64::try_from(batch.bytes)?;
                seen(index, &batch)?;
                rest = rest.split_off(batch.bytes);
            }
            if let Some(next) = next {
                self.inner.seek(index, next);
            }
        }
        Ok(())
    }

    /// Begins again where a partition's end is reached, and returns whether there is more to read.
    fn go_on(&mut self, span: &Span) -> bool {
        let mut more = false;
        for partition in &self.partitions {
            let index = usize::try_from(*partition).unwrap_or_default();
            let offset = self.inner.offset(*partition).unwrap_or_default();
            if offset < span.to[index] {
                more = true;
            } else if span.repeats {
                self.inner.seek(*partition, span.from[index]);
                more |= span.from[index] < span.to[index];
            }
        }
        more
    }
}
