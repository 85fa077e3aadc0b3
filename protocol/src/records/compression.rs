//! The four codecs, with bounded output and Kafka's framings.

use std::io::{self, Read, Write};

use bytes::Bytes;

/// How records are compressed; the values are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

/// Why bytes can't be decompressed. The client's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// They are not what the codec writes.
    #[error("compressed records are malformed codec={codec:?} reason={reason}")]
    Malformed {
        /// The codec.
        codec: Codec,
        /// What it says.
        reason: String,
    },
    /// They hold more than is allowed.
    #[error("compressed records are too large limit={0}")]
    TooLarge(usize),
}

impl Codec {
    /// The codec of Kafka's number.
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

/// What Java's snappy stream begins with: a magic, then its version and the lowest compatible one.
const XERIAL_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// Decompresses into at most `limit` bytes. Memory grows as output really comes, whatever a size field says.
///
/// # Errors
/// [`CompressionError`].
pub fn decompress(codec: Codec, input: &Bytes, limit: usize) -> Result<Bytes, CompressionError> {
    match codec {
        Codec::None => Ok(input.clone()),
        Codec::Gzip => drain(codec, flate2::read::MultiGzDecoder::new(&input[..]), limit),
        Codec::Lz4 => drain(codec, lz4_flex::frame::FrameDecoder::new(&input[..]), limit),
        Codec::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(&input[..])
                .and_then(|mut decoder| {
                    decoder.window_log_max(WINDOW_LOG_MAX)?;
                    Ok(decoder)
                })
                .map_err(|error| malformed(codec, &error))?;
            drain(codec, decoder, limit)
        }
        Codec::Snappy => snappy(input, limit),
    }
}

/// Zstandard's default limit for decoders and Kafka's: level 22 of the Java producer asks for all of these 128 MiB. They
/// are address space; memory is taken as output fills them.
const WINDOW_LOG_MAX: u32 = 27;

/// What is asked of a decoder at a time.
const DRAINED_BYTES: usize = 16 << 10;

fn malformed(codec: Codec, error: &dyn std::fmt::Display) -> CompressionError {
    CompressionError::Malformed {
        codec,
        reason: error.to_string(),
    }
}

/// Makes room for `more` bytes: doubles, so that growing stays cheap, but never beyond `limit` without need.
fn grow(out: &mut Vec<u8>, more: usize, limit: usize) {
    let needed = out.len() + more;
    if needed > out.capacity() {
        let doubled = out.capacity().saturating_mul(2).min(limit);
        out.reserve_exact(doubled.max(needed) - out.len());
    }
}

fn drain(codec: Codec, mut from: impl Read, limit: usize) -> Result<Bytes, CompressionError> {
    let one_more = limit.saturating_add(1);
    let mut out = Vec::new();
    while out.len() <= limit {
        let more = DRAINED_BYTES.min(one_more - out.len());
        grow(&mut out, more, one_more);
        let read = from
            .by_ref()
            .take(u64::try_from(more).unwrap_or(u64::MAX))
            .read_to_end(&mut out)
            .map_err(|error| malformed(codec, &error))?;
        if read < more {
            return Ok(out.into());
        }
    }
    Err(CompressionError::TooLarge(limit))
}

fn snappy(input: &Bytes, limit: usize) -> Result<Bytes, CompressionError> {
    let mut out = Vec::new();
    let Some(mut rest) = input.strip_prefix(XERIAL_MAGIC) else {
        snappy_block(input, &mut out, limit)?;
        return Ok(out.into());
    };
    let short = || malformed(Codec::Snappy, &"a block is cut short");
    rest = rest
        .get(XERIAL_HEADER_BYTES - XERIAL_MAGIC.len()..)
        .ok_or_else(short)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let block = after.get(..length).ok_or_else(short)?;
        snappy_block(block, &mut out, limit)?;
        rest = &after[length..];
    }
    Ok(out.into())
}

fn snappy_block(block: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), CompressionError> {
    let error = |error: snap::Error| malformed(Codec::Snappy, &error);
    let length = snap::raw::decompress_len(block).map_err(error)?;
    let from = out.len();
    if from + length > limit {
        return Err(CompressionError::TooLarge(limit));
    }
    // snappy's best ratio is below 64 to 3: a size beyond that lies
    if length / 32 > block.len() {
        return Err(malformed(Codec::Snappy, &"the size of a block lies"));
    }
    grow(out, length, limit);
    out.resize(from + length, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[from..])
        .map_err(error)?;
    out.truncate(from + written);
    Ok(())
}

/// Compresses at a codec's default level, in the framing that Kafka's clients read.
///
/// # Errors
/// What the codec answers.
pub fn compress(codec: Codec, input: &[u8]) -> io::Result<Vec<u8>> {
    compress_at(codec, None, input)
}

/// Compresses at a level of gzip (1 to 9) or zstd; lz4 and snappy have one level here.
///
/// # Errors
/// What the codec answers.
pub fn compress_at(codec: Codec, level: Option<i32>, input: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        Codec::None => Ok(input.to_vec()),
        Codec::Gzip => {
            let level = level.and_then(|level| u32::try_from(level).ok());
            let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(input)?;
            encoder.finish()
        }
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(input)?;
            encoder.finish().map_err(io::Error::other)
        }
        Codec::Zstd => zstd::stream::encode_all(input, level.unwrap_or(0)),
        Codec::Snappy => {
            let mut out = XERIAL_MAGIC.to_vec();
            out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
            let mut encoder = snap::raw::Encoder::new();
            for block in input.chunks(XERIAL_BLOCK_BYTES) {
                let compressed = encoder.compress_vec(block)?;
                let length = u32::try_from(compressed.len()).map_err(io::Error::other)?;
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(&compressed);
            }
            Ok(out)
        }
    }
}
