//! Every codec is compared with Kafka's: `java/java_codecs.txt` holds valid and invalid inputs, each with the output
//! of Kafka 4.4's Java classes. `java/JavaCodecs.java` wrote the file.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use highwater_protocol::records::{Codec, Decoder, Encoder, compress, compress_at, decompress};

const CASES: &str = include_str!("java/java_codecs.txt");
const LIMIT: usize = 1 << 20;

/// Inputs that are refused here and accepted by Java. Java ignores a second frame that is cut short, because its
/// stream has just reported the end of the first. Both refuse empty compressed data in a batch, since no batch is
/// without records.
const REFUSED_HERE_ALONE: &[(&str, &str)] = &[("zstd", "second_cut"), ("zstd", "nothing")];

fn codec(name: &str) -> Result<Codec> {
    Ok(match name {
        "gzip" => Codec::Gzip,
        "snappy" => Codec::Snappy,
        "lz4" => Codec::Lz4,
        "zstd" => Codec::Zstd,
        other => bail!("no codec {other}"),
    })
}

fn bytes(hex: &str) -> Result<Bytes> {
    if matches!(hex, "-" | "empty") {
        return Ok(Bytes::new());
    }
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    digits.map(byte).collect()
}

#[test]
fn what_kafka_reads_is_read_and_what_it_refuses_is_refused() -> Result<()> {
    let mut seen = 0;
    for line in CASES.lines() {
        let [codec_name, name, input, expected] = line.split(' ').collect::<Vec<_>>()[..] else {
            bail!("malformed: {line}");
        };
        let codec = codec(codec_name)?;
        let input = bytes(input).context(name)?;
        let ours = decompress(codec, &input, LIMIT).ok();
        let theirs = match expected {
            "error" => None,
            _ if REFUSED_HERE_ALONE.contains(&(codec_name, name)) => None,
            hex => Some(bytes(hex).context(name)?),
        };
        assert_eq!(ours, theirs, "{codec_name} {name}");
        seen += 1;
    }
    assert!(seen > 60, "{seen} cases");
    Ok(())
}

#[test]
fn pieces_of_any_size_are_the_whole() -> Result<()> {
    let plain: Vec<u8> = (0..300_000u32).map(|i| (i / 7).to_le_bytes()[0]).collect();
    for codec in [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ] {
        let whole = compress(codec, &plain)?;
        let mut encoder = Encoder::new(codec, None)?;
        for piece in plain.chunks(7001) {
            encoder.write_all(piece)?;
        }
        for compressed in [whole, encoder.finish()?] {
            let mut decoder = Decoder::new(codec, &compressed, plain.len())?;
            let mut read = Vec::new();
            let mut piece = vec![0; 4999];
            loop {
                let bytes = decoder.read(&mut piece)?;
                read.extend_from_slice(&piece[..bytes]);
                if bytes == 0 {
                    break;
                }
            }
            assert!(read == plain, "{codec:?}");
            assert!(
                Decoder::new(codec, &compressed, plain.len() - 1)?
                    .read(&mut vec![0; 400_000])
                    .is_err()
            );
        }
    }
    Ok(())
}

// A client must not decide by its input how much memory the topic's level takes.
#[test]
fn no_level_of_zstd_takes_a_large_window() -> Result<()> {
    let mut state = 1_u32;
    let mut input = vec![0_u8; 256 << 10];
    for byte in &mut input {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = state.to_be_bytes()[0] & 15;
    }
    let input = Bytes::from(input);
    for (level, most) in [(3, 21), (4, 17), (9, 17), (22, 17)] {
        let out = compress_at(Codec::Zstd, Some(level), &input)?;
        assert_eq!(
            out[4] & 0x20,
            0,
            "the frame's header has its window (RFC 8878)"
        );
        let window_log = 10 + (out[5] >> 3);
        assert!(window_log <= most, "level {level}: {window_log}");
        assert_eq!(
            decompress(Codec::Zstd, &out.into(), LIMIT)?,
            input,
            "level {level}"
        );
    }
    Ok(())
}
