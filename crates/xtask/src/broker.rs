//! A real broker process for a client suite.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A broker on a port and a directory of its own; killed when dropped.
pub(crate) struct Broker {
    child: Child,
    pub(crate) address: String,
    log: PathBuf,
}

const START_TRIES: u32 = 600;
const TRY_EVERY: Duration = Duration::from_millis(50);

/// A port that nobody listens on.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until a process listens; an error with its log when it ends before.
pub(crate) fn wait(child: &mut Child, address: &str, log: &Path) -> Result<()> {
    for _ in 0..START_TRIES {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            let log = std::fs::read_to_string(log)?;
            bail!("the broker ended with {status}: {log}");
        }
        #[expect(clippy::disallowed_methods, reason = "a tool that waits for a process")]
        std::thread::sleep(TRY_EVERY);
    }
    bail!("the broker does not listen on {address}");
}

/// Kills a process, if it still runs.
pub(crate) fn end(child: &mut Child) {
    if child.kill().is_err() || child.wait().is_err() {
        let mut err = std::io::stderr();
        if writeln!(err, "the broker {} could not be ended", child.id()).is_err() {
            // nobody reads
        }
    }
}

impl Broker {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let dir = Path::new("target/test-run").join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let log = dir.join("broker.log");
        let output = File::create(&log)?;
        let child = Command::new("target/release/highwater")
            .arg("start")
            .args(["--set", &format!("listeners=PLAINTEXT://{address}")])
            .args([
                "--set",
                &format!("highwater.data.dir={}", dir.join("data").display()),
            ])
            .args(["--set", "highwater.admin.listener="])
            .args(["--set", "highwater.upload.interval.ms=500"])
            .args(["--set", "group.initial.rebalance.delay.ms=300"])
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start the broker")?;
        let mut broker = Self {
            child,
            address,
            log,
        };
        wait(&mut broker.child, &broker.address, &broker.log)?;
        Ok(broker)
    }

    /// Stops it cleanly; an error when it logged something that a human must look at.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        crate::rust::run(Command::new("kill").args(["-TERM", &pid]))?;
        let status = self.child.wait()?;
        let log = std::fs::read_to_string(&self.log)?;
        if !status.success() {
            bail!("the broker ended with {status}: {log}");
        }
        let bad: Vec<&str> = log
            .lines()
            .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
            .collect();
        if !bad.is_empty() {
            bail!("the broker logged:\n{}", bad.join("\n"));
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
