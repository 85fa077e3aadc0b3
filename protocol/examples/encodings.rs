//! Writes encoded messages and batches into a file, which Kafka's own classes read
//! (`tests/clients/java/RoundTrip.java`). Its lines are `message NAME VERSION HEX` and `batch CODEC HEX`.

#[path = "../tests/rule/mod.rs"]
mod rule;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use highwater_codegen::{Fill, Message as Schema, read_schema, sample};
use highwater_protocol::records::Codec;
use highwater_protocol::{FrameWriter, Message, Reader, Request, for_each_api, messages};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SEED: u64 = 2;
const MIXED_SAMPLES: usize = 10;

struct Lines {
    random: ChaCha8Rng,
    out: BufWriter<File>,
}

impl Lines {
    fn messages<M: Message>(&mut self, schema: &Schema, valid: RangeInclusive<i16>) -> Result<()> {
        for version in valid {
            let mixed = [Fill::Mixed; MIXED_SAMPLES];
            for fill in [Fill::Full].into_iter().chain(mixed) {
                let wanted = sample(schema, version, fill, &mut || self.random.next_u32())?;
                let message = M::read(&mut Reader::new(wanted.into()), version)?;
                let mut ours = FrameWriter::bare();
                message.write(&mut ours, version);
                write!(self.out, "message {} {version} ", schema.name)?;
                self.hex(&ours.into_parts())?;
            }
        }
        Ok(())
    }

    fn hex(&mut self, parts: &[Bytes]) -> Result<()> {
        for byte in parts.iter().flatten() {
            write!(self.out, "{byte:02x}")?;
        }
        Ok(writeln!(self.out)?)
    }
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: encodings FILE")?;
    let schema = read_schema(Path::new("protocol/schema"))?;
    let mut lines = Lines {
        random: ChaCha8Rng::seed_from_u64(SEED),
        out: BufWriter::new(File::create(path)?),
    };
    macro_rules! each {
        ($request:ident, $response:ident) => {
            let valid = <messages::$request as Request>::VALID;
            lines.messages::<messages::$request>(&schema[stringify!($request)], valid.clone())?;
            lines.messages::<messages::$response>(&schema[stringify!($response)], valid)?;
        };
    }
    for_each_api!(each);
    for codec in [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ] {
        for count in [1, 12, 200] {
            write!(lines.out, "batch {codec:?}-{count} ")?;
            lines.hex(&[rule::build(codec, count)?])?;
        }
    }
    Ok(lines.out.flush()?)
}
