//! The image that is published, built without a daemon: `cargo xtask image`.

mod base;
mod oci;
mod sbom;
mod tar;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub(crate) use self::oci::{Config, Image, Layer};
use crate::dist;
use crate::jars::has;
use crate::report::{Outcome, say};
use crate::rust::run;

/// The layout, for tools that copy images.
const LAYOUT: &str = "target/dist/image";
/// The same in one file, for tools that load images.
const ARCHIVE: &str = "target/dist/highwater-image.tar";
const SBOM: &str = "target/dist/highwater.cdx.json";
const BINARY: &str = "target/dist/highwater";
const PROPERTIES: &str = "deploy/server.properties";
const BYTES_MAX: usize = 40 << 20;

/// The name of the image of this version.
pub(crate) fn name() -> String {
    format!("localhost/highwater:{}", env!("CARGO_PKG_VERSION"))
}

/// Writes the image of `target/dist/highwater`, and the list of what is in it.
pub(crate) fn build() -> Result<()> {
    let image = make(&name())?;
    image.write_layout(Path::new(LAYOUT))?;
    image.write_archive(Path::new(ARCHIVE))?;
    let kibibytes = image.bytes() >> 10;
    say(&format!(
        "{LAYOUT} and {ARCHIVE}: {}, {kibibytes} KiB",
        name()
    ));
    say(&format!("{SBOM}: what it contains"));
    Ok(())
}

/// Makes the image with any name, whose tag is the version in the image.
pub(crate) fn make(name: &str) -> Result<Image> {
    let commit = commit()?;
    let (_, version) = name.rsplit_once(':').context("an image's name has a tag")?;
    let contents = sbom::document(&base::packages()?)?;
    std::fs::write(SBOM, &contents)?;
    let mut program = Layer::default();
    program.copy(Path::new(BINARY), "usr/local/bin/highwater", 0o755)?;
    program.copy(
        Path::new(PROPERTIES),
        "etc/highwater/server.properties",
        0o644,
    )?;
    program.copy(
        Path::new("LICENSE"),
        "usr/share/doc/highwater/LICENSE",
        0o644,
    )?;
    program.copy(Path::new("NOTICE"), "usr/share/doc/highwater/NOTICE", 0o644)?;
    program.file("usr/share/doc/highwater/sbom.cdx.json", 0o644, contents);
    let image = Image::new(name, &[base::layer()?, program], &config(&commit, version))?;
    let bytes = image.bytes();
    ensure!(bytes < BYTES_MAX, "the image has {bytes} bytes");
    Ok(image)
}

fn config(commit: &str, version: &str) -> Config {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let label =
        |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_owned());
    Config {
        entrypoint: texts(&["/usr/local/bin/highwater"]),
        command: texts(&["start", "--config", "/etc/highwater/server.properties"]),
        environment: texts(&[
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
        ]),
        ports: vec![9092, 9644],
        volumes: texts(&["/var/lib/highwater"]),
        labels: BTreeMap::from([
            label("title", "highwater"),
            label(
                "description",
                "A Kafka-compatible broker whose log lives in object storage",
            ),
            label("licenses", "Apache-2.0"),
            label("version", version),
            label("revision", commit),
        ]),
        // a time of the build would make each image another one
        created: "1970-01-01T00:00:00Z".to_owned(),
    }
}

/// The commit that the binary names.
fn commit() -> Result<String> {
    let output = Command::new(BINARY).arg("version").output();
    let output = output.with_context(|| format!("{BINARY} is missing: run `cargo xtask dist`"))?;
    let told = String::from_utf8(output.stdout)?;
    let commit = told
        .split_once("(commit ")
        .and_then(|(_, rest)| rest.split_once(')'));
    let (commit, _) = commit.with_context(|| format!("{BINARY} tells no commit: {told}"))?;
    Ok(commit.to_owned())
}

/// Builds the image of the binary of this run twice, and runs the program with nothing but the image's libraries.
pub(crate) fn check() -> Result<Outcome> {
    if !has("dpkg-deb", "--version") || !has("apt-get", "--version") {
        return Ok(Outcome::Skipped("apt (of Debian) is missing".to_owned()));
    }
    if !has("objcopy", "--version") {
        return Ok(Outcome::Skipped("objcopy (binutils) is missing".to_owned()));
    }
    dist::split()?;
    build()?;
    let first = std::fs::read(ARCHIVE)?;
    build()?;
    ensure!(
        first == std::fs::read(ARCHIVE)?,
        "a second build gives another image"
    );
    let root = Path::new("target/test-run/image");
    if root.exists() {
        std::fs::remove_dir_all(root)?;
    }
    std::fs::create_dir_all(root)?;
    for layer in layers()? {
        let mut unpack = Command::new("tar");
        unpack
            .args(["--no-same-owner", "-xzf", &layer, "-C"])
            .arg(root);
        run(&mut unpack)?;
    }
    let linker = root.join("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
    let program = |list: &[&str]| {
        let mut program = Command::new(&linker);
        program.args(["--inhibit-cache", "--library-path"]);
        program.arg(root.join("lib/x86_64-linux-gnu")).args(list);
        program.arg(root.join("usr/local/bin/highwater"));
        program
    };
    let needed = String::from_utf8(program(&["--list"]).output()?.stdout)?;
    let from = needed.lines().filter_map(|line| line.split_once(" => "));
    let mut count = 0;
    for (library, path) in from {
        let is_inside = Path::new(path.trim()).starts_with(root);
        ensure!(
            is_inside,
            "{} is not in the image, but {path}",
            library.trim()
        );
        count += 1;
    }
    ensure!(count > 2, "the program needs no libraries: {needed}");
    run(program(&[]).arg("version"))?;
    Ok(Outcome::Passed)
}

/// The files of the image's layers, by the manifest in the layout.
fn layers() -> Result<Vec<String>> {
    let blob = |digest: &Value| {
        let digest = digest
            .as_str()
            .and_then(|text| text.strip_prefix("sha256:"));
        digest
            .map(|digest| format!("{LAYOUT}/blobs/sha256/{digest}"))
            .context("a digest has another form")
    };
    let read =
        |path: String| -> Result<Value> { Ok(serde_json::from_slice(&std::fs::read(path)?)?) };
    let index = read(format!("{LAYOUT}/index.json"))?;
    let manifest = read(blob(&index["manifests"][0]["digest"])?)?;
    let layers = manifest["layers"].as_array().context("no layers")?;
    layers.iter().map(|layer| blob(&layer["digest"])).collect()
}
