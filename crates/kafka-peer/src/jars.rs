//! Jars from Maven at pinned versions, each checked against its pinned SHA-256.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::process::run;

/// Whether a program is installed.
pub fn has(program: &str, version_flag: &str) -> bool {
    Command::new(program)
        .arg(version_flag)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// The SHA-256 in hexadecimal digits.
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Fetches the jars that `pom.xml` in `from` names, with all dependencies, to a directory under `target/test-deps`.
///
/// # Errors
/// Maven can't fetch the jars, or a jar does not match `checksums.txt` in `from`.
pub fn fetch(from: &str, name: &str) -> Result<PathBuf> {
    let dir = PathBuf::from(format!("target/test-deps/{name}"));
    let from = Path::new(from);
    let pom = std::fs::canonicalize(from.join("pom.xml"))?;
    let sums = std::fs::read_to_string(from.join("checksums.txt"))?;
    // several Maven processes must not write to Maven's local repository at the same time
    static FETCHING: Mutex<()> = Mutex::new(());
    let fetching = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
    if !dir.join("done").exists() {
        std::fs::create_dir_all(&dir)?;
        let out = std::fs::canonicalize(&dir)?;
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-ntp", "-f"]).arg(pom);
        maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
        run(maven.arg(format!("-DoutputDirectory={}", out.display())))?;
        std::fs::write(dir.join("done"), "")?;
    }
    drop(fetching);
    for line in sums.lines() {
        let (sum, name) = line
            .split_once("  ")
            .context("a line is a sum and a name")?;
        let jar = dir.join(name);
        let bytes = std::fs::read(&jar).with_context(|| format!("no {}", jar.display()))?;
        if hash(&bytes) != sum {
            bail!("{name} is not what was pinned");
        }
    }
    Ok(dir)
}
