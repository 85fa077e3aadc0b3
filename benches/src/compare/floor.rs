//! The floor: a process that does the least work that a broker has to do, without being a broker.
//!
//! For produce it receives, checks CRC-32C, writes to a preallocated log, syncs once per five requests, and writes the
//! same bytes once more to another file. For fetch it answers with a mebibyte of memory, each of 64 in turn, because
//! bytes that are sent again at once would be in the processor's cache, and those of a broker's log are not. It serves
//! one connection after the other.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use highwater_client::Topic;
use highwater_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use highwater_protocol::messages::produce_response::{
    PartitionProduceResponse, TopicProduceResponse,
};
use highwater_protocol::messages::{FetchResponse, ProduceResponse};
use highwater_protocol::records::{BATCH_HEADER_BYTES, BatchHeader};
use highwater_protocol::{ApiKey, FrameWriter, Message, Records};
use highwater_types::Uuid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{fdatasync, ftruncate};
use rustix::io::pwritev;

use crate::batch::Batch;

const BUFFER_BYTES: usize = 2 << 20;
const LOG_BYTES: u64 = 256 << 20;
const SECOND_BYTES_MAX: u64 = 2 << 30;
const REQUESTS_PER_SYNC: usize = 5;
/// The time without a new request after which fewer requests are synced, because the run has ended.
const GATHER: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 2_000_000,
};
const ANSWER_BYTES: usize = 1 << 20;
const ANSWERS: usize = 64;
const PREFIX_BYTES: usize = 4;
/// The name of the generator's topic in a request.
const BY_ID: Topic = Topic::Id(Uuid([0; 16]));
const CORRELATION_ID_IN_REQUEST: usize = 8;
const CORRELATION_ID_IN_ANSWER: usize = 4;

/// The address on which the floor listens, and the directory to which it writes.
#[derive(Debug, clap::Args)]
pub(crate) struct Floor {
    #[arg(long)]
    address: String,
    #[arg(long)]
    dir: PathBuf,
    /// The batches of a fetch's answer.
    #[arg(long, default_value_t = 16 << 10)]
    batch_bytes: usize,
}

/// Serves until the process is killed.
pub(crate) fn serve(floor: &Floor) -> Result<()> {
    let listener = TcpListener::bind(&floor.address)?;
    let mut files = Files::open(&floor.dir)?;
    let fetched = (0..ANSWERS).map(|_| fetch_answer(floor.batch_bytes));
    let fetched = fetched.collect::<Result<Vec<_>>>()?;
    loop {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let mut connection = Floored {
            socket,
            buffer: vec![0; BUFFER_BYTES],
            batch_at: None,
            answer: produce_answer()?,
        };
        // A client that disconnects is not a failure.
        if let Err(error) = connection.run(&mut files, &fetched) {
            writeln!(std::io::stderr(), "{error:#}")?;
        }
    }
}

/// The log, which is overwritten in a circle, and the file that receives all bytes once more.
struct Files {
    log: File,
    log_at: u64,
    second: File,
    second_at: u64,
}

impl Files {
    fn open(dir: &Path) -> Result<Self> {
        let mut log = File::create(dir.join("log"))?;
        let zeroes = vec![0; 1 << 20];
        for _ in 0..LOG_BYTES >> 20 {
            log.write_all(&zeroes)?;
        }
        log.sync_all()?;
        Ok(Self {
            log,
            log_at: 0,
            second: File::create(dir.join("second"))?,
            second_at: 0,
        })
    }

    fn write(&mut self, batches: &[IoSlice<'_>]) -> Result<()> {
        let bytes = batches.iter().map(|batch| batch.len()).sum::<usize>();
        let length = u64::try_from(bytes)?;
        if self.log_at + length > LOG_BYTES {
            self.log_at = 0;
        }
        if self.second_at + length > SECOND_BYTES_MAX {
            ftruncate(&self.second, 0)?;
            self.second_at = 0;
        }
        let written = pwritev(&self.log, batches, self.log_at)?;
        ensure!(written == bytes, "a short write");
        fdatasync(&self.log)?;
        let written = pwritev(&self.second, batches, self.second_at)?;
        ensure!(written == bytes, "a short write");
        self.log_at += length;
        self.second_at += length;
        Ok(())
    }
}

struct Floored {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// The position of the batch in a frame, which is the same for all frames of a connection.
    batch_at: Option<usize>,
    answer: BytesMut,
}

impl Floored {
    fn run(&mut self, files: &mut Files, fetched: &[Vec<Bytes>]) -> Result<()> {
        let mut fetched = fetched.iter().cycle();
        // Frames are in buffer[..end]; those before `scanned` are complete and checked.
        let (mut end, mut scanned) = (0, 0);
        let mut frames: Vec<(usize, usize)> = Vec::with_capacity(REQUESTS_PER_SYNC);
        loop {
            while let Some(length) = whole_frame(&self.buffer[scanned..end])? {
                let frame = scanned..scanned + length;
                scanned += length;
                if self.buffer[frame.start + 4..frame.start + 6] == [0, 1] {
                    self.send_fetched(frame.start, fetched.next().context("an answer")?)?;
                    (scanned, end) = (0, 0);
                    continue;
                }
                self.check(frame.start, frame.end)?;
                frames.push((frame.start, frame.end));
                if frames.len() == REQUESTS_PER_SYNC {
                    self.write(&mut frames, files)?;
                }
            }
            if frames.is_empty() {
                self.buffer.copy_within(scanned..end, 0);
                (scanned, end) = (0, end - scanned);
            } else if !self.more_comes()? {
                self.write(&mut frames, files)?;
                continue;
            }
            ensure!(end < self.buffer.len(), "five requests are too large");
            let read = self.socket.read(&mut self.buffer[end..])?;
            if read == 0 {
                return Ok(());
            }
            end += read;
        }
    }

