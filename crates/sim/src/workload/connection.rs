//! A client's connection in the simulation: any message at any version.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use highwater_protocol::{ApiKey, FrameWriter, Message, Reader, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use turmoil::net::TcpStream;

use super::Clients;
use crate::Trace;
use crate::checker::Checker;

/// Why there is no answer: the client connects again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the connection broke")]
    Broken(#[from] std::io::Error),
    #[error("no answer in time")]
    Late,
    #[error("the connection is reset")]
    Reset,
    #[error("the answer cannot be read")]
    Unreadable,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    correlation_id: i32,
    trace: Trace,
    checker: Checker,
    crashes: watch::Receiver<u64>,
}

/// Longer than any answer takes that comes.
const PATIENCE: Duration = Duration::from_secs(6);
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

impl Connection {
    pub(super) async fn open(clients: &Clients) -> Result<Self, Lost> {
        let mut crashes = clients.crashes.clone();
        crashes.mark_unchanged();
        let connecting = TcpStream::connect((crate::world::NODE, crate::world::PORT));
        let connected = tokio::time::timeout(CONNECT_PATIENCE, connecting).await;
        let stream = connected.map_err(|_late| Lost::Late)??;
        Ok(Self {
            stream,
            correlation_id: 0,
            trace: clients.trace.clone(),
            checker: clients.checker.clone(),
            crashes,
        })
    }

    /// Sends a request; its answer is to be read in turn.
    pub(crate) async fn write<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<i32, Lost> {
        if self.crashes.has_changed().unwrap_or(true) {
            return Err(Lost::Reset);
        }
        self.correlation_id += 1;
        let id = self.correlation_id;
        let flexible = version >= R::FLEXIBLE_FROM;
        let mut out = FrameWriter::request(R::KEY, version, flexible, id, "sim");
        request.write(&mut out, version);
        let mut frame = BytesMut::new();
        for part in out
            .finish()
            .expect("texts and frames of the workload are short")
        {
            frame.extend_from_slice(&part);
        }
        let (len, crc) = (frame.len(), crc32fast::hash(&frame));
        self.trace
            .event(&format_args!("ask {:?} {id} {len} {crc:08x}", R::KEY));
        let writing = self.stream.write_all(&frame);
        let written = tokio::time::timeout(PATIENCE, writing).await;
        written.map_err(|_late| Lost::Late)??;
        Ok(id)
    }

    async fn frame(&mut self) -> Result<Bytes, Lost> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).await?;
        let length = usize::try_from(i32::from_be_bytes(length));
        let mut frame = BytesMut::zeroed(length.map_err(|_negative| Lost::Unreadable)?);
        self.stream.read_exact(&mut frame).await?;
        Ok(frame.freeze())
    }

    /// Reads the answer to a request.
    pub(crate) async fn read<R: Request>(
        &mut self,
        version: i16,
        id: i32,
    ) -> Result<R::Response, Lost> {
        let mut crashes = self.crashes.clone();
        // whatever loses, the connection is given up
        let frame = tokio::select! {
            biased;
            _ = crashes.changed() => return Err(Lost::Reset),
            frame = tokio::time::timeout(PATIENCE, self.frame()) => frame,
        };
        let frame = frame.map_err(|_late| Lost::Late)??;
        let (len, crc) = (frame.len(), crc32fast::hash(&frame));
        self.trace
            .event(&format_args!("answer {:?} {id} {len} {crc:08x}", R::KEY));
        let mut reader = Reader::new(frame);
        let mut parse = || {
            let of = reader.i32()?;
            if version >= R::FLEXIBLE_FROM && R::KEY != ApiKey::ApiVersions {
                reader.tagged_fields(|_, _| Ok(false))?;
            }
            let response = R::Response::read(&mut reader, version)?;
            reader.finish()?;
            Ok((of, response))
        };
        let parsed: Result<_, highwater_protocol::DecodeError> = parse();
        let what = match parsed {
            Ok((of, response)) if of == id => return Ok(response),
            Ok((of, _)) => format!("an answer to {of} instead of {id}"),
            Err(error) => format!("an answer that cannot be read: {error}"),
        };
        self.checker.check(Err(what));
        Err(Lost::Unreadable)
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, Lost> {
        let id = self.write(request, version).await?;
        self.read::<R>(version, id).await
    }
}
