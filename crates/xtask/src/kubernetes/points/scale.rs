//! The number of brokers is raised to five and lowered to two: partitions follow, nothing is lost, and no broker that
//! is gone stays registered.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::super::control_plane::until;
use super::super::release::{OUTSIDE, Release, within};
use super::super::stream::Stream;
use super::CLUSTER;
use crate::time::now;

/// The time in which partitions follow.
const FOLLOW_MAX: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(120);

pub(super) fn prove(release: &Release) -> Result<()> {
    let stream = Stream::start(release.stream_outside(), OUTSIDE, "stream-scale")?;
    release.upgrade("broker.replicas=5")?;
    let ready = now();
    followed(release, 5, "five brokers lead, once they are ready", ready)?;
    let lowered = now();
    release.upgrade("broker.replicas=2")?;
    followed(
        release,
        2,
        "two brokers lead all, and clients know no other",
        lowered,
    )?;
    unregistered(release, lowered)?;
    stream.finish("from three brokers to five and two")?;
    release.upgrade("broker.replicas=3")?;
    followed(release, 3, "three brokers lead, once they are ready", now())?;
    let restarts = release.restarts("hw-highwater-broker-2")?;
    ensure!(
        restarts == 0,
        "a broker that was unregistered comes back only after {restarts} restarts"
    );
    Ok(())
}

/// Waits until clients know so many brokers, each of which leads something.
fn followed(release: &Release, brokers: i64, what: &str, since: Instant) -> Result<()> {
    let all = (0..brokers).collect();
    until(what, WAIT_MAX, || {
        let told = release.metadata(OUTSIDE)?;
        Ok(told.brokers == all && told.leaders == all)
    })?;
    within(what, since.elapsed(), FOLLOW_MAX)
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
    within("two brokers are registered", since.elapsed(), FOLLOW_MAX)
}
