//! What a Kubernetes on this machine needs, beside its own programs.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::control_groups;
use super::images;
use crate::jars::has;

/// Programs, each with an argument with which it ends by itself, and with the Debian package that has it.
const PROGRAMS: [(&str, &str, &str); 13] = [
    ("go", "version", "golang-go"),
    ("containerd", "--version", "containerd"),
    ("runc", "--version", "runc"),
    ("nft", "--version", "nftables"),
    ("conntrack", "--version", "conntrack"),
    ("iptables", "--version", "iptables"),
    ("openssl", "version", "openssl"),
    ("kcat", "-V", "kcat"),
    ("java", "-version", "default-jdk-headless"),
    ("mvn", "--version", "maven"),
    ("objcopy", "--version", "binutils"),
    ("dpkg-deb", "--version", "dpkg"),
    ("setpriv", "--version", "util-linux"),
];
const PLUGINS: &str = "/usr/lib/cni/bridge";

/// Everything that this machine lacks, if it lacks something.
pub(super) fn missing() -> Option<String> {
    let lacks = PROGRAMS.iter().filter(|(name, flag, _)| !has(name, flag));
    let mut packages: BTreeSet<&str> = lacks.map(|(_, _, package)| *package).collect();
    if !Path::new(PLUGINS).exists() {
        packages.insert("containernetworking-plugins");
    }
    if !images::has_busybox() {
        packages.insert("busybox-static");
    }
    let mut all: Vec<String> = packages.into_iter().map(str::to_owned).collect();
    if !has_namespaces() {
        all.push("namespaces (root, util-linux and iproute2)".to_owned());
    }
    let hierarchies = control_groups::missing();
    if !hierarchies.is_empty() {
        let hierarchies = hierarchies.join(" ");
        all.push(format!("control groups of version 1 ({hierarchies})"));
    }
    (!all.is_empty()).then(|| format!("missing are: {}", all.join(", ")))
}

fn has_namespaces() -> bool {
    let mut possible = Command::new("unshare");
    possible.args(["--net", "--mount", "--pid", "--fork", "ip", "link"]);
    possible.output().is_ok_and(|told| told.status.success())
}
