//! The native producer. Each connection has a thread; requests are built beforehand, and answers are read in bulk.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use highwater_client::{Connection, Sent as SentRequest};
use highwater_protocol::messages::ProduceRequest;
use highwater_types::{ByteSize, Uuid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::batch::{Batch, Frame};
use crate::figures::{Figures, real};
use crate::machine::{self, pause};
use crate::pace::{Budget, Next, Pace};
use crate::socket::{connect, done};

/// What to produce, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Load {
    /// The number of bytes in a record's value.
    #[arg(long, default_value = "1KiB")]
    pub(crate) record_size: ByteSize,
    /// The most bytes of one batch; a larger record has a batch to itself.
    #[arg(long, default_value = "16KiB")]
    pub(crate) batch_size: ByteSize,
    /// The number of partitions of the topic.
    #[arg(long, default_value_t = 1)]
    pub(crate) partitions: i32,
    /// The number of partitions that one request writes to.
    #[arg(long, default_value_t = 1)]
    pub(crate) batches_per_request: usize,
    /// The number of connections; each has partitions of its own where there are enough.
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    /// The number of requests in flight on one connection; 1 sends one at a time.
    #[arg(long, default_value_t = 5)]
    pub(crate) in_flight: usize,
    /// Bytes per second, in requests at even distances (open loop). Without it, requests follow the answers (closed
    /// loop).
    #[arg(long)]
    pub(crate) rate: Option<ByteSize>,
}

impl Load {
    /// A producer of one partition with one connection, as fast as it can, with records of 1 KiB; a batch of 1 KiB holds
    /// one of them.
    pub(crate) fn of_one_partition(batch_size: ByteSize, in_flight: usize) -> Self {
        Self {
            record_size: ByteSize::kib(1),
            batch_size,
            partitions: 1,
            batches_per_request: 1,
            connections: 1,
            in_flight,
            rate: None,
        }
    }
}

/// The limits of a run, which ends at the first that is reached.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct Extent {
    /// Ends the run after this many bytes.
    #[arg(long)]
    pub(crate) bytes: Option<ByteSize>,
    /// Ends the run after this time.
    #[arg(long)]
    pub(crate) seconds: Option<u64>,
}

impl Extent {
    /// The given limits, or this many bytes if none is given.
    pub(crate) fn or(self, bytes: ByteSize) -> Self {
        let unsaid = self.bytes.is_none() && self.seconds.is_none();
        Self {
            bytes: if unsaid { Some(bytes) } else { self.bytes },
            ..self
        }
    }

    pub(crate) fn until(&self, start: Instant) -> Option<Instant> {
        Some(start + Duration::from_secs(self.seconds?))
    }
}

/// The time at which each batch was due, by partition, until the consumer has received it.
#[derive(Debug)]
pub(crate) struct Sent(Vec<Mutex<VecDeque<Instant>>>);

impl Sent {
    pub(crate) fn new(partitions: i32) -> Self {
        Self((0..partitions).map(|_| Mutex::default()).collect())
    }

    fn of(&self, partition: i32) -> Result<std::sync::MutexGuard<'_, VecDeque<Instant>>> {
        let queue = self.0.get(usize::try_from(partition)?);
        let queue = queue.context("a partition of the topic")?.lock();
        Ok(queue.unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn push(&self, partition: i32, due: Instant) -> Result<()> {
        self.of(partition)?.push_back(due);
        Ok(())
    }

    /// The time at which the oldest batch that is not yet received was due.
    pub(crate) fn pop(&self, partition: i32) -> Result<Instant> {
        let oldest = self.of(partition)?.pop_front();
        oldest.context("a batch is received that was not sent")
    }
}

/// Produces to a topic, and notes each batch in `sent` if it is given.
pub(crate) fn run(
    bootstrap: &str,
    topic: Uuid,
    load: &Load,
    extent: &Extent,
    sent: Option<&Sent>,
) -> Result<Figures> {
    let (record, batch) = (usize::try_from(load.record_size.0)?, load.batch_size.0);
    let batch = Batch::build(record, usize::try_from(batch)?, machine::timestamp()?)?;
    let mut connections = Vec::new();
    for index in 0..load.connections {
        let mut frames = Vec::new();
        let own = share(load.partitions, load.connections, index)?;
        for partitions in own.chunks(load.batches_per_request.max(1)) {
            frames.push(Frame::build(topic, partitions, &batch)?);
        }
        let (connection, socket) = connect(bootstrap)?;
        connections.push((connection, socket, frames));
    }
    let frames = || connections.iter().flat_map(|(_, _, frames)| frames);
    let frame_bytes: u64 = frames().map(|frame| frame.batch_bytes).sum();
    let interval = load.rate.map(|rate| {
        let requests = u64::try_from(frames().count()).unwrap_or(u64::MAX);
        Duration::from_secs_f64(real(frame_bytes) / real(requests) / real(rate.0))
    });
    let start = machine::now();
    let bytes = extent.bytes.map(|bytes| bytes.0);
    let budget = Budget::new(bytes, extent.until(start));
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        let count = u32::try_from(connections.len())?;
        for (index, (connection, socket, frames)) in (0..).zip(connections) {
            let first = interval.map_or(start, |interval| start + interval * index);
            let pace = Pace::new(&budget, first, interval.map(|interval| interval * count));
            let producer = Producer {
                connection,
                socket,
                frames,
                next_frame: 0,
                depth: load.in_flight,
                batch: &batch,
                sent,
                in_flight: VecDeque::with_capacity(load.in_flight),
                figures: Figures::new()?,
            };
            threads.push(scope.spawn(|| producer.run(pace)));
        }
        let done = threads.into_iter().map(|thread| {
            let figures = thread.join();
            figures.unwrap_or_else(|_panic| Err(anyhow::anyhow!("a producer failed")))
        });
        let mut figures = Figures::join(done)?;
        figures.elapsed = start.elapsed();
        Ok(figures)
    })
}

