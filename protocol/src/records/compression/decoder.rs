//! Decompression piece by piece. The memory it takes is bounded by the codec's window or block, not by the output.

use std::io::{self, Read};

use super::lz4::Lz4;
use super::snappy::Snappy;
use super::{Codec, CompressionError};

/// The largest window that is accepted. It is the default of zstd's decoder and of Kafka; a Java producer at level 22
/// asks for all of these 128 MiB. They are reserved as address space, and take memory as output fills them.
const WINDOW_LOG_MAX: u32 = 27;
/// The memory of a gzip decoder: its window, and the largest header.
const GZIP_BYTES: usize = 256 << 10;

/// Decompresses bytes as Kafka's Java classes do: it refuses and ignores what they refuse and ignore.
pub struct Decoder<'a> {
    codec: Codec,
    source: Source<'a>,
    limit: usize,
    left: usize,
}

enum Source<'a> {
    Plain(&'a [u8]),
    Gzip(Gzip<'a>),
    Snappy(Snappy<'a>),
    Lz4(Lz4<'a>),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
}

impl std::fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Decoder({:?}, {} left)", self.codec, self.left)
    }
}

impl<'a> Decoder<'a> {
    /// A decoder of `input` that yields at most `limit` bytes.
    ///
    /// # Errors
    /// [`CompressionError`] if the input doesn't begin as the codec's output does.
    pub fn new(codec: Codec, input: &'a [u8], limit: usize) -> Result<Self, CompressionError> {
        let source = match codec {
            Codec::None => Ok(Source::Plain(input)),
            Codec::Gzip => Ok(Source::Gzip(Gzip::open(input))),
            Codec::Snappy => Ok(Source::Snappy(Snappy::open(input, limit))),
            Codec::Lz4 => Lz4::open(input).map(Source::Lz4),
            Codec::Zstd => zstd::stream::read::Decoder::with_buffer(input).and_then(|mut zstd| {
                zstd.window_log_max(WINDOW_LOG_MAX)?;
                Ok(Source::Zstd(Box::new(zstd)))
            }),
        };
        Ok(Self {
            codec,
            source: source.map_err(|error| failed(codec, limit, &error))?,
            limit,
            left: limit,
        })
    }

    /// The memory that the decoder takes at most, without the buffer it reads into.
    pub fn held_bytes_max(&mut self) -> usize {
        match &mut self.source {
            Source::Plain(_) => 0,
            Source::Gzip(_) => GZIP_BYTES,
            Source::Snappy(snappy) => snappy.held_bytes_max(),
            Source::Lz4(lz4) => lz4.held_bytes_max(),
            Source::Zstd(zstd) => zstd_window(zstd.get_ref()),
        }
    }

    /// Reads the next bytes into `out` and returns their number; 0 at the end.
    ///
    /// # Errors
    /// [`CompressionError`].
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, CompressionError> {
        let mut filled = 0;
        while filled < out.len() {
            let read = match &mut self.source {
                Source::Plain(rest) => rest.read(&mut out[filled..]),
                Source::Gzip(gzip) => gzip.read(&mut out[filled..]),
                Source::Snappy(snappy) => snappy.read(&mut out[filled..]),
                Source::Lz4(lz4) => lz4.read(&mut out[filled..]),
                Source::Zstd(zstd) => zstd.read(&mut out[filled..]),
            };
            match read.map_err(|error| failed(self.codec, self.limit, &error))? {
                0 => break,
                bytes => filled = filled.saturating_add(bytes),
            }
        }
        let left = self.left.checked_sub(filled);
        self.left = left.ok_or(CompressionError::TooLarge(self.limit))?;
        Ok(filled)
    }
}

fn failed(codec: Codec, limit: usize, error: &io::Error) -> CompressionError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => CompressionError::TooLarge(limit),
        _ => CompressionError::Malformed {
            codec,
            reason: error.to_string(),
        },
    }
}

/// The window size that a frame declares. Source: RFC 8878, 3.1.1.1.
fn zstd_window(input: &[u8]) -> usize {
    const MAX: u64 = 1 << WINDOW_LOG_MAX;
    let window = match *input {
        // a frame of a single segment: the window is the content, whose size follows
        [_, _, _, _, descriptor, ..] if descriptor & 0b10_0000 != 0 => {
            let size = zstd::zstd_safe::get_frame_content_size(input);
            size.ok().flatten().unwrap_or(MAX)
        }
        [_, _, _, _, _, window, ..] => {
            // at most 2^41, and up to seven eighths of that in addition
            let base = 1024u64 << (window >> 3);
            base.saturating_add((base / 8).saturating_mul(u64::from(window & 7)))
        }
        _ => 0,
    };
    usize::try_from(window.min(MAX)).unwrap_or(usize::MAX)
}

/// Reads gzip members one after the other, as `GZIPInputStream` does. Bytes after a member that don't begin another
/// one are ignored, even if they are too few for a header.
struct Gzip<'a> {
    member: Box<flate2::bufread::GzDecoder<&'a [u8]>>,
}

impl<'a> Gzip<'a> {
    fn open(input: &'a [u8]) -> Self {
        let member = Box::new(flate2::bufread::GzDecoder::new(input));
        Self { member }
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        const HEADER_AND_TRAILER_BYTES: usize = 18;
        loop {
            let bytes = self.member.read(out)?;
            if bytes > 0 || out.is_empty() {
                return Ok(bytes);
            }
            let rest = *self.member.get_ref();
            if rest.len() <= HEADER_AND_TRAILER_BYTES {
                return Ok(0);
            }
            let next = Self::open(rest);
            if next.member.header().is_none() {
                return Ok(0);
            }
            *self = next;
        }
    }
}
