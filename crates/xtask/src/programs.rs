//! The programs of other projects that the suites run, built by Go from the versions that each `go.mod` pins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::jars::{has, hash};
use crate::report::say;
use crate::rust::run;
use crate::time::now;

/// The modules, each with its pins.
const MODULES: &str = "tests/servers";

/// Runs Go after everything else that would run, such as the suites meanwhile. Linux shares the processors out between
/// sessions first, so Go has a session of its own, which comes last as a whole.
const LAST: &str = "{ echo 19 > /proc/self/autogroup; } 2> /dev/null; exec nice -n 19 go \"$@\"";

/// A Go module under `tests/servers`, and the package in it that is the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    module: &'static str,
    package: &'static str,
}

/// A Go module under `tests/servers`, and the packages in it that are programs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Programs {
    module: &'static str,
    packages: &'static [&'static str],
    /// The module whose version the programs tell.
    version_of: Option<&'static str>,
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

/// What a Kubernetes runs beside containerd and runc. Its own programs take 33 minutes of a core.
pub(crate) const CLUSTER: [Programs; 3] = [
    Programs {
        module: "etcd",
        packages: &["go.etcd.io/etcd/server/v3"],
        version_of: None,
    },
    Programs {
        module: "dns",
        packages: &["."],
        version_of: None,
    },
    Programs {
        module: "kubernetes",
        packages: &[
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-proxy",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kubectl",
            "k8s.io/kubernetes/cmd/kubelet",
        ],
        version_of: Some("k8s.io/kubernetes"),
    },
];

/// Whether there is a Go.
pub(crate) fn has_go() -> bool {
    has("go", "version")
}

/// A hash of all files of a module: its pins and its sources.
fn stamp(module: &Path) -> Result<String> {
    let mut files = BTreeMap::new();
    for file in std::fs::read_dir(module)? {
        let file = file?;
        files.insert(file.file_name(), std::fs::read(file.path())?);
    }
    let contents: Vec<u8> = files.into_values().flatten().collect();
    Ok(hash(&contents))
}

/// What is made of a module, once under `target/`: `make` writes it to another path, so that it is never there in part.
fn once(module: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let stamp = stamp(&Path::new(MODULES).join(module))?;
    let deps = std::fs::canonicalize("target")?.join("test-deps");
    std::fs::create_dir_all(&deps)?;
    let made = deps.join(format!("{module}-{}", &stamp[..12]));
    if !made.exists() {
        let fresh = deps.join(format!("{module}.new"));
        make(&fresh)?;
        std::fs::rename(fresh, &made)?;
    }
    Ok(made)
}

/// Adds to a command that runs Go: build packages of a module to a file or a directory.
fn build(go: &mut Command, module: &str, packages: &[&str], flags: &str, to: &Path) -> Result<()> {
    go.args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath"]);
    // linking without symbols and debug information is faster
    go.args(["-ldflags", &format!("-s -w {flags}"), "-o"]);
    go.arg(to).args(packages);
    run(go
        .env("CGO_ENABLED", "0")
        .current_dir(Path::new(MODULES).join(module)))
}

impl Program {
    /// The path of the program, which is built once under `target/`.
    pub(crate) fn build(self) -> Result<PathBuf> {
        once(self.module, |fresh| {
            let mut go = Command::new("go");
            build(&mut go, self.module, &[self.package], "", fresh)
        })
    }
}

impl Programs {
    /// The directory of the programs, which are built once under `target/`.
    pub(crate) fn build(self) -> Result<PathBuf> {
        once(self.module, |fresh| {
            let since = now();
            std::fs::create_dir_all(fresh)?;
            let flags = self.version_of.map(|of| self.version_flags(of));
            let flags = flags.transpose()?.unwrap_or_default();
            let mut go = Command::new("setpriv");
            go.args(["--pdeathsig", "KILL", "setsid", "sh", "-c", LAST, "go"]);
            build(&mut go, self.module, self.packages, &flags, fresh)?;
            let seconds = since.elapsed().as_secs();
            say(&format!("{}: built in {seconds} s", self.module));
            Ok(())
        })
    }

    /// The linker's flags by which Kubernetes' programs tell their version, on which charts depend.
    fn version_flags(self, of: &str) -> Result<String> {
        let pins = std::fs::read_to_string(Path::new(MODULES).join(self.module).join("go.mod"))?;
        let line = format!("require {of} ");
        let version = pins.lines().find_map(|pin| pin.strip_prefix(&line));
        let version = version.with_context(|| format!("go.mod does not require {of}"))?;
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next(), numbers.next());
        let (major, minor) = major.zip(minor).context("a version has three numbers")?;
        let values = [
            ("gitVersion", version),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
            ("buildDate", "1970-01-01T00:00:00Z"),
        ];
        let packages = [
            "k8s.io/component-base/version",
            "k8s.io/client-go/pkg/version",
        ];
        let flags = packages.iter().flat_map(|package| {
            let flag = move |(name, value)| format!("-X {package}.{name}={value}");
            values.iter().copied().map(flag)
        });
        Ok(flags.collect::<Vec<_>>().join(" "))
    }
}
