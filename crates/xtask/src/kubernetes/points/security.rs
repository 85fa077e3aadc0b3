//! The restricted profile admits every pod: those of the release, because its namespace enforces the profile, and those
//! of every set of values with which the chart is tested, because Kubernetes warns of none.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::super::chart::{MATRIX, objects};
use super::super::control_plane::until;
use super::super::images::MACHINE;
use super::super::release::{NAMESPACE, Release};
use crate::report::say;
use crate::rust::output_of;

const ELSEWHERE: &str = "matrix";
/// The kinds of which Kubernetes judges the pods.
const OF_PODS: [&str; 3] = ["StatefulSet", "Job", "Pod"];
/// The components of the chart that have pods, with those of its jobs and of its test.
const COMPONENTS: [&str; 6] = [
    "broker",
    "check",
    "controller",
    "finalize",
    "topics",
    "unregister",
];
/// By which an entry of the audit log tells the profile under which a pod was admitted.
const ENFORCED: &str = "pod-security.kubernetes.io/enforce-policy";
const PROFILE: &str = "restricted:";
const WAIT_MAX: Duration = Duration::from_secs(30);

pub(super) fn prove(release: &Release) -> Result<()> {
    // its pod is one of those that are judged
    release.test()?;
    admitted(release)?;
    refused(release)?;
    matrix(release)
}

/// Every pod that was ever created in the namespace of the release was admitted under the profile.
fn admitted(release: &Release) -> Result<()> {
    let log = std::fs::read_to_string(release.cluster.audit_log())?;
    let mut components = BTreeSet::new();
    let mut count = 0;
    // the last line may be half written
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    for line in whole.lines() {
        let entry: Value = serde_json::from_str(line)?;
        let is_created = entry["responseStatus"]["code"] == 201;
        if !is_created || entry["objectRef"]["namespace"] != NAMESPACE {
            continue;
        }
        let pod = &entry["responseObject"]["metadata"];
        let profile = &entry["annotations"][ENFORCED];
        ensure!(
            profile
                .as_str()
                .is_some_and(|name| name.starts_with(PROFILE)),
            "{} was admitted under the profile {profile}",
            pod["name"]
        );
        let component = pod["labels"]["app.kubernetes.io/component"].as_str();
        components.insert(component.unwrap_or_default().to_owned());
        count += 1;
    }
    ensure!(
        components.iter().eq(COMPONENTS),
        "pods of other components were created: {components:?}"
    );
    say(&format!(
        "ok {count} pods of the release, of {COMPONENTS:?}"
    ));
    Ok(())
}

/// The namespace of the release refuses a pod that the profile does not admit.
fn refused(release: &Release) -> Result<()> {
    let image = format!("--image={MACHINE}");
    let why = match release.kubectl(&["run", "violator", &image, "--restart=Never"]) {
        Ok(told) => bail!("a pod that violates the profile is admitted: {told}"),
        Err(why) => format!("{why:#}"),
    };
    let reason = format!("violates PodSecurity \"{PROFILE}");
    ensure!(why.contains(&reason), "refused for another reason: {why}");
    say("ok a pod that violates the profile is refused");
    Ok(())
}

/// Kubernetes warns of no pod of the chart, whatever its values, in a namespace in which it warns of one that violates the
/// profile.
fn matrix(release: &Release) -> Result<()> {
    let kubectl = |args: &[&str]| release.cluster.kubectl(args);
    kubectl(&["create", "namespace", ELSEWHERE])?;
    let warn = "pod-security.kubernetes.io/warn=restricted";
    kubectl(&["label", "namespace", ELSEWHERE, warn])?;
    until("a violation is warned of", WAIT_MAX, || {
        let image = format!("--image={MACHINE}");
        let violator = ["run", "violator", &image, "--namespace", ELSEWHERE];
        let warnings = dry_run(release, &violator, "")?;
        Ok(is_warned(&warnings))
    })?;
    let mut files = Vec::new();
    for file in std::fs::read_dir(MATRIX)? {
        files.push(std::fs::canonicalize(file?.path())?);
    }
    files.sort();
    for file in files {
        let mut helm = release.template(ELSEWHERE)?;
        let rendered = output_of(helm.arg("--values").arg(&file))?;
        let of_pods: Vec<&str> = objects(&rendered, &OF_PODS).collect();
        let rendered = of_pods.join("\n---");
        ensure!(
            rendered.contains("kind: StatefulSet"),
            "no pods are rendered: {rendered}"
        );
        let warnings = dry_run(release, &["apply", "-f", "-"], &rendered)?;
        ensure!(!is_warned(&warnings), "{}: {warnings}", file.display());
        let name = file.file_name().unwrap_or_default();
        say(&format!("ok {}", name.to_string_lossy()));
    }
    kubectl(&["delete", "namespace", ELSEWHERE])?;
    Ok(())
}

fn is_warned(warnings: &str) -> bool {
    warnings.contains(&format!("would violate PodSecurity \"{PROFILE}"))
}

/// What Kubernetes warns of, if it would do it.
fn dry_run(release: &Release, args: &[&str], manifests: &str) -> Result<String> {
    let args = [args, &["--dry-run=server"]].concat();
    let told = release.cluster.kubectl_with(&args, manifests)?;
    let warnings = String::from_utf8_lossy(&told.stderr).into_owned();
    ensure!(told.status.success(), "{args:?}: {warnings}");
    Ok(warnings)
}
