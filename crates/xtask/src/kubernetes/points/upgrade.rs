//! Another image replaces the first under load, inside and outside.

use anyhow::{Result, ensure};

use super::super::images::OTHER_TAG;
use super::super::release::{INSIDE, OUTSIDE, Release};
use super::super::stream::Stream;
use crate::report::say;
use crate::time::now;

pub(super) fn prove(release: &Release) -> Result<()> {
    let inside = Stream::start(release.stream_in_pod(), INSIDE, "upgrade-inside")?;
    let outside = Stream::start(release.stream_outside(), OUTSIDE, "upgrade-outside")?;
    let since = now();
    release.upgrade(&format!("image.tag={OTHER_TAG}"))?;
    let took = since.elapsed().as_secs_f64();
    say(&format!(
        "three controllers and three brokers have another image after {took:.0} s"
    ));
    let path = "-o=jsonpath={.items[*].spec.containers[0].image}";
    let images = release.kubectl(&[
        "get",
        "pods",
        "--selector=app.kubernetes.io/component in (broker,controller)",
        path,
    ])?;
    let other = format!(":{OTHER_TAG}");
    ensure!(
        images.split(' ').count() == 6 && images.split(' ').all(|image| image.ends_with(&other)),
        "a pod has the former image: {images}"
    );
    inside.finish("an upgrade, from a pod")?;
    outside.finish("an upgrade, from outside")?;
    // the points that follow have the first image again
    release.reset()
}
