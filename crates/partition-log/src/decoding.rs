//! What decompressing a batch costs, and how far a batch is decompressed (I11). Pure.

use bytes::Bytes;
use highwater_protocol::records::{BatchHeader, Codec};

use crate::LogConfig;

/// The largest size of a batch after decompression.
pub(crate) const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;
/// The memory that recompressing takes in addition to the decoder's.
const RECOMPRESSING_BYTES: u64 = 4 << 20;

/// The resources that checking a batch takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CheckCost {
    /// The memory held meanwhile; `None` where nothing is decompressed or recompressed.
    pub(crate) held: Option<u64>,
    /// The number of bytes after which decompression stops with an error.
    pub(crate) decoded_bytes_max: usize,
}

impl CheckCost {
    const NOTHING: Self = Self {
        held: None,
        decoded_bytes_max: DECOMPRESSED_BYTES_MAX,
    };
}

/// The resources that checking a batch takes, given how much memory there is for such work.
pub(crate) fn check_cost(records: &Bytes, config: &LogConfig, memory: u64) -> CheckCost {
    let codec = BatchHeader::read(records).map(|header| header.codec());
    let recompresses = |codec: &Codec| config.compression.is_some_and(|target| target != *codec);
    let Ok(Ok(codec)) = codec else {
        return CheckCost::NOTHING;
    };
    if codec == Codec::None && !recompresses(&codec) {
        return CheckCost::NOTHING;
    }
    let decoding = decoding_bytes(records);
    let more = if recompresses(&codec) {
        RECOMPRESSING_BYTES
    } else {
        0
    };
    CheckCost {
        held: Some(decoding.saturating_add(more)),
        decoded_bytes_max: decoded_bytes_max(decoding, memory),
    }
}

/// The memory that decompressing a batch holds at most; 0 for a batch that is not compressed.
pub(crate) fn decoding_bytes(batch: &Bytes) -> u64 {
    let decoder = BatchHeader::read(batch)
        .ok()
        .and_then(|header| header.decoder(batch, DECOMPRESSED_BYTES_MAX).ok());
    let held = decoder.map_or(0, |mut decoder| decoder.held_bytes_max());
    u64::try_from(held).unwrap_or(u64::MAX)
}

/// The number of bytes up to which a batch is decompressed, for a decoder that holds `held` bytes at most. A decoder
/// whose window is larger than `memory` fills that window with its output, so its output is limited to `memory`
/// (I11).
pub(crate) fn decoded_bytes_max(held: u64, memory: u64) -> usize {
    let memory = usize::try_from(memory).unwrap_or(usize::MAX);
    match usize::try_from(held).is_ok_and(|held| held <= memory) {
        true => DECOMPRESSED_BYTES_MAX,
        false => DECOMPRESSED_BYTES_MAX.min(memory),
    }
}

#[cfg(test)]
mod tests {
    use highwater_protocol::records::{BATCH_HEADER_BYTES, BatchBuilder, ProducerFields};

    use super::*;
    use crate::fixture::{batch, check};
    use crate::validate::{Origin, validate};

    // I11: 8 MiB of zeros compress to a few bytes.
    #[test]
    fn checking_what_is_compressed_holds_a_window_and_not_the_whole() {
        let config = LogConfig::default();
        let work_bytes =
            |records: &Bytes, config: &LogConfig| check_cost(records, config, u64::MAX).held;
        assert_eq!(work_bytes(&batch(Codec::None, 1), &config), None);
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut builder = BatchBuilder::new(ProducerFields::default(), codec);
            builder.push(1, None, Some(&vec![0; 8 << 20]));
            let bomb = builder.build().expect("builds");
            let held = work_bytes(&bomb, &config).expect("it is decompressed");
            assert!((1..=8 << 20).contains(&held), "{codec:?} holds {held}");
            assert!(
                held < 5 << 20 || codec == Codec::Zstd,
                "{codec:?} holds {held}"
            );
            assert!(check(&bomb, &config).is_ok());
        }
    }

    /// Zeros compressed with a window of 128 MiB, which is what a Java producer at level 22 declares for any input.
    fn under_a_wide_window(zeros: usize) -> Bytes {
        const RAW: u32 = 0;
        const REPEATED: u32 = 1;
        let mut builder = BatchBuilder::new(ProducerFields::default(), Codec::None);
        builder.push(1, None, Some(&vec![0; zeros]));
        let plain = builder.build().expect("builds");
        let header = BatchHeader::read(&plain).expect("is a batch");
        let (head, mut rest) = plain[BATCH_HEADER_BYTES..].split_at(32);
        assert!(rest.iter().all(|byte| *byte == 0));
        let block = |kind: u32, bytes: usize, last: bool| {
            let bytes = u32::try_from(bytes).expect("a block is small");
            (u32::from(last) | kind << 1 | bytes << 3).to_le_bytes()
        };
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3];
        frame.extend_from_slice(&block(RAW, head.len(), false)[..3]);
        frame.extend_from_slice(head);
        while !rest.is_empty() {
            let bytes = rest.len().min(128 << 10);
            rest = &rest[bytes..];
            frame.extend_from_slice(&block(REPEATED, bytes, rest.is_empty())[..3]);
            frame.push(0);
        }
        header.rebuilt(&frame, Codec::Zstd)
    }

    // I11: a decoder's window holds no more than the decoder has put out.
    #[test]
    fn a_window_that_there_is_no_memory_for_gives_no_more_than_there_is() {
        let config = LogConfig::default();
        let memory = 2 << 20;
        for (zeros, memory, is_taken) in [
            (1 << 20, memory, true),
            (3 << 20, memory, false),
            (3 << 20, 128 << 20, true),
        ] {
            let batch = under_a_wide_window(zeros);
            let cost = check_cost(&batch, &config, memory);
            assert_eq!(cost.held, Some(128 << 20));
            let config = (&config, cost.decoded_bytes_max);
            let checked = validate(&batch, 9, Origin::Client, config, 1_000_000);
            assert_eq!(checked.is_ok(), is_taken, "{zeros}: {checked:?}");
        }
    }
}
