//! Sets the commit that the binary is built from.
//!
//! `HIGHWATER_COMMIT` names the commit where there is no git (a source archive, the build of an image); otherwise git
//! does.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=HIGHWATER_COMMIT");
    let commit = match std::env::var("HIGHWATER_COMMIT") {
        Ok(commit) if !commit.is_empty() => commit,
        _ => git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned()),
    };
    // These files change with each commit and each checkout.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--path-format=absolute", "--git-path", name]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    println!("cargo:rustc-env=HIGHWATER_COMMIT={commit}");
}

/// The output of a git command, or `None` without git or a repository.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
