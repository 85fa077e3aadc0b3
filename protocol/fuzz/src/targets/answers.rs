//! Every request is served by a whole node, so that answers are encoded as well.

use std::net::SocketAddr;
use std::sync::OnceLock;

use anyhow::Result;
use bytes::Bytes;
use highwater_codegen::{Fill, NAME};
use highwater_tests::{Outcome, TestNode, ask_oddly, wants_answer};
use rand_chacha::ChaCha8Rng;
use tokio::runtime::Runtime;

use super::requests;
use crate::campaign::Target;

pub(crate) const TARGET: Target = Target {
    name: "answers",
    seeds,
    check,
};

fn seeds(random: &mut ChaCha8Rng) -> Result<Vec<Vec<u8>>> {
    let mut frames = requests::frames(random, Fill::Odd)?;
    frames.retain(|frame| wants_answer(&Bytes::copy_from_slice(frame)).is_some());
    Ok(frames)
}

/// One node for all inputs, so that an input meets what earlier ones left behind.
struct Served {
    runtime: Runtime,
    _node: TestNode,
    address: SocketAddr,
}

fn served() -> Result<&'static Served> {
    static SERVED: OnceLock<Served> = OnceLock::new();
    if let Some(served) = SERVED.get() {
        return Ok(served);
    }
    let runtime = Runtime::new()?;
    let node = runtime.block_on(async {
        let node = TestNode::start(&[("offsets.topic.num.partitions", "1")]).await?;
        node.create_topic(NAME, 1, &[]).await?;
        anyhow::Ok(node)
    })?;
    let address = node.address;
    Ok(SERVED.get_or_init(|| Served {
        runtime,
        _node: node,
        address,
    }))
}

fn check(frame: &Bytes) -> Result<bool, String> {
    let told = |error: anyhow::Error| format!("{error:#}");
    let served = served().map_err(told)?;
    let asked = served.runtime.block_on(ask_oddly(served.address, frame));
    Ok(asked.map_err(told)? != Outcome::Closed)
}
