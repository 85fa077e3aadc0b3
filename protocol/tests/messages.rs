//! Every generated message, in every version: compared with bytes that are made from the schema, with itself after a
//! round trip, and with the messages of the crate `kafka-protocol`, which are generated from Kafka's definitions.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use highwater_codegen::{Fill, Message as Schema, read_schema, sample, served};
use highwater_protocol::{FrameWriter, Message, Reader, Request, for_each_api, messages};
use kafka_protocol::protocol::{Decodable, Encodable, Message as Theirs};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SEED: u64 = 1;
const MIXED_SAMPLES: usize = 40;

struct Samples {
    schema: BTreeMap<String, Schema>,
    random: ChaCha8Rng,
}

impl Samples {
    fn new() -> Self {
        Self {
            schema: read_schema(Path::new("schema")).expect("the schema is sound"),
            random: ChaCha8Rng::seed_from_u64(SEED),
        }
    }

    /// Two samples with every field set, then mixed ones.
    fn of(&mut self, name: &str, version: i16) -> Vec<Bytes> {
        let mut one = |fill| {
            let random = &mut || self.random.next_u32();
            let bytes = sample(&self.schema[name], version, fill, random);
            Bytes::from(bytes.expect("the schema is sound"))
        };
        let full = [one(Fill::Full), one(Fill::Full)];
        full.into_iter()
            .chain((0..MIXED_SAMPLES).map(|_| one(Fill::Mixed)))
            .collect()
    }
}

fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut out = FrameWriter::bare();
    message.write(&mut out, version);
    let written = out.written();
    let mut whole = BytesMut::new();
    for part in out.into_parts() {
        whole.extend_from_slice(&part);
    }
    assert_eq!(written, whole.len(), "the writer counts its bytes");
    whole.freeze()
}

fn decode<M: Message>(name: &str, version: i16, bytes: &Bytes) -> Result<M> {
    let mut reader = Reader::new(bytes.clone());
    let message = M::read(&mut reader, version);
    let message = message.with_context(|| format!("{name} {version}: {bytes:?}"))?;
    let finished = reader.finish();
    finished.with_context(|| format!("{name} {version}: {message:?}"))?;
    Ok(message)
}

#[test]
fn what_the_schema_says_is_read_and_written_back_byte_by_byte() -> Result<()> {
    fn check<M: Message>(
        samples: &mut Samples,
        name: &str,
        versions: RangeInclusive<i16>,
    ) -> Result<()> {
        for version in versions {
            for bytes in samples.of(name, version) {
                let message: M = decode(name, version, &bytes)?;
                assert_eq!(
                    encode(&message, version),
                    bytes,
                    "{name} {version}: {message:?}"
                );
            }
        }
        Ok(())
    }
    let mut samples = Samples::new();
    let mut apis = 0;
    macro_rules! each {
        ($request:ident, $response:ident) => {
            let versions = <messages::$request as Request>::VALID;
            check::<messages::$request>(&mut samples, stringify!($request), versions.clone())?;
            check::<messages::$response>(&mut samples, stringify!($response), versions)?;
            apis += 1;
        };
    }
    for_each_api!(each);
    let named = served(Path::new("schema")).expect("readable").len();
    assert_eq!(apis, named);
    Ok(())
}

#[test]
fn what_a_version_lacks_is_left_out_and_read_as_its_default() -> Result<()> {
    fn check<M: Message>(
        samples: &mut Samples,
        name: &str,
        versions: &RangeInclusive<i16>,
    ) -> Result<()> {
        let all: Vec<M> = versions
            .clone()
            .map(|version| decode(name, version, &samples.of(name, version)[0]))
            .chain([Ok(M::default())])
            .collect::<Result<_>>()?;
        for version in versions.clone() {
            for message in &all {
                let bytes = encode(message, version);
                let kept: M = decode(name, version, &bytes)?;
                assert_eq!(
                    encode(&kept, version),
                    bytes,
                    "{name} {version}: {message:?}"
                );
            }
            let default = encode(&M::default(), version);
            assert_eq!(
                decode::<M>(name, version, &default)?,
                M::default(),
                "{name} {version}"
            );
        }
        Ok(())
    }
    let mut samples = Samples::new();
    macro_rules! each {
        ($request:ident, $response:ident) => {
            let versions = <messages::$request as Request>::VALID;
            check::<messages::$request>(&mut samples, stringify!($request), &versions)?;
            check::<messages::$response>(&mut samples, stringify!($response), &versions)?;
        };
    }
    for_each_api!(each);
    Ok(())
}

#[test]
fn every_truncation_is_an_error() {
    fn check<M: Message>(samples: &mut Samples, name: &str, versions: RangeInclusive<i16>) {
        for version in versions {
            let bytes = &samples.of(name, version)[0];
            for length in 0..bytes.len() {
                let mut reader = Reader::new(bytes.slice(..length));
                let cut = M::read(&mut reader, version);
                assert!(cut.is_err(), "{name} {version} cut to {length}: {cut:?}");
            }
        }
    }
    let mut samples = Samples::new();
    macro_rules! each {
        ($request:ident, $response:ident) => {
            let versions = <messages::$request as Request>::VALID;
            check::<messages::$request>(&mut samples, stringify!($request), versions.clone());
            check::<messages::$response>(&mut samples, stringify!($response), versions);
        };
    }
    for_each_api!(each);
}

/// The number of pairs of message and version that `kafka-protocol` 0.18 and the schema both have.
const PAIRS_MIN: usize = 377;

#[test]
fn the_crate_kafka_protocol_reads_ours_and_writes_the_same() -> Result<()> {
    fn check<T: Theirs + Decodable + Encodable>(
        samples: &mut Samples,
        name: &str,
        versions: &RangeInclusive<i16>,
    ) -> Result<usize> {
        let first = *versions.start().max(&T::VERSIONS.min);
        let last = *versions.end().min(&T::VERSIONS.max);
        let mut compared = 0;
        for version in first..=last {
            for bytes in samples.of(name, version) {
                let mut left = bytes.clone();
                let theirs = T::decode(&mut left, version)
                    .with_context(|| format!("{name} {version}: {bytes:?}"))?;
                assert!(left.is_empty(), "{name} {version}: {left:?} left");
                let mut again = BytesMut::new();
                theirs
                    .encode(&mut again, version)
                    .with_context(|| format!("{name} {version}: {bytes:?}"))?;
                assert_eq!(again, bytes, "{name} {version}");
            }
            compared += 1;
        }
        Ok(compared)
    }
    let mut samples = Samples::new();
    let mut pairs = 0;
    macro_rules! each {
        ($request:ident, $response:ident) => {
            let versions = <messages::$request as Request>::VALID;
            let (asks, answers) = (stringify!($request), stringify!($response));
            pairs += check::<kafka_protocol::messages::$request>(&mut samples, asks, &versions)?;
            pairs +=
                check::<kafka_protocol::messages::$response>(&mut samples, answers, &versions)?;
        };
    }
    for_each_api!(each);
    assert!(pairs >= PAIRS_MIN, "compared only {pairs}");
    Ok(())
}