    fn more_comes(&self) -> Result<bool> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        Ok(poll(&mut fds, Some(&GATHER))? > 0)
    }

    fn check(&mut self, start: usize, end: usize) -> Result<()> {
        let frame = &self.buffer[start..end];
        let at = match self.batch_at {
            Some(at) => at,
            None => *self.batch_at.insert(find_batch(frame)?),
        };
        let batch = &frame[at..];
        Ok(BatchHeader::read(batch)?.check_crc(batch)?)
    }

    /// Writes and answers the frames; the bytes after the last complete frame stay in the buffer.
    fn write(&mut self, frames: &mut Vec<(usize, usize)>, files: &mut Files) -> Result<()> {
        let at = self.batch_at.context("a batch was found")?;
        let batch = |&(start, end): &(usize, usize)| IoSlice::new(&self.buffer[start + at..end]);
        files.write(&frames.iter().map(batch).collect::<Vec<_>>())?;
        let mut answers = Vec::with_capacity(frames.len() * self.answer.len());
        for (start, _) in frames.drain(..) {
            let id = start + CORRELATION_ID_IN_REQUEST;
            let from = answers.len() + CORRELATION_ID_IN_ANSWER;
            answers.extend_from_slice(&self.answer);
            answers[from..from + 4].copy_from_slice(&self.buffer[id..id + 4]);
        }
        Ok(self.socket.write_all(&answers)?)
    }

    fn send_fetched(&mut self, start: usize, fetched: &[Bytes]) -> Result<()> {
        let id = start + CORRELATION_ID_IN_REQUEST;
        let mut head = fetched[0].to_vec();
        head[CORRELATION_ID_IN_ANSWER..][..4].copy_from_slice(&self.buffer[id..id + 4]);
        let mut slices = vec![IoSlice::new(&head)];
        slices.extend(fetched[1..].iter().map(|part| IoSlice::new(part)));
        write_all(&mut self.socket, &mut slices)
    }
}

fn write_all(socket: &mut TcpStream, mut slices: &mut [IoSlice<'_>]) -> Result<()> {
    while !slices.is_empty() {
        let written = socket
            .write_vectored(slices)
            .context("the client hung up")?;
        IoSlice::advance_slices(&mut slices, written);
    }
    Ok(())
}

/// The length of the frame that begins here, if it is complete.
fn whole_frame(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(length) = bytes.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let length = PREFIX_BYTES + usize::try_from(i32::from_be_bytes(*length))?;
    ensure!(length <= BUFFER_BYTES, "a frame of {length} bytes");
    Ok((bytes.len() >= length).then_some(length))
}

/// Finds the only batch of a request: the position of a valid one that ends with the frame, except for the closing
/// tags.
fn find_batch(frame: &[u8]) -> Result<usize> {
    let last = frame.len().saturating_sub(BATCH_HEADER_BYTES);
    let is_batch = |at: &usize| {
        let rest = &frame[*at..];
        let header = BatchHeader::read(rest);
        header.is_ok_and(|header| header.bytes <= rest.len() && header.check_crc(rest).is_ok())
    };
    let mut places = PREFIX_BYTES..last.min(256);
    places.find(is_batch).context("a request has a batch")
}

fn produce_answer() -> Result<BytesMut> {
    let response = ProduceResponse {
        responses: vec![TopicProduceResponse {
            topic_id: Uuid::default(),
            partition_responses: vec![PartitionProduceResponse::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut out = FrameWriter::response(ApiKey::Produce, true, 0);
    response.write(&mut out, BY_ID.produce_version());
    let answer = out.finish()?.drain(..1).next().context("one part")?;
    Ok(BytesMut::from(answer))
}

fn fetch_answer(batch_bytes: usize) -> Result<Vec<Bytes>> {
    let batch = Batch::build(1 << 10, batch_bytes, crate::machine::timestamp()?)?;
    let records = batch.bytes.repeat((ANSWER_BYTES / batch_bytes).max(1));
    let response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            partitions: vec![PartitionData {
                records: Some(Records::from(Bytes::from(records))),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut out = FrameWriter::response(ApiKey::Fetch, true, 0);
    response.write(&mut out, BY_ID.fetch_version());
    Ok(out.finish()?)
}
