//! Every request with its header, as a connection decodes it.

use std::path::Path;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use highwater_codegen::{Fill, Message as Schema, read_schema, sample};
use highwater_protocol::{
    FrameWriter, Message, Reader, Request, RequestHeader, for_each_api, messages,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::allocator::{Bound, within};
use crate::campaign::Target;
use crate::captured;

pub(crate) const TARGET: Target = Target {
    name: "requests",
    seeds,
    check,
};

const SAMPLES: usize = 4;

fn seeds(random: &mut ChaCha8Rng) -> Result<Vec<Vec<u8>>> {
    frames(random, Fill::Mixed)
}

/// Samples of every request in every version, and the requests of real clients.
pub(super) fn frames(random: &mut ChaCha8Rng, fill: Fill) -> Result<Vec<Vec<u8>>> {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../schema");
    let schema = read_schema(Path::new(schema))?;
    let mut frames = Vec::new();
    macro_rules! each {
        ($request:ident, $response:ident) => {
            let of = &schema[stringify!($request)];
            frames_of::<messages::$request>(of, fill, random, &mut frames)?;
        };
    }
    for_each_api!(each);
    frames.extend(captured::requests()?.iter().map(|bytes| bytes.to_vec()));
    Ok(frames)
}

fn frames_of<R: Request>(
    schema: &Schema,
    fill: Fill,
    random: &mut ChaCha8Rng,
    frames: &mut Vec<Vec<u8>>,
) -> Result<()> {
    for version in R::VALID {
        for i in 0..SAMPLES {
            let fill = if i == 0 { Fill::Full } else { fill };
            let flexible = version >= R::FLEXIBLE_FROM;
            let out = FrameWriter::request(R::KEY, version, flexible, 1, "fuzz");
            // a connection reads the length before a frame by itself
            let mut frame = out.finish()?.concat().split_off(4);
            frame.extend(sample(schema, version, fill, &mut || random.next_u32())?);
            frames.push(frame);
        }
    }
    Ok(())
}

/// The memory that decoding may take. The worst byte of a frame is an empty text in a list: 32 bytes, doubled while
/// the list grows, and half as much again while it is copied. No structure is worse, because each of its texts and
/// lists takes a byte. The rest may be reserved for lists with wrong counts, nested four deep.
fn bound(frame_bytes: usize) -> Bound {
    Bound {
        single: 64 * frame_bytes + (32 << 10),
        live: 96 * frame_bytes + (64 << 10),
    }
}

fn check(frame: &Bytes) -> Result<bool, String> {
    let bound = bound(frame.len());
    let mut body = frame.clone();
    let Ok(header) = within(bound, || RequestHeader::parse(&mut body))? else {
        return Ok(false);
    };
    macro_rules! each {
        ($request:ident, $response:ident) => {
            if header.api_key == <messages::$request as Request>::KEY as i16 {
                return decode::<messages::$request>(&body, header.api_version, bound);
            }
        };
    }
    for_each_api!(each);
    Ok(false)
}

fn decode<R: Request>(body: &Bytes, version: i16, bound: Bound) -> Result<bool, String> {
    let Ok(request) = within(bound, || R::decode(body.clone(), version))? else {
        return Ok(false);
    };
    // a float may be not-a-number, which differs from itself; so bytes are compared
    let ours = encode(&request, version);
    let mut reader = Reader::new(ours.clone());
    let again = R::read(&mut reader, version)
        .and_then(|again| reader.finish().map(|()| again))
        .map_err(|error| format!("{error} after writing {request:?}"))?;
    if encode(&again, version) != ours {
        return Err(format!("{request:?} became {again:?}"));
    }
    Ok(true)
}

fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut out = FrameWriter::bare();
    message.write(&mut out, version);
    let mut whole = BytesMut::new();
    for part in out.into_parts() {
        whole.extend_from_slice(&part);
    }
    whole.freeze()
}
