//! Rebuilds a batch in the codec of the topic's `compression.type`, as Kafka's LogValidator does. Pure.

use bytes::Bytes;
use highwater_protocol::records::{BATCH_HEADER_BYTES, BatchHeader, Codec, Encoder};

use crate::{AppendError, LogConfig};

/// The number of bytes recompressed at a time.
const PIECE_BYTES: usize = 32 << 10;

/// Returns the batch compressed with `codec`; its records, timestamps and sequences stay as they were. It works piece
/// by piece and stops once the result exceeds a limit.
///
/// # Errors
/// When the rebuilt batch exceeds a size limit (KAFKA-BEHAVIOUR 16: the stored size counts).
pub(crate) fn rebuild(
    header: &BatchHeader,
    batch: &Bytes,
    codec: Codec,
    (config, decoded_bytes_max): (&LogConfig, usize),
) -> Result<Bytes, AppendError> {
    const IN_MEMORY: &str = "compressing into memory cannot fail";
    let mut decoder = header
        .decoder(batch, decoded_bytes_max)
        .map_err(|error| AppendError::from_records(&error))?;
    let mut encoder = Encoder::new(codec, config.compression_level).expect(IN_MEMORY);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = decoder.read(&mut piece);
        let bytes = read.map_err(|error| AppendError::Corrupt(error.to_string()))?;
        if bytes == 0 {
            break;
        }
        encoder.write_all(&piece[..bytes]).expect(IN_MEMORY);
        config.check_size(BATCH_HEADER_BYTES.saturating_add(encoder.written()))?;
    }
    let rebuilt = header.rebuilt(&encoder.finish().expect(IN_MEMORY), codec);
    config.check_size(rebuilt.len())?;
    Ok(rebuilt)
}

#[cfg(test)]
mod tests {
    use highwater_protocol::records::{BatchBuilder, ProducerFields, TimestampType};

    use super::*;
    use crate::decoding::DECOMPRESSED_BYTES_MAX;
    use crate::validate::{Origin, validate};

    const CODECS: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    fn batch(codec: Codec, value_bytes: usize) -> Bytes {
        let producer = ProducerFields {
            id: 9,
            epoch: 2,
            base_sequence: 40,
        };
        let mut builder = BatchBuilder::new(producer, codec);
        builder.push(1_000_000, Some(b"a"), Some(&vec![b'x'; value_bytes]));
        builder.push(999_990, None, None);
        builder.build().expect("builds")
    }

    fn stored(records: &Bytes, config: &LogConfig) -> Result<Bytes, AppendError> {
        let config = (config, DECOMPRESSED_BYTES_MAX);
        Ok(validate(records, 9, Origin::Client, config, 1_000_000)?.bytes)
    }

    fn into(codec: Codec) -> LogConfig {
        LogConfig {
            compression: Some(codec),
            ..LogConfig::default()
        }
    }

    #[test]
    fn a_batch_is_kept_in_the_codec_of_its_topic() {
        for from in CODECS {
            let came = batch(from, 3000);
            let header = BatchHeader::read(&came).expect("sound");
            let plain = header.records(&came, 1 << 20).expect("opens");
            for to in CODECS {
                let kept = stored(&came, &into(to)).expect("is taken");
                if from == to {
                    assert_eq!(kept.as_ptr(), came.as_ptr(), "{from:?} is not touched");
                    continue;
                }
                let now = BatchHeader::read(&kept).expect("sound");
                now.check_crc(&kept).expect("has a new checksum");
                let records = now.records(&kept, 1 << 20).expect("opens");
                assert_eq!(now.codec(), Ok(to));
                assert!(records.iter().eq(plain.iter()), "{from:?} to {to:?}");
                let unchanged = BatchHeader {
                    bytes: header.bytes,
                    crc: header.crc,
                    attributes: header.attributes,
                    ..now
                };
                assert_eq!(unchanged, header, "{from:?} to {to:?}");
            }
        }
    }

    // KAFKA-BEHAVIOUR 16
    #[test]
    fn the_size_that_counts_is_the_one_as_stored() {
        let limited = |codec| LogConfig {
            max_message_bytes: 2000,
            ..into(codec)
        };
        let small = batch(Codec::Zstd, 3000);
        assert!(stored(&small, &limited(Codec::Zstd)).is_ok());
        let grown = stored(&small, &limited(Codec::None));
        assert!(matches!(grown, Err(AppendError::TooLarge { .. })));
    }

    #[test]
    fn a_rebuilt_batch_is_stamped_by_the_broker_where_it_is_asked_to() {
        let config = LogConfig {
            timestamp_type: TimestampType::LogAppendTime,
            ..into(Codec::Gzip)
        };
        let kept = stored(&batch(Codec::None, 10), &config).expect("is taken");
        let header = BatchHeader::read(&kept).expect("sound");
        header.check_crc(&kept).expect("sound");
        assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(header.max_timestamp, 1_000_000);
        assert_eq!(header.codec(), Ok(Codec::Gzip));
    }

    #[test]
    fn levels_weigh_time_against_size() {
        let text: Vec<u8> = (0..40_000u32)
            .flat_map(|i| {
                (i.wrapping_mul(2_654_435_761) >> 20)
                    .to_string()
                    .into_bytes()
            })
            .collect();
        let mut builder = BatchBuilder::default();
        builder.push(1_000_000, None, Some(&text));
        let came = builder.build().expect("builds");
        for (codec, low, high) in [(Codec::Gzip, 1, 9), (Codec::Zstd, -50, 19)] {
            let at = |level| {
                let config = LogConfig {
                    compression_level: Some(level),
                    ..into(codec)
                };
                stored(&came, &config).expect("is taken").len()
            };
            assert!(at(high) < at(low), "{codec:?}: {} {}", at(high), at(low));
        }
    }
}
