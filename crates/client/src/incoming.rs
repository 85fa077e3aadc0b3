//! Reading frames from a socket.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::Error;

const PREFIX_BYTES: usize = 4;
/// The length of the correlation id, with which every answer begins after the prefix.
const CORRELATION_ID_BYTES: usize = 4;

/// The frame that is being read. The bytes that were read stay here, so that a reader that gave up can go on later.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    prefix: [u8; PREFIX_BYTES],
    /// The number of bytes of the prefix and of the frame that were read.
    filled: usize,
    /// The memory for the frame, which is at least as long as the frame.
    memory: BytesMut,
    /// The memory of the previous frame, which is used again once its answer is dropped.
    last: Bytes,
}

impl Incoming {
    /// Reads the next frame: its correlation id and the rest; `None` if the stream ends before it. Cancellation safe.
    pub(crate) async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        bytes_max: usize,
    ) -> Result<Option<(i32, Bytes)>, Error> {
        while self.filled < PREFIX_BYTES {
            let read = match stream.read(&mut self.prefix[self.filled..]).await {
                // A broker resets a connection that it closes before it has read everything.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
                read => read?,
            };
            match (read, self.filled) {
                (0, 0) => return Ok(None),
                (0, _) => return Err(within_a_frame()),
                _ => self.filled += read,
            }
        }
        let told = i32::from_be_bytes(self.prefix);
        let length = usize::try_from(told).unwrap_or(0);
        if !(CORRELATION_ID_BYTES..=bytes_max).contains(&length) {
            return Err(Error::Length(told));
        }
        if self.memory.len() < length {
            self.memory = self.memory_for(length);
        }
        while self.filled < PREFIX_BYTES + length {
            let at = self.filled - PREFIX_BYTES;
            let read = stream.read(&mut self.memory[at..length]).await?;
            match read {
                0 => return Err(within_a_frame()),
                _ => self.filled += read,
            }
        }
        self.filled = 0;
        let whole = std::mem::take(&mut self.memory).freeze();
        let mut frame = whole.slice(..length);
        self.last = whole;
        Ok(Some((frame.get_i32(), frame)))
    }

    /// The last frame's memory, if nothing refers to it any more and it is not far too large; otherwise new memory.
    fn memory_for(&mut self, length: usize) -> BytesMut {
        const TOO_LARGE: usize = 4;
        match std::mem::take(&mut self.last).try_into_mut() {
            Ok(memory) if memory.len() >= length && memory.len() / TOO_LARGE <= length => memory,
            _ => BytesMut::zeroed(length),
        }
    }
}

fn within_a_frame() -> Error {
    Error::Connection(io::ErrorKind::UnexpectedEof.into())
}

/// Whether bytes that were read ahead, beginning with a frame, contain the whole frame.
pub(crate) fn holds_a_frame(bytes: &[u8]) -> bool {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        return false;
    };
    usize::try_from(i32::from_be_bytes(*prefix)).is_ok_and(|length| rest.len() >= length)
}

impl Incoming {
    /// Whether the next frame can be taken from the bytes that were read ahead, without a read of the socket.
    pub(crate) fn is_whole(&self, ahead: &[u8]) -> bool {
        self.filled == 0 && holds_a_frame(ahead)
    }
}
