//! Requests that real clients sent; see `corpus/README.md`.

use anyhow::{Context, Result};
use bytes::{Buf, Bytes};
use highwater_protocol::messages::ProduceRequest;
use highwater_protocol::{Request, RequestHeader};

static FRAMES: &[u8] = include_bytes!("../corpus/requests.frames");

/// The requests, with their headers.
pub(crate) fn requests() -> Result<Vec<Bytes>> {
    let mut left = Bytes::from_static(FRAMES);
    let mut frames = Vec::new();
    while left.has_remaining() {
        let length = left.try_get_u32().context("a length")?;
        let length = usize::try_from(length)?;
        anyhow::ensure!(length <= left.len(), "the last request is incomplete");
        frames.push(left.split_to(length));
    }
    Ok(frames)
}

/// The record batches in the Produce requests.
pub(crate) fn batches() -> Result<Vec<Bytes>> {
    let mut batches = Vec::new();
    for mut body in requests()? {
        let header = RequestHeader::parse(&mut body)?;
        if header.api_key != ProduceRequest::KEY as i16 {
            continue;
        }
        let request = ProduceRequest::decode(body, header.api_version)?;
        let partitions = request
            .topic_data
            .into_iter()
            .flat_map(|topic| topic.partition_data);
        batches.extend(partitions.filter_map(|partition| partition.records?.into_bytes().into()));
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use highwater_protocol::records::{BatchHeader, Codec};

    use super::*;

    #[test]
    fn many_apis_and_every_codec_were_captured() {
        let requests = requests().expect("whole");
        let keys: BTreeSet<i16> = requests
            .iter()
            .map(|frame| frame.clone().get_i16())
            .collect();
        assert!(keys.len() >= 15, "{keys:?}");
        let codecs: BTreeSet<u8> = batches()
            .expect("decode")
            .iter()
            .map(|batch| {
                BatchHeader::read(batch)
                    .expect("sound")
                    .codec()
                    .expect("known") as u8
            })
            .collect();
        let all = [
            Codec::None,
            Codec::Gzip,
            Codec::Snappy,
            Codec::Lz4,
            Codec::Zstd,
        ];
        assert_eq!(codecs, all.iter().map(|codec| *codec as u8).collect());
    }
}