/// The partitions of one connection: its own where there are enough, otherwise one that it shares with other
/// connections.
pub(crate) fn share(partitions: i32, connections: usize, index: usize) -> Result<Vec<i32>> {
    let count = usize::try_from(partitions)?;
    ensure!(
        count > 0 && connections > 0,
        "no partition or no connection"
    );
    let own = (0..partitions).skip(index % count);
    let step = if connections < count {
        connections
    } else {
        count
    };
    Ok(own.step_by(step).collect())
}

struct Producer<'a> {
    connection: Connection,
    /// The pace of the connection's requests.
    socket: TcpStream,
    frames: Vec<Frame>,
    next_frame: usize,
    depth: usize,
    batch: &'a Batch,
    sent: Option<&'a Sent>,
    /// The requests without an answer, the oldest first.
    in_flight: VecDeque<InFlight>,
    figures: Figures,
}

struct InFlight {
    request: SentRequest<ProduceRequest>,
    due: Instant,
    batches: usize,
}

impl Producer<'_> {
    fn run(mut self, mut pace: Pace<'_>) -> Result<Figures> {
        machine::sharpen_timers()?;
        loop {
            let mut next = None;
            while self.in_flight.len() < self.depth {
                match pace.next(self.frames[self.next_frame].batch_bytes, machine::now()) {
                    Next::Send(due) => self.send(due)?,
                    other => {
                        next = Some(other);
                        break;
                    }
                }
            }
            let idle = self.in_flight.is_empty();
            match next {
                Some(Next::Over) if idle => return Ok(self.figures),
                Some(Next::Wait(due)) if idle => pause(due - machine::now()),
                Some(Next::Wait(due)) if !self.answered_before(due)? => {}
                _ => self.receive()?,
            }
        }
    }

    fn send(&mut self, due: Instant) -> Result<()> {
        let frame = &mut self.frames[self.next_frame];
        if let Some(sent) = self.sent {
            for partition in &frame.partitions {
                sent.push(*partition, due)?;
            }
        }
        let request = done(self.connection.send_encoded(&mut frame.request))?;
        self.in_flight.push_back(InFlight {
            request,
            due,
            batches: frame.partitions.len(),
        });
        self.next_frame = (self.next_frame + 1) % self.frames.len();
        Ok(())
    }

    fn answered_before(&self, due: Instant) -> Result<bool> {
        if self.connection.has_answer() {
            return Ok(true);
        }
        let left = due.saturating_duration_since(machine::now());
        let timeout = Timespec::try_from(left)?;
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        Ok(poll(&mut fds, Some(&timeout))? > 0)
    }

    /// Waits for an answer, then takes every answer that has arrived.
    fn receive(&mut self) -> Result<()> {
        self.receive_one()?;
        while self.connection.has_answer() {
            self.receive_one()?;
        }
        Ok(())
    }

    fn receive_one(&mut self) -> Result<()> {
        let next = self.in_flight.pop_front();
        let InFlight {
            request,
            due,
            batches,
        } = next.context("an answer nobody asked for")?;
        let answer = done(self.connection.receive(request))?;
        let answered = machine::now();
        let mut parts = answer
            .responses
            .iter()
            .flat_map(|topic| &topic.partition_responses);
        let refused = parts.find(|part| part.error_code != 0);
        ensure!(refused.is_none(), "a batch was refused: {refused:?}");
        let batches = u64::try_from(batches)?;
        self.figures
            .latency
            .record(answered.saturating_duration_since(due));
        self.figures.batches += batches;
        self.figures.records += batches * self.batch.records;
        self.figures.bytes += batches * u64::try_from(self.batch.bytes.len())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_a_connection() {
        assert_eq!(share(5, 2, 0).expect("some"), [0, 2, 4]);
        assert_eq!(share(5, 2, 1).expect("some"), [1, 3]);
        assert_eq!(share(2, 3, 2).expect("some"), [0]);
        assert_eq!(share(1, 1, 0).expect("some"), [0]);
    }
}
