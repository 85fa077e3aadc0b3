//! The S3-compatible server: MinIO, as the tests build it, on an empty directory in memory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result};
use highwater_kafka_peer::process::{end, free_port, wait};

use super::proxy::Proxy;

pub(super) const BUCKET: &str = "highwater";
pub(super) const REGION: &str = "us-east-1";
pub(super) const USER: &str = "highwater";
pub(super) const PASSWORD: &str = "highwater-secret";
/// Memory, so that the speed of this machine's disk is not measured: the proxy gives the times of a store.
const MEMORY: &str = "/dev/shm";
/// Where the tests build the server.
const BUILT: &str = "target/test-deps";

/// What is between a node and the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// HTTPS, as S3 is used. The payload is not part of a request's signature.
    Tls,
    /// HTTP. The signature covers the payload, so each body is hashed with SHA-256.
    Plain,
}

/// The server behind its proxy. It ends, and its objects with it, when this value is dropped.
pub(super) struct Store {
    child: Child,
    dir: PathBuf,
    pub(super) proxy: Proxy,
    /// The file with the certificate of the proxy.
    ca: PathBuf,
}

impl Store {
    /// Starts the server in `given`, or the one that the tests have built, and the proxy.
    pub(super) fn start(given: Option<&Path>, logs: &Path) -> Result<Self> {
        let binary = given.map_or_else(built, |given| Ok(given.to_owned()))?;
        let memory = Path::new(MEMORY);
        let parent = if memory.is_dir() { memory } else { logs };
        let dir = parent.join(format!("highwater-bench-{}", std::process::id()));
        // a subdirectory of the data is a bucket
        std::fs::create_dir_all(dir.join(BUCKET))?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let log = logs.join("store.log");
        let output = File::create(&log)?;
        let child = Command::new(&binary)
            .args(["server", "--quiet", "--address", &address])
            .arg(&dir)
            .env("MINIO_ROOT_USER", USER)
            .env("MINIO_ROOT_PASSWORD", PASSWORD)
            .env("MINIO_BROWSER", "off")
            // accepts a directory on any file system
            .env("MINIO_CI_CD", "1")
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let proxy = Proxy::start(&address)?;
        let ca = logs.join("store.pem");
        std::fs::write(&ca, &proxy.certificate)?;
        let mut store = Self {
            child,
            dir,
            proxy,
            ca,
        };
        wait(&mut store.child, &address, &log)?;
        Ok(store)
    }

    /// The settings with which a node keeps its objects here, under a prefix of its cluster.
    pub(super) fn settings(&self, cluster: &str, wire: Wire) -> Vec<String> {
        let mut settings = vec![
            format!("highwater.object.storage=s3://{BUCKET}/{cluster}"),
            format!("highwater.object.storage.endpoint={}", self.endpoint(wire)),
            format!("highwater.object.storage.region={REGION}"),
        ];
        if wire == Wire::Tls {
            let ca = self.ca.display();
            settings.push(format!("highwater.object.storage.ca.file={ca}"));
        }
        settings
    }

    pub(super) fn endpoint(&self, wire: Wire) -> &str {
        match wire {
            Wire::Tls => &self.proxy.https,
            Wire::Plain => &self.proxy.http,
        }
    }

    /// The keys, as environment variables.
    pub(super) fn keys() -> [(&'static str, &'static str); 2] {
        [
            ("AWS_ACCESS_KEY_ID", USER),
            ("AWS_SECRET_ACCESS_KEY", PASSWORD),
        ]
    }

    /// Removes the objects of a cluster whose nodes have ended, because they take memory.
    pub(super) fn remove(&self, cluster: &str) -> Result<()> {
        Ok(std::fs::remove_dir_all(
            self.dir.join(BUCKET).join(cluster),
        )?)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        end(&mut self.child);
        if std::fs::remove_dir_all(&self.dir).is_err() {
            // the directory is of this process alone, and a later run uses another one
        }
    }
}

/// The server that the suites have built last.
fn built() -> Result<PathBuf> {
    let found = std::fs::read_dir(BUILT).context("no target/test-deps")?;
    let mut servers = Vec::new();
    for file in found {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("minio-") {
            servers.push((path.metadata()?.modified()?, path));
        }
    }
    servers.sort();
    let newest = servers.pop().map(|(_, path)| path);
    newest.context("MinIO is not built: `cargo xtask test --only s3-minio` builds it, or --server names another binary")
}
