//! The codecs. The first byte of an input selects the codec, the second one the limit.

use anyhow::Result;
use bytes::Bytes;
use highwater_protocol::records::{BATCH_HEADER_BYTES, BatchHeader, Codec, compress, decompress};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::allocator::{Bound, within};
use crate::campaign::Target;
use crate::captured;

pub(crate) const TARGET: Target = Target {
    name: "decompression",
    seeds,
    check,
};

const LIMITS: [usize; 4] = [1 << 20, 64 << 10, 1000, 0];
const CODECS: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn seeds(random: &mut ChaCha8Rng) -> Result<Vec<Vec<u8>>> {
    let mut seeds = Vec::new();
    for (number, codec) in (0u8..).zip(CODECS) {
        for length in [0, 1, 100, 5000, 70_000, 200_000] {
            for noise in [1, 2, 256] {
                let byte = |_| (random.next_u32() % noise).to_be_bytes()[3];
                let plain: Vec<u8> = (0..length).map(byte).collect();
                let mut seed = vec![number, 0];
                seed.extend(compress(codec, &plain)?);
                seeds.push(seed);
            }
        }
        if codec == Codec::Snappy {
            // without the framing of Java's stream, as librdkafka encodes it
            seeds.push([&[number, 0][..], &[5, 16, b'p', b'l', b'a', b'i', b'n']].concat());
        }
    }
    for batch in captured::batches()? {
        let codec = BatchHeader::read(&batch)?.codec()?;
        let body = batch.slice(BATCH_HEADER_BYTES..);
        // Kafka refuses the frames of lz4js, because they claim to have linked blocks
        let sound = decompress(codec, &body, LIMITS[0]).is_ok();
        let number = CODECS.iter().position(|known| *known == codec);
        if let Some(number) = number.filter(|_| sound) {
            let mut seed = vec![u8::try_from(number)?, 0];
            seed.extend_from_slice(&body);
            seeds.push(seed);
        }
    }
    Ok(seeds)
}

/// The output, which never exceeds its limit, twice while it grows. In addition, the memory of a decoder: for gzip
/// its window and the largest header (an extra field, a name and a comment of 64 KiB each, while they grow), for lz4
/// the largest blocks that a frame may declare. The window of zstd is allocated by the C library and isn't counted.
pub(super) fn bound(codec: Codec, limit: usize) -> Bound {
    let (one, all) = match codec {
        Codec::None => (0, 0),
        Codec::Gzip => (128 << 10, 512 << 10),
        Codec::Snappy | Codec::Zstd => (16 << 10, 32 << 10),
        Codec::Lz4 => ((8 << 20) + (64 << 10), (16 << 20) + (128 << 10)),
    };
    Bound {
        single: one.max(limit + 1),
        // snappy's block, twice if there is one
        live: all + 3 * limit + 1024,
    }
}

fn check(input: &Bytes) -> Result<bool, String> {
    let Some(([codec, limit], _)) = input.split_first_chunk() else {
        return Ok(false);
    };
    let codec = CODECS[usize::from(*codec) % CODECS.len()];
    let limit = LIMITS[usize::from(*limit) % LIMITS.len()];
    let compressed = input.slice(2..);
    match within(bound(codec, limit), || {
        decompress(codec, &compressed, limit)
    })? {
        Ok(plain) if plain.len() > limit => Err(format!("{} bytes, over {limit}", plain.len())),
        plain => Ok(plain.is_ok()),
    }
}
