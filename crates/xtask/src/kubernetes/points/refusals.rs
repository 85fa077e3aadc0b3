//! Wrong values are refused before anything is installed, or a pod's log and status say what is wrong.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::control_plane::until;
use super::super::release::{OUTSIDE, Release};
use super::super::stream::Stream;
use crate::report::say;
use crate::rust::output_of;
use crate::time::pause;

/// The namespace of the releases that don't start.
const ELSEWHERE: &str = "wrong";
const WAIT_MAX: Duration = Duration::from_secs(120);
/// The looks at a rollout, in which it would show that it goes on after a bad pod.
const WATCHED: u32 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Values that helm refuses to install, and what the refusal says.
const REFUSED: [(&str, &str); 5] = [
    ("objectStorage.bucket=", "objectStorage.bucket is needed"),
    ("brokers=3", "additional properties 'brokers' not allowed"),
    (
        "listeners.external[0].name=INTERNAL",
        "the name INTERNAL is used twice",
    ),
    ("broker.memory.limit=64Mi", "128Mi is the least"),
    ("controller.replicas=4", "value must be one of 1, 3, 5"),
];
/// Values that only a start can judge, and what the status of a pod says of them.
const NOT_STARTED: [(&str, &str, Log); 3] = [
    (
        "objectStorage.existingSecret=incomplete",
        "couldn't find key AWS_SECRET_ACCESS_KEY in Secret wrong/incomplete",
        Log::None,
    ),
    (
        "objectStorage.bucket=no-such-bucket",
        "NoSuchBucket",
        Log::Same,
    ),
    (
        "config.num\\.partitions=many",
        "num.partitions=many",
        Log::Same,
    ),
];

/// What the log of a pod says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Log {
    /// Nothing, because the container was not started.
    None,
    /// What the status says.
    Same,
}

pub(super) fn prove(release: &Release) -> Result<()> {
    let kubectl = |args: &[&str]| release.cluster.kubectl(args);
    release.namespace(ELSEWHERE)?;
    let namespace = format!("--namespace={ELSEWHERE}");
    let incomplete = ["create", "secret", "generic", "incomplete", &namespace];
    kubectl(
        &[
            &incomplete[..],
            &["--from-literal=AWS_ACCESS_KEY_ID=highwater"],
        ]
        .concat(),
    )?;
    for (set, why) in REFUSED {
        refused(release, set, why)?;
    }
    lower_quorum(release)?;
    for (set, why, log) in NOT_STARTED {
        not_started(release, set, why, log)?;
    }
    kubectl(&["delete", "namespace", ELSEWHERE, "--timeout=120s"])?;
    stopped_rollout(release)
}

/// helm refuses the values, and installs nothing.
fn refused(release: &Release, set: &str, why: &str) -> Result<()> {
    let told = release
        .helm("install", ELSEWHERE, &["--set", set])?
        .output()?;
    let error = String::from_utf8_lossy(&told.stderr);
    ensure!(!told.status.success(), "{set} is not refused");
    ensure!(error.contains(why), "{set}: {error}");
    let sets = [
        "get",
        "statefulsets",
        "--output=name",
        "--namespace",
        ELSEWHERE,
    ];
    let sets = release.cluster.kubectl(&sets)?;
    ensure!(sets.is_empty(), "{set} leaves {sets}");
    say(&format!("ok refused: {set}"));
    Ok(())
}

/// An upgrade that would take the quorum's majority away is refused.
fn lower_quorum(release: &Release) -> Result<()> {
    let told = release.upgrade("controller.replicas=1")?.output()?;
    let error = String::from_utf8_lossy(&told.stderr);
    ensure!(
        !told.status.success() && error.contains("controller.replicas can't be lowered from 3"),
        "fewer controllers are not refused: {error}"
    );
    say("ok refused: an upgrade to one controller");
    Ok(())
}

/// A release with the values is installed, and its pods say why they don't start.
fn not_started(release: &Release, set: &str, why: &str, log: Log) -> Result<()> {
    let small = "listeners.external=null,topics=null,broker.unregisterStopped=false";
    let set_all = format!("controller.replicas=1,broker.replicas=1,{small},{set}");
    output_of(&mut release.helm("install", ELSEWHERE, &["--set", &set_all])?)?;
    let namespace = format!("--namespace={ELSEWHERE}");
    let kubectl = |args: &[&str]| release.cluster.kubectl(args);
    let paths =
        "{..state.waiting.message}{..lastState.terminated.message}{..state.terminated.message}";
    let path = format!("-o=jsonpath={paths}");
    let status = until(&format!("the status says {why}"), WAIT_MAX, || {
        Ok(kubectl(&["get", "pods", &namespace, &path])?.contains(why))
    });
    let told = kubectl(&["get", "pods", &namespace, &path])?;
    ensure!(status.is_ok(), "{set}: the status of the pods says {told}");
    if log == Log::Same {
        let of_release = "--selector=app.kubernetes.io/instance=hw";
        // the log of a container that was just started again has nothing yet
        until(&format!("the log says {why}"), WAIT_MAX, || {
            Ok(kubectl(&["logs", &namespace, of_release, "--tail=50"])?.contains(why))
        })?;
    }
    output_of(&mut release.uninstall(ELSEWHERE))?;
    kubectl(&["delete", "pvc", "--all", &namespace])?;
    say(&format!("ok a status says why: {set}"));
    Ok(())
}

/// A broker below the partition of a rollout has its former configuration in another pod too. Without a partition,
/// Kubernetes gives a pod that it replaces during a rollout the new one.
fn comes_back(release: &Release, pod: &str) -> Result<()> {
    output_of(&mut release.upgrade("broker.partition=2")?)?;
    release.replaced(pod, WAIT_MAX, || {
        release.kubectl(&["delete", "pod", pod]).map(drop)
    })?;
    let ready = [
        "wait",
        "--for=condition=Ready",
        "--timeout=120s",
        "pod",
        pod,
    ];
    release.kubectl(&ready)?;
    say("ok a broker below the partition of a rollout has its former configuration");
    Ok(())
}

/// A bad configuration stops at the first pod, the others serve, and the former release comes back.
fn stopped_rollout(release: &Release) -> Result<()> {
    let stream = Stream::start(release.stream_outside(), OUTSIDE, "stream-bad-rollout")?;
    let bad = "broker.config.num\\.partitions=many";
    output_of(&mut release.upgrade(bad)?)?;
    let path = "-o=jsonpath={.status.updatedReplicas} {.status.readyReplicas}";
    let broker = ["get", "statefulset", "hw-highwater-broker", path];
    until("the first pod is replaced", WAIT_MAX, || {
        Ok(release.kubectl(&broker)? == "1 2")
    })?;
    for _ in 0..WATCHED {
        pause(LOOK_EVERY);
        let told = release.kubectl(&broker)?;
        ensure!(told == "1 2", "the rollout goes on: {told}");
    }
    comes_back(release, "hw-highwater-broker-0")?;
    release.reset()?;
    release.await_ready(3, WAIT_MAX)?;
    stream.finish("a rollout that stops at its first pod")?;
    say("ok a bad configuration stops at the first pod");
    Ok(())
}
