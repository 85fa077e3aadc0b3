//! The images that each node of the test's Kubernetes imports, because it reaches no registry.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::image::{self, Config, Image, Layer};

/// The image of everything but Highwater: a directory for each that a pod mounts of this machine, and busybox.
pub(super) const MACHINE: &str = "localhost/machine:1";
const BUSYBOX: &str = "/usr/bin/busybox";

/// The tag of another image of Highwater, to which a release is upgraded.
pub(super) const OTHER_TAG: &str = "other";

/// Writes the archives to a directory: Highwater's image in two versions, which differ by their labels, and the image
/// of the pods around it.
pub(super) fn write(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let name = image::name();
    image::make(&name)?.write_archive(&dir.join("highwater.tar"))?;
    let (repository, _) = name.rsplit_once(':').context("an image's name has a tag")?;
    let other = format!("{repository}:{OTHER_TAG}");
    image::make(&other)?.write_archive(&dir.join("highwater-other.tar"))?;
    machine()?.write_archive(&dir.join("machine.tar"))
}

/// Whether there is a busybox that runs without the machine's libraries, as Debian's `busybox-static` has it.
pub(super) fn has_busybox() -> bool {
    // it fails for a program that needs none
    let libraries = Command::new("ldd").arg(BUSYBOX).output();
    Path::new(BUSYBOX).exists() && libraries.is_ok_and(|told| !told.status.success())
}

fn machine() -> Result<Image> {
    let mut layer = Layer::default();
    layer.copy(Path::new(BUSYBOX), "busybox", 0o755)?;
    for dir in [
        "usr",
        "bin",
        "lib",
        "lib64",
        "data",
        "test-deps",
        "machine/etc",
    ] {
        layer.directory(dir, 0o755, 0);
    }
    layer.directory("tmp", 0o1777, 0);
    layer.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/tmp:/bin/sh\n".to_vec(),
    );
    layer.file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n".to_vec());
    // Debian's Java is found by `alternatives`, and has its settings in a directory of its version
    for entry in std::fs::read_dir("/etc")? {
        let name = entry?.file_name();
        let name = name.to_str().context("a name in /etc is not UTF-8")?;
        if name == "alternatives" || name.starts_with("java") {
            layer.link(&format!("etc/{name}"), &format!("/machine/etc/{name}"));
        }
    }
    let config = Config {
        entrypoint: ["/busybox", "sleep", "infinity"].map(str::to_owned).into(),
        created: "1970-01-01T00:00:00Z".to_owned(),
        ..Config::default()
    };
    Image::new(MACHINE, &[layer], &config)
}
