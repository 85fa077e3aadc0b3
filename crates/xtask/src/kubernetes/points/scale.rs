//! The number of brokers is raised to five and lowered to two: partitions follow, nothing is lost, and no broker that
//! is gone stays registered.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::super::control_plane::until;
use super::super::release::{CLUSTER, OUTSIDE, Release, within};
use super::super::stream::Stream;
use crate::rust::output_of;
use crate::time::now;

/// The time in which partitions follow, from the command on.
const FOLLOW_MAX: Duration = Duration::from_secs(30);
/// The time in which brokers that are gone are forgotten, from the command on.
const FORGET_MAX: Duration = Duration::from_secs(60);
const WAIT_MAX: Duration = Duration::from_secs(120);

pub(super) fn prove(release: &Release) -> Result<()> {
    let stream = Stream::start(release.stream_outside(), OUTSIDE, "stream-scale")?;
    scaled(release, 5)?;
    let lowered = scaled(release, 2)?;
    unregistered(release, lowered)?;
    stream.finish("from three brokers to five and two")?;
    scaled(release, 3)?;
    let restarts = release.restarts("hw-highwater-broker-2")?;
    ensure!(
        restarts == 0,
        "a broker that was unregistered comes back only after {restarts} restarts"
    );
    Ok(())
}

/// Changes the number of brokers, and waits until clients know these and no other, each of them leads something, and all
/// are ready. Returns when that began.
fn scaled(release: &Release, brokers: u8) -> Result<Instant> {
    let since = now();
    output_of(&mut release.upgrade(&format!("broker.replicas={brokers}"))?)?;
    let all = (0..i64::from(brokers)).collect();
    let what = format!("clients know {brokers} brokers, and each of them leads");
    until(&what, WAIT_MAX, || {
        let told = release.metadata(OUTSIDE)?;
        Ok(told.brokers == all && told.leaders == all)
    })?;
    within(&what, since.elapsed(), FOLLOW_MAX)?;
    release.await_ready(brokers.into(), WAIT_MAX)?;
    Ok(since)
}

/// Waits until the controllers have forgotten the brokers that are gone.
fn unregistered(release: &Release, since: Instant) -> Result<()> {
    let mut told = String::new();
    let forgotten = until("no broker that is gone is registered", WAIT_MAX, || {
        told = release.tool(
            true,
            CLUSTER,
            &["list-endpoints", "--include-fenced-brokers"],
        )?;
        let ids = told
            .lines()
            .filter_map(|line| line.split_whitespace().next()?.parse::<u32>().ok());
        Ok(ids.eq([0, 1]))
    });
    ensure!(forgotten.is_ok(), "brokers stay registered: {told}");
    within("two brokers are registered", since.elapsed(), FORGET_MAX)
}
