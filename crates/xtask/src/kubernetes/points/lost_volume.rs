//! A controller's volume is lost: it follows without a vote until an operator gives it one, by the steps of the runbook
//! `docs/runbooks/HighwaterNoActiveController.md`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::control_plane::until;
use super::super::release::{OUTSIDE, Release};
use super::super::stream::Stream;
use crate::report::say;

const WAIT_MAX: Duration = Duration::from_secs(180);
/// The ordinal of the controller, and its id.
const ORDINAL: u32 = 1;
const ID: u32 = 1000 + ORDINAL;
const QUORUM: &str = "org.apache.kafka.tools.MetadataQuorumCommand";
/// The lists in which the tool names the controllers with a vote, and those without.
const VOTERS: &str = "CurrentVoters:";
const OBSERVERS: &str = "CurrentObservers:";

pub(super) fn prove(release: &Release) -> Result<()> {
    let stream = Stream::start(release.stream_outside(), OUTSIDE, "stream-volume")?;
    let former = directory_in(VOTERS, &status(release)?)?.context("it has no vote")?;
    lose(release)?;
    let mut fresh = String::new();
    until("the controller follows without a vote", WAIT_MAX, || {
        let found = directory_in(OBSERVERS, &status(release)?)?;
        fresh = found.unwrap_or_default();
        Ok(!fresh.is_empty())
    })?;
    ensure!(fresh != former, "the volume is the former one");
    let ready = "-o=jsonpath={.status.readyReplicas}";
    until("the controller runs and is not ready", WAIT_MAX, || {
        let ready = release.kubectl(&["get", "statefulset", "hw-highwater-controller", ready])?;
        Ok(ready == "2")
    })?;
    release.is_not_evicted("hw-highwater-controller-0")?;
    for command in ["remove-controller", "add-controller"] {
        highwater(release, command)?;
    }
    let told = status(release)?;
    ensure!(
        directory_in(VOTERS, &told)? == Some(fresh),
        "the controller has no vote: {told}"
    );
    release.await_ready(3, WAIT_MAX)?;
    stream.finish("a controller that lost its volume")?;
    say("ok a controller that lost its volume has a vote again");
    Ok(())
}

/// Deletes the claim and the pod, for which Kubernetes makes others. Without a vote, the new one is not ready.
fn lose(release: &Release) -> Result<()> {
    let pod = format!("hw-highwater-controller-{ORDINAL}");
    let claim = format!("data-{pod}");
    release.replaced(&pod, WAIT_MAX, || {
        release.kubectl(&["delete", "pvc", &claim, "--wait=false"])?;
        release.kubectl(&["delete", "pod", &pod]).map(drop)
    })
}

fn status(release: &Release) -> Result<String> {
    release.tool(false, QUORUM, &["describe", "--status"])
}

/// The id of the controller's directory in a list of the status, if it is there.
fn directory_in(list: &str, status: &str) -> Result<Option<String>> {
    let line = status.lines().find_map(|line| line.strip_prefix(list));
    let line = line.with_context(|| format!("no {list} in {status}"))?;
    let all: Value = serde_json::from_str(line)?;
    let mut all = all.as_array().into_iter().flatten();
    let own = all.find(|each| each["id"] == ID);
    let directory = own.and_then(|own| own["directoryId"].as_str());
    Ok(directory.map(str::to_owned))
}

/// Runs a command for the controller in the pod of another one.
fn highwater(release: &Release, command: &str) -> Result<()> {
    let file = "/etc/highwater/config/controller.properties";
    let pod = "hw-highwater-controller-0";
    let highwater = ["exec", pod, "--", "highwater", command];
    let id = ID.to_string();
    release.kubectl(&[&highwater[..], &[&id, "--config", file]].concat())?;
    Ok(())
}
