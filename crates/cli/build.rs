//! Tells the binary which commit it is built from.
//!
//! `HIGHWATER_COMMIT` names it where there is no git (a source archive, an image's build); else git is asked.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=HIGHWATER_COMMIT");
    let commit = match std::env::var("HIGHWATER_COMMIT") {
        Ok(commit) if !commit.is_empty() => commit,
        _ => git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned()),
    };
    // what changes with each commit and each checkout
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--path-format=absolute", "--git-path", name]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    println!("cargo:rustc-env=HIGHWATER_COMMIT={commit}");
}

/// What git prints; `None` without git or a repository.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
