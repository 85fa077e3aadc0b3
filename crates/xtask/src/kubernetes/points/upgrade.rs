//! Another image replaces the first under load, inside and outside.

use anyhow::{Result, ensure};

use super::super::images::OTHER_TAG;
use super::super::release::{INSIDE, OUTSIDE, Release};
use super::super::stream::Stream;
use crate::report::say;
use crate::time::now;

/// The image that a pod asks for.
const ASKED: &str = "{.items[*].spec.containers[0].image}";
/// The digest of the image that a pod runs.
const RUNS: &str = "{.items[*].status.containerStatuses[0].imageID}";

pub(super) fn prove(release: &Release) -> Result<()> {
    let inside = Stream::start(release.stream_in_pod(), INSIDE, "upgrade-inside")?;
    let outside = Stream::start(release.stream_outside(), OUTSIDE, "upgrade-outside")?;
    let former = images(release, RUNS)?;
    let since = now();
    release.upgrade_and_wait(&format!("image.tag={OTHER_TAG}"))?;
    let took = since.elapsed().as_secs_f64();
    say(&format!(
        "three controllers and three brokers have another image after {took:.0} s"
    ));
    let other = format!(":{OTHER_TAG}");
    let asked = images(release, ASKED)?;
    ensure!(
        asked.iter().all(|image| image.ends_with(&other)),
        "a pod asks for the former image: {asked:?}"
    );
    let run = images(release, RUNS)?;
    ensure!(
        run.iter().all(|image| !former.contains(image)),
        "a pod runs the former image: {run:?}, and {former:?} before"
    );
    inside.finish("an upgrade, from a pod")?;
    outside.finish("an upgrade, from outside")?;
    // the points that follow have the first image again
    release.reset()
}

/// The images of the controllers and the brokers.
fn images(release: &Release, path: &str) -> Result<Vec<String>> {
    let select = "--selector=app.kubernetes.io/component in (broker,controller)";
    let told = release.kubectl(&["get", "pods", select, &format!("-o=jsonpath={path}")])?;
    let all: Vec<String> = told.split_whitespace().map(str::to_owned).collect();
    ensure!(all.len() == 6, "there are not six pods: {told}");
    Ok(all)
}
