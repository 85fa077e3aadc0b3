//! The four codecs, in Kafka's framings and with bounded output.

mod decoder;
mod lz4;
mod snappy;

use std::io::{self, Write};

use bytes::Bytes;
pub use decoder::Decoder;
use snappy::SnappyWriter;

/// The codec of a batch; the values are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

/// Why bytes can't be decompressed. It is the client's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// They are not valid output of the codec.
    #[error("compressed records are malformed codec={codec:?} reason={reason}")]
    Malformed {
        /// The codec.
        codec: Codec,
        /// The decoder's message.
        reason: String,
    },
    /// They decompress to more bytes than allowed.
    #[error("compressed records are too large limit={0}")]
    TooLarge(usize),
}

impl Codec {
    /// The codec with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            _ => return None,
        })
    }
}

/// Decompresses into at most `limit` bytes. Memory grows with the actual output, whatever size the input declares.
///
/// # Errors
/// [`CompressionError`].
pub fn decompress(codec: Codec, input: &Bytes, limit: usize) -> Result<Bytes, CompressionError> {
    if codec == Codec::None {
        return Ok(input.clone());
    }
    let mut decoder = Decoder::new(codec, input, limit)?;
    let mut out = Vec::new();
    loop {
        let filled = out.len();
        grow(&mut out, READ_BYTES, limit);
        let room = out.capacity().saturating_sub(filled).min(READ_BYTES);
        out.resize(filled.saturating_add(room), 0);
        // at the limit there is room for one more byte, so that exceeding the limit is noticed
        let read = decoder.read(&mut out[filled..])?;
        out.truncate(filled.saturating_add(read));
        if read == 0 {
            return Ok(out.into());
        }
    }
}

/// The number of bytes that a decoder is asked for at a time.
const READ_BYTES: usize = 16 << 10;

/// Makes room for `more` bytes. The capacity doubles, so that growing is cheap, but never exceeds `limit` plus one.
fn grow(out: &mut Vec<u8>, more: usize, limit: usize) {
    let one_more = limit.saturating_add(1);
    let needed = out.len().saturating_add(more).min(one_more);
    if needed > out.capacity() {
        let doubled = out.capacity().saturating_mul(2).min(one_more);
        out.reserve_exact(doubled.max(needed).saturating_sub(out.len()));
    }
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut short")
}

/// Compresses with a codec's default level, in the framing that Kafka's clients read.
///
/// # Errors
/// Errors of the codec.
pub fn compress(codec: Codec, input: &[u8]) -> io::Result<Vec<u8>> {
    compress_at(codec, None, input)
}

/// Compresses with a level of gzip (1 to 9) or zstd. Lz4 and snappy have only one level here.
///
/// # Errors
/// Errors of the codec.
pub fn compress_at(codec: Codec, level: Option<i32>, input: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::new(codec, level)?;
    encoder.write_all(input)?;
    encoder.finish()
}

/// The highest level of zstd at which window and tables take about 3 MiB without a limit.
const ZSTD_FRUGAL_LEVEL_MAX: i32 = 3;
/// The window for higher levels, as a power of two. It also limits the tables, so that each level takes less than 4
/// MiB. Without it level 22 would take 700 MiB, of which the window is 128 MiB, for any input of a client.
const ZSTD_WINDOW_LOG: u32 = 17;

/// Compresses piece by piece, in the framing that Kafka's clients read. It takes less than 4 MiB in addition to its
/// output.
pub struct Encoder(Compressor);

enum Compressor {
    Plain(Vec<u8>),
    Gzip(Box<flate2::write::GzEncoder<Vec<u8>>>),
    Snappy(SnappyWriter),
    Lz4(Box<lz4_flex::frame::FrameEncoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoder({} bytes)", self.written())
    }
}

impl Encoder {
    /// An encoder with a level, as in [`compress_at`].
    ///
    /// # Errors
    /// Errors of the codec.
    pub fn new(codec: Codec, level: Option<i32>) -> io::Result<Self> {
        Ok(Self(match codec {
            Codec::None => Compressor::Plain(Vec::new()),
            Codec::Gzip => {
                let level = level.and_then(|level| u32::try_from(level).ok());
                let level =
                    level.map_or_else(flate2::Compression::default, flate2::Compression::new);
                Compressor::Gzip(Box::new(flate2::write::GzEncoder::new(Vec::new(), level)))
            }
            Codec::Snappy => Compressor::Snappy(SnappyWriter::new()),
            Codec::Lz4 => Compressor::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(Vec::new()))),
            Codec::Zstd => {
                let level = level.unwrap_or(0);
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                if level > ZSTD_FRUGAL_LEVEL_MAX {
                    encoder.window_log(ZSTD_WINDOW_LOG)?;
                }
                Compressor::Zstd(Box::new(encoder))
            }
        }))
    }

    /// The number of bytes of output so far.
    #[must_use]
    pub fn written(&self) -> usize {
        match &self.0 {
            Compressor::Plain(out) => out.len(),
            Compressor::Gzip(gzip) => gzip.get_ref().len(),
            Compressor::Snappy(snappy) => snappy.written(),
            Compressor::Lz4(lz4) => lz4.get_ref().len(),
            Compressor::Zstd(zstd) => zstd.get_ref().len(),
        }
    }

    /// Compresses more input.
    ///
    /// # Errors
    /// Errors of the codec.
    pub fn write_all(&mut self, input: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Compressor::Plain(out) => out.write_all(input),
            Compressor::Gzip(gzip) => gzip.write_all(input),
            Compressor::Snappy(snappy) => snappy.write_all(input),
            Compressor::Lz4(lz4) => lz4.write_all(input),
            Compressor::Zstd(zstd) => zstd.write_all(input),
        }
    }

    /// Completes the output and returns it.
    ///
    /// # Errors
    /// Errors of the codec.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self.0 {
            Compressor::Plain(out) => Ok(out),
            Compressor::Gzip(gzip) => gzip.finish(),
            Compressor::Snappy(snappy) => snappy.finish(),
            Compressor::Lz4(lz4) => lz4.finish().map_err(io::Error::other),
            Compressor::Zstd(zstd) => zstd.finish(),
        }
    }
}
