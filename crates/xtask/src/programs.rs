//! The programs of other projects that the suites run, built by Go from the versions that each `go.sum` pins.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

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

/// An S3-compatible server: widely used, no longer developed.
pub(crate) const MINIO: Program = Program {
    module: "minio",
    package: "github.com/minio/minio",
};
/// Versity's gateway to a directory, which serves S3's protocol.
pub(crate) const VERSITYGW: Program = Program {
    module: "versitygw",
    package: "github.com/versity/versitygw/cmd/versitygw",
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
        let program = deps.join(format!("{}-{}", self.module, &stamp[..12]));
        if !program.exists() {
            std::fs::create_dir_all(&deps)?;
            let fresh = deps.join(format!("{}.new", self.module));
            let mut go = Command::new("go");
            go.args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath"]);
            // linking without symbols and debug information is faster
            go.args(["-ldflags", "-s -w", "-o"]);
            go.arg(&fresh).arg(self.package);
            run(go.env("CGO_ENABLED", "0").current_dir(module))?;
            std::fs::rename(fresh, &program)?;
        }
        Ok(program)
    }
}
