//! S3-compatible servers for the suites: Go modules whose versions and checksums their `go.sum` pins.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result};
use highwater_kafka_peer::process::{end, get, wait};

use crate::broker::free_port;
use crate::programs;
use crate::time::pause;

/// The bucket that exists from the start.
pub(crate) const BUCKET: &str = "highwater";
const USER: &str = "highwater";
const PASSWORD: &str = "highwater-secret";
/// The name and the 32 bytes of a key for SSE-KMS.
const KMS_KEY: &str = "highwater-key:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const START_TRIES: u32 = 400;
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Options of a server beyond its kind.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) address: String,
    /// The directory of its certificate, if it is to use TLS; only for MinIO.
    pub(crate) certificates: Option<PathBuf>,
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// A server with its own port and empty directory; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) endpoint: String,
}

/// The kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// MinIO: widely used, no longer developed.
    Minio,
    /// Versity's gateway to a directory: maintained; supports neither lifecycle rules nor KMS.
    Versitygw,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Minio => "minio",
            Self::Versitygw => "versitygw",
        }
    }

    /// The server's binary, which is built once under `target/`; `None` if there is no Go.
    pub(crate) fn build(self) -> Result<Option<PathBuf>> {
        if !programs::has_go() {
            return Ok(None);
        }
        let program = match self {
            Self::Minio => programs::MINIO,
            Self::Versitygw => programs::VERSITYGW,
        };
        program.build().map(Some)
    }

    /// The command without its last argument, the directory for the data.
    fn command(self, binary: &Path, address: &str) -> Command {
        let mut command = Command::new(binary);
        match self {
            Self::Minio => command
                .args(["server", "--quiet", "--address", address])
                .envs([
                    ("MINIO_ROOT_USER", USER),
                    ("MINIO_ROOT_PASSWORD", PASSWORD),
                    ("MINIO_KMS_SECRET_KEY", KMS_KEY),
                    ("MINIO_BROWSER", "off"),
                    // accepts a directory on any file system
                    ("MINIO_CI_CD", "1"),
                ]),
            Self::Versitygw => command
                .args(["--port", address, "--health", "/health", "posix"])
                .envs([
                    ("ROOT_ACCESS_KEY_ID", USER),
                    ("ROOT_SECRET_ACCESS_KEY", PASSWORD),
                ]),
        };
        command
    }

    fn ready(self) -> &'static str {
        match self {
            Self::Minio => "/minio/health/ready",
            Self::Versitygw => "/health",
        }
    }
}

impl Server {
    pub(crate) fn start(kind: Kind, binary: &Path, name: &str) -> Result<Self> {
        let options = Options {
            address: format!("127.0.0.1:{}", free_port()?),
            ..Options::default()
        };
        let address = options.address.clone();
        let ready = || Ok(get(&address, kind.ready())?.starts_with("HTTP/1.1 200"));
        Self::start_with(kind, binary, name, options, ready)
    }

    /// Starts a server and waits until `ready` says that it is ready.
    pub(crate) fn start_with(
        kind: Kind,
        binary: &Path,
        name: &str,
        options: Options,
        ready: impl Fn() -> Result<bool>,
    ) -> Result<Self> {
        let dir = Path::new("target/test-run").join(format!("{}-{name}", kind.name()));
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        // a subdirectory of the data is a bucket
        let data = dir.join("data");
        std::fs::create_dir_all(data.join(BUCKET))?;
        let log = dir.join("server.log");
        let output = File::create(&log)?;
        let address = options.address;
        let mut command = kind.command(binary, &address);
        let mut scheme = "http";
        if let Some(certificates) = options.certificates {
            command.arg("--certs-dir").arg(certificates);
            scheme = "https";
        }
        let child = command
            .arg(data)
            .envs(options.environment)
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start the object store")?;
        let mut server = Self {
            child,
            endpoint: format!("{scheme}://{address}"),
        };
        wait(&mut server.child, &address, &log)?;
        for _ in 0..START_TRIES {
            if ready()? {
                return Ok(server);
            }
            pause(TRY_EVERY);
        }
        anyhow::bail!(
            "the object store on {address} is not ready: {}",
            log.display()
        )
    }

    /// The environment variables with which a process finds the server.
    pub(crate) fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("AWS_ACCESS_KEY_ID", USER.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", PASSWORD.to_owned()),
            ("HIGHWATER_OBJECT_STORAGE_ENDPOINT", self.endpoint.clone()),
        ]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
