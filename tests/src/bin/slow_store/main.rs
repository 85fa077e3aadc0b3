//! A proxy that delays the puts to an S3-compatible server as S3 itself does, for measurements: half of them take 25 ms
//! at most, and 99 of 100 take 100 ms at most, in addition to the server's own time. It prints its endpoint and serves
//! until it is killed.
//!
//! `slow_store http://HOST:PORT [SEED]`

use std::io::Write;

use anyhow::{Context, Result};
use highwater_runtime::SeededRng;
use highwater_tests::{Fault, FaultProxy, put_latency};

const DRAWS: u32 = 1 << 20;

fn draw(rng: &SeededRng) -> Result<f64> {
    let number = u32::try_from(rng.below(u64::from(DRAWS)))?;
    Ok(f64::from(number) / f64::from(DRAWS))
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next();
    let server = server.context("usage: slow_store http://HOST:PORT [SEED]")?;
    let seed = arguments.next().map_or(Ok(1), |seed| seed.parse())?;
    let rng = SeededRng::from_seed(seed);
    let proxy = FaultProxy::start(&server).await?;
    proxy.set_rule(move |request| match (request.method, draw(&rng)) {
        ("PUT", Ok(draw)) => Fault::Delay(put_latency(draw)),
        _ => Fault::None,
    });
    writeln!(std::io::stdout(), "{}", proxy.endpoint)?;
    std::future::pending().await
}
