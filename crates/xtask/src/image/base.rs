//! The base of the image: the C library, from pinned Debian packages, and the certificates of authorities.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::oci::{Layer, USER};
use crate::jars::hash;
use crate::rust::run;

/// A line for each package: its name, its version and the SHA-256 of its file.
const PINS: &str = "deploy/docker/base.txt";
const DIR: &str = "target/test-deps/debian";
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// The files that a Rust program needs of a C library: itself, names of hosts, and unwinding.
const LIBRARIES: &[&str] = &[
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
];
const LIBRARY_DIR: &str = "lib/x86_64-linux-gnu";

const PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\n\
    highwater:x:10001:10001:highwater:/var/lib/highwater:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nhighwater:x:10001:\n";

/// A package of Debian.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    sha256: String,
}

/// The pinned packages.
pub(crate) fn packages() -> Result<Vec<Package>> {
    let text = std::fs::read_to_string(PINS)?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, version, sha256] = words[..] else {
                bail!("{PINS}: a line has another form: {line}");
            };
            Ok(Package {
                name: name.to_owned(),
                version: version.to_owned(),
                sha256: sha256.to_owned(),
            })
        })
        .collect()
}

impl Package {
    /// The unpacked package, which is fetched by the machine's own apt once.
    fn unpacked(&self) -> Result<PathBuf> {
        let dir = std::path::absolute(DIR)?.join(format!("{}-{}", self.name, &self.sha256[..12]));
        if dir.exists() {
            return Ok(dir);
        }
        let fresh = dir.with_extension("new");
        if fresh.exists() {
            std::fs::remove_dir_all(&fresh)?;
        }
        std::fs::create_dir_all(&fresh)?;
        let mut fetch = Command::new("apt-get");
        // as root, or else apt fetches as a user that may not write here
        fetch.args(["download", "-qq", "-o", "APT::Sandbox::User=root"]);
        fetch.arg(format!("{}={}", self.name, self.version));
        run(fetch.current_dir(&fresh)).with_context(|| {
            let name = &self.name;
            format!("apt has no such version of {name}: pin another one in {PINS}")
        })?;
        let file = std::fs::read_dir(&fresh)?
            .next()
            .context("apt fetched nothing")??
            .path();
        let found = hash(&std::fs::read(&file)?);
        ensure!(
            found == self.sha256,
            "{} has the SHA-256 {found}, and {PINS} pins {}",
            file.display(),
            self.sha256
        );
        let root = fresh.join("root");
        run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&root))?;
        let control = Command::new("dpkg-deb").arg("-f").arg(&file).output()?;
        std::fs::write(fresh.join("control"), control.stdout)?;
        std::fs::remove_file(file)?;
        std::fs::rename(fresh, &dir)?;
        Ok(dir)
    }
}

/// The layer.
pub(crate) fn layer() -> Result<Layer> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "{PINS} pins the packages of amd64 alone"
    );
    let mut layer = skeleton();
    let mut missing: Vec<&str> = LIBRARIES.to_vec();
    let mut authorities = Vec::new();
    for package in packages()? {
        let dir = package.unpacked()?;
        let root = dir.join("root");
        missing.retain(|library| {
            let inside = format!("{LIBRARY_DIR}/{library}");
            layer.copy(&root.join(&inside), &inside, 0o755).is_err()
        });
        authorities.extend(certificates(
            &root.join("usr/share/ca-certificates/mozilla"),
        )?);
        let copyright = format!("usr/share/doc/{}/copyright", package.name);
        // libgcc-s1 has it by way of gcc-12-base
        if root.join(&copyright).exists() {
            layer.copy(&root.join(&copyright), &copyright, 0o644)?;
        }
        // where scanners of images without dpkg look for packages
        let status = format!("var/lib/dpkg/status.d/{}", package.name);
        layer.copy(&dir.join("control"), &status, 0o644)?;
    }
    ensure!(missing.is_empty(), "no package of {PINS} has {missing:?}");
    ensure!(
        !authorities.is_empty(),
        "no package of {PINS} has certificates"
    );
    layer.link(
        "lib64/ld-linux-x86-64.so.2",
        &format!("/{LIBRARY_DIR}/ld-linux-x86-64.so.2"),
    );
    layer.file(AUTHORITIES, 0o644, authorities);
    Ok(layer)
}

/// The files that are not from a package.
fn skeleton() -> Layer {
    let mut layer = Layer::default();
    layer.directory("tmp", 0o1777, 0);
    layer.directory("var/lib/highwater", 0o750, USER);
    layer.file("etc/passwd", 0o644, PASSWD.into());
    layer.file("etc/group", 0o644, GROUP.into());
    layer.file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n".to_vec());
    layer
}

fn certificates(dir: &Path) -> Result<Vec<u8>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let files = std::fs::read_dir(dir)?.map(|file| Ok(file?.path()));
    let mut files: Vec<PathBuf> = files.collect::<Result<_>>()?;
    files.sort();
    let mut all = Vec::new();
    for file in files {
        all.extend(std::fs::read(file)?);
    }
    Ok(all)
}
