//! The programs of other projects that the suites run, built by Go from the versions that each `go.sum` pins.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::jars::{has, hash};
use crate::rust::run;

/// A Go module under `tests/servers`, and the package in it that is the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    module: &'static str,
    package: &'static str,
}

/// Renders and installs charts.
pub(crate) const HELM: Program = Program {
    module: "helm",
    package: "helm.sh/helm/v4/cmd/helm",
};
/// Compares manifests with the schemas of Kubernetes.
pub(crate) const KUBECONFORM: Program = Program {
    module: "kubeconform",
    package: "github.com/yannh/kubeconform/cmd/kubeconform",
};

/// Whether there is a Go.
pub(crate) fn has_go() -> bool {
    has("go", "version")
}

impl Program {
    /// The path of the program, which is built once under `target/`.
    pub(crate) fn build(self) -> Result<PathBuf> {
        let module = Path::new("tests/servers").join(self.module);
        let stamp = hash(&std::fs::read(module.join("go.sum"))?);
        let deps = std::fs::canonicalize("target")?.join("test-deps");
        let dir = deps.join(format!("{}-{}", self.module, &stamp[..12]));
        if !dir.exists() {
            let fresh = dir.with_extension("new");
            std::fs::create_dir_all(&fresh)?;
            let mut go = Command::new("go");
            go.args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath"]);
            go.args(["-ldflags", "-s -w", "-o"]);
            go.arg(fresh.join(self.module)).arg(self.package);
            run(go.env("CGO_ENABLED", "0").current_dir(module))?;
            std::fs::rename(fresh, &dir)?;
        }
        Ok(dir.join(self.module))
    }
}

/// The schema of Kubernetes' API, from its module.
pub(crate) fn swagger() -> Result<PathBuf> {
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", "k8s.io/kubernetes"]);
    let output = go.current_dir("tests/servers/kubernetes").output()?;
    let told: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("go says nothing of k8s.io/kubernetes")?;
    let dir = told["Dir"]
        .as_str()
        .with_context(|| format!("k8s.io/kubernetes can't be fetched: {told}"))?;
    Ok(Path::new(dir).join("api/openapi-spec/swagger.json"))
}
