//! The suites about Kubernetes: the image, the chart, and the chart on a real control plane.

mod chart;
mod control_groups;
mod control_plane;
mod images;
mod needs;
mod points;
mod release;
mod schemas;
mod state;
mod stream;

use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};

use self::control_plane::Cluster;
pub(crate) use self::points::Point;
use self::release::Release;
use crate::dist;
use crate::image;
use crate::report::{Outcome, Report, say};
use crate::time::now;

/// The name of the suite with a real control plane.
pub(crate) const SUITE: &str = "kubernetes";

/// The programs of a cluster while they are being built beside other suites.
pub(crate) type Building = JoinHandle<Result<()>>;

/// Every suite but the last.
pub(crate) fn run_all(report: &mut Report) {
    report.suite("image", image::check);
    report.suite("chart", chart::check);
    report.suite("chart-processes", chart::processes);
}

/// Begins to build a cluster's programs, which takes a quarter of an hour once.
pub(crate) fn begin_to_build() -> Option<Building> {
    if needs::missing().is_some() {
        return None;
    }
    #[expect(clippy::disallowed_methods, reason = "a tool that waits for processes")]
    Some(std::thread::spawn(|| {
        control_plane::build().map(|_dirs| ())
    }))
}

/// The suite with a real control plane.
pub(crate) fn prove(report: &mut Report, building: Option<Building>) {
    report.suite(SUITE, || {
        if let Some(missing) = needs::missing() {
            return Ok(Outcome::Skipped(missing));
        }
        if let Some(building) = building {
            let built = building.join();
            built.map_err(|_panic| anyhow!("the thread that builds panicked"))??;
        }
        play(&Point::ALL, false)?;
        Ok(Outcome::Passed)
    });
}

/// `cargo xtask kubernetes`: the points that are asked for, or all of them.
pub(crate) fn run(only: &[Point], is_kept: bool) -> Result<()> {
    if let Some(missing) = needs::missing() {
        anyhow::bail!("{missing}");
    }
    match only {
        [] => play(&Point::ALL, is_kept),
        only => play(only, is_kept),
    }
}

/// Ends a cluster that was left up.
pub(crate) fn end() -> Result<()> {
    control_plane::end_kept()
}

/// Starts a cluster, installs the release, and proves the points. What the cluster wrote is left if that fails.
fn play(points: &[Point], is_kept: bool) -> Result<()> {
    dist::split()?;
    let release = Release::of(Cluster::start(is_kept)?)?;
    let proved = prove_all(&release, points);
    // a program that has ended explains all that failed after it
    let proved = release.cluster.check().and(proved);
    if proved.is_err() {
        say(&state::tell(&release.cluster));
        let dir = control_plane::DIR;
        say(&format!("the logs of Kubernetes itself are in {dir}/log"));
    }
    drop(release);
    if proved.is_ok() && !is_kept {
        control_plane::remove_files()?;
    }
    proved
}

fn prove_all(release: &Release, points: &[Point]) -> Result<()> {
    release.prepare()?;
    release.install()?;
    for point in points {
        say(&format!("-- {point:?}"));
        let since = now();
        point.prove(release).with_context(|| format!("{point:?}"))?;
        release.cluster.check()?;
        say(&format!("   {:.0} s", since.elapsed().as_secs_f64()));
    }
    Ok(())
}
