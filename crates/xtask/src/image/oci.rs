//! An OCI image: layers of files, written as a layout without a daemon. The same files give the same bytes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use super::tar::{self, Kind};
use crate::jars::hash;

/// The user of the processes in our images; `root` owns the files.
pub(crate) const USER: u32 = 10_001;

/// An entry of a layer.
#[derive(Debug, Clone)]
struct Entry {
    mode: u32,
    owner: u32,
    kind: Kind,
}

/// The files of a layer, by their path without the leading `/`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layer {
    entries: BTreeMap<String, Entry>,
}

impl Layer {
    fn add(&mut self, path: &str, mode: u32, owner: u32, kind: Kind) {
        let path = path.trim_matches('/');
        if let Some((above, _)) = path.rsplit_once('/') {
            self.parents(above);
        }
        let entry = Entry { mode, owner, kind };
        self.entries.insert(path.to_owned(), entry);
    }

    fn parents(&mut self, path: &str) {
        if !self.entries.contains_key(path) {
            self.add(path, 0o755, 0, Kind::Directory);
        }
    }

    /// Adds a file that root owns.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        self.add(path, mode, 0, Kind::File(content));
    }

    /// Adds a directory.
    pub(crate) fn directory(&mut self, path: &str, mode: u32, owner: u32) {
        self.add(path, mode, owner, Kind::Directory);
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.add(path, 0o777, 0, Kind::Link(target.to_owned()));
    }

    /// Adds a file of this machine at the same path or another one. A link is followed.
    pub(crate) fn copy(&mut self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let content =
            std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(to, mode, content);
        Ok(())
    }

    fn archive(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for (path, entry) in &self.entries {
            tar::append(&mut out, path, entry.mode, entry.owner, &entry.kind)?;
        }
        tar::end(&mut out);
        Ok(out)
    }
}

/// What runs in a container of the image.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<String>,
    pub(crate) ports: Vec<u16>,
    pub(crate) volumes: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// RFC 3339.
    pub(crate) created: String,
}

/// The blobs of a layout and its index.
#[derive(Debug)]
pub(crate) struct Image {
    blobs: BTreeMap<String, Vec<u8>>,
    index: Vec<u8>,
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The architecture in OCI's words.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Image {
    /// Makes an image with a name such as `localhost/highwater:0.1.0`.
    pub(crate) fn new(name: &str, layers: &[Layer], config: &Config) -> Result<Self> {
        let mut image = Self {
            blobs: BTreeMap::new(),
            index: Vec::new(),
        };
        let mut described = Vec::new();
        let mut plain = Vec::new();
        for layer in layers {
            let archive = layer.archive()?;
            plain.push(format!("sha256:{}", hash(&archive)));
            described.push(image.put(LAYER, compress(&archive)?));
        }
        let config = serde_json::to_vec(&config.document(&plain))?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": image.put(CONFIG, config),
            "layers": described,
        });
        let mut manifest = image.put(MANIFEST, serde_json::to_vec(&manifest)?);
        let tag = name.rsplit_once(':').map_or(name, |(_, tag)| tag);
        manifest["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": tag,
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
        image.index = serde_json::to_vec(&index)?;
        Ok(image)
    }

    fn put(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = hash(&bytes);
        let described = json!({
            "mediaType": media_type,
            "digest": format!("sha256:{digest}"),
            "size": bytes.len(),
        });
        self.blobs.insert(digest, bytes);
        described
    }

    /// The bytes that a registry keeps of it.
    pub(crate) fn bytes(&self) -> usize {
        self.blobs.values().map(Vec::len).sum()
    }

    /// Writes the layout as a directory, which replaces an earlier one.
    pub(crate) fn write_layout(&self, dir: &Path) -> Result<()> {
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        let blobs = dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs)?;
        for (digest, bytes) in &self.blobs {
            std::fs::write(blobs.join(digest), bytes)?;
        }
        std::fs::write(dir.join("oci-layout"), MARKER)?;
        Ok(std::fs::write(dir.join("index.json"), &self.index)?)
    }

    /// Writes the layout as one tar file, as `ctr images import` and `docker load` read it.
    pub(crate) fn write_archive(&self, file: &Path) -> Result<()> {
        let mut out = Vec::new();
        for (digest, bytes) in &self.blobs {
            let kind = Kind::File(bytes.clone());
            tar::append(&mut out, &format!("blobs/sha256/{digest}"), 0o644, 0, &kind)?;
        }
        for (name, bytes) in [("index.json", &self.index[..]), ("oci-layout", MARKER)] {
            tar::append(&mut out, name, 0o644, 0, &Kind::File(bytes.to_vec()))?;
        }
        tar::end(&mut out);
        Ok(std::fs::write(file, out)?)
    }
}

impl Config {
    fn document(&self, layers: &[String]) -> Value {
        let set = |names: Vec<String>| -> BTreeMap<String, Value> {
            names.into_iter().map(|name| (name, json!({}))).collect()
        };
        let ports = self.ports.iter().map(|port| format!("{port}/tcp"));
        let history = layers.iter().map(|_| json!({"created": self.created}));
        json!({
            "created": self.created,
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "User": format!("{USER}:{USER}"),
                "Entrypoint": self.entrypoint,
                "Cmd": self.command,
                "Env": self.environment,
                "ExposedPorts": set(ports.collect()),
                "Volumes": set(self.volumes.clone()),
                "StopSignal": "SIGTERM",
                "Labels": self.labels,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": layers},
            "history": history.collect::<Vec<_>>(),
        })
    }
}

fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder: GzEncoder<Vec<u8>> = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::new(9));
    encoder.write_all(bytes)?;
    let compressed = encoder.finish()?;
    ensure!(!compressed.is_empty(), "a layer is empty");
    Ok(compressed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_image_in_any_order() {
        let mut one = Layer::default();
        one.file("/usr/bin/a", 0o755, b"a".to_vec());
        one.directory("/tmp", 0o1777, 0);
        let mut other = Layer::default();
        other.directory("/tmp", 0o1777, 0);
        other.file("/usr/bin/a", 0o755, b"a".to_vec());
        let image = |layer: &Layer| {
            Image::new(
                "localhost/a:1",
                std::slice::from_ref(layer),
                &Config::default(),
            )
            .unwrap()
        };
        assert_eq!(image(&one).index, image(&other).index);
        other.file("/usr/bin/a", 0o755, b"b".to_vec());
        assert_ne!(image(&one).index, image(&other).index);
    }

    #[test]
    fn directories_above_a_file_are_in_the_layer() {
        let mut layer = Layer::default();
        layer.file("/usr/bin/a", 0o755, Vec::new());
        let paths: Vec<&str> = layer.entries.keys().map(String::as_str).collect();
        assert_eq!(paths, ["usr", "usr/bin", "usr/bin/a"]);
    }
}
