//! The restricted profile admits every pod: those of the release, because its namespace enforces the profile, and those
//! of every set of values with which the chart is tested, because Kubernetes warns of none.

use anyhow::{Result, ensure};

use super::super::chart::MATRIX;
use super::super::control_plane::output_of;
use super::super::release::{NAMESPACE, Release};
use crate::report::say;

const ELSEWHERE: &str = "matrix";
/// The kinds of which Kubernetes judges the pods.
const OF_PODS: [&str; 3] = ["StatefulSet", "Job", "Pod"];

pub(super) fn prove(release: &Release) -> Result<()> {
    let pods = release.kubectl(&["get", "pods", "--output=name"])?;
    let count = pods.lines().count();
    ensure!(count >= 6, "the release has other pods: {pods}");
    let label = "pod-security.kubernetes.io/enforce=restricted";
    let labels = release
        .cluster
        .kubectl(&["get", "namespace", NAMESPACE, "--show-labels"])?;
    ensure!(
        labels.contains(label),
        "the profile is not enforced: {labels}"
    );
    say(&format!("ok {count} pods of the release"));
    let kubectl = |args: &[&str]| release.cluster.kubectl(args);
    kubectl(&["delete", "namespace", ELSEWHERE, "--ignore-not-found"])?;
    kubectl(&["create", "namespace", ELSEWHERE])?;
    let warn = "pod-security.kubernetes.io/warn=restricted";
    kubectl(&["label", "namespace", ELSEWHERE, warn])?;
    let mut files = Vec::new();
    for file in std::fs::read_dir(MATRIX)? {
        files.push(std::fs::canonicalize(file?.path())?);
    }
    files.sort();
    for file in files {
        let mut helm = release.template(ELSEWHERE)?;
        let rendered = output_of(helm.arg("--values").arg(&file))?;
        admitted(release, &of_pods(&rendered))?;
        let name = file.file_name().unwrap_or_default();
        say(&format!("ok {}", name.to_string_lossy()));
    }
    kubectl(&["delete", "namespace", ELSEWHERE])?;
    Ok(())
}

/// Kubernetes would take the manifests, and warns of no pod.
fn admitted(release: &Release, manifests: &str) -> Result<()> {
    let told = release
        .cluster
        .kubectl_with(&["apply", "--dry-run=server", "-f", "-"], manifests)?;
    let warnings = String::from_utf8_lossy(&told.stderr);
    ensure!(
        told.status.success() && !warnings.contains("would violate"),
        "{warnings}"
    );
    let taken = String::from_utf8_lossy(&told.stdout);
    ensure!(
        taken.contains("statefulset.apps/"),
        "no pods are rendered: {taken}"
    );
    Ok(())
}

/// The rendered objects that are pods or make pods.
fn of_pods(rendered: &str) -> String {
    let makes_pods = |object: &&str| {
        let kind = object.lines().find_map(|line| line.strip_prefix("kind: "));
        kind.is_some_and(|kind| OF_PODS.contains(&kind))
    };
    let objects: Vec<&str> = rendered.split("\n---").filter(makes_pods).collect();
    objects.join("\n---")
}
