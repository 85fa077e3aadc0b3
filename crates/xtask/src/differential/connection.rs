//! A connection to a broker, and what the broker does after a frame is sent on it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// What the broker did.
#[derive(Debug)]
pub(super) enum Came {
    /// It answered with this frame, given without its length.
    Frame(Vec<u8>),
    Closed,
    Nothing,
}

/// A connection to a broker.
#[derive(Debug)]
pub(super) struct Connection(TcpStream);

impl Connection {
    pub(super) fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).context("cannot connect to the broker")?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Sends bytes; returns whether the broker still accepted them.
    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Reads one frame.
    pub(super) fn receive(&mut self, within: Duration) -> Result<Came> {
        self.0.set_read_timeout(Some(within))?;
        let mut length = [0; 4];
        let mut frame = Vec::new();
        let read = self.0.read_exact(&mut length).and_then(|()| {
            frame.resize(usize::try_from(u32::from_be_bytes(length)).unwrap_or(0), 0);
            self.0.read_exact(&mut frame)
        });
        match read.map_err(|error| error.kind()) {
            Ok(()) => Ok(Came::Frame(frame)),
            Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(Came::Nothing),
            Err(
                ErrorKind::UnexpectedEof
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe,
            ) => Ok(Came::Closed),
            Err(other) => bail!("reading an answer: {other}"),
        }
    }
}
