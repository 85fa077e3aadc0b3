//! The checks that need nothing but the Rust toolchain.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
pub(crate) use highwater_kafka_peer::process::run;

use crate::report::{Outcome, Report};

const MATRIX_BEGIN: &str = "<!-- api-matrix -->\n";
const MATRIX_END: &str = "<!-- /api-matrix -->";

/// What takes seconds: the format, the generated files.
pub(crate) fn quick(report: &mut Report) {
    report.suite("fmt", || cargo(&["fmt", "--all", "--check"]));
    report.suite("codegen", || {
        let schema = Path::new("protocol/schema");
        highwater_codegen::generate(schema, Path::new("protocol/src/generated"), true)?;
        Ok(Outcome::Passed)
    });
}

/// The build, and every test of the workspace.
pub(crate) fn tests(report: &mut Report) {
    report.suite("build", || {
        cargo(&["build", "--release", "--locked", "--package", "highwater"])
    });
    report.suite("readme", check_matrix);
    report.suite("tests", || {
        cargo(&["test", "--release", "--locked", "--workspace", "--quiet"])
    });
}

/// Clippy, of all there is.
pub(crate) fn lints(report: &mut Report) {
    report.suite("clippy", || {
        let clippy = [
            "clippy",
            "--release",
            "--locked",
            "--workspace",
            "--all-targets",
            "--features",
            "highwater-object-storage/s3-server",
            "--",
        ];
        cargo(&[&clippy[..], &["-D", "warnings"]].concat())
    });
}

/// Builds what the suites with clients run, for a suite that is run alone.
pub(crate) fn build_binaries() -> Result<()> {
    let build = ["build", "--release", "--locked", "--bins"];
    let packages = ["--package", "highwater", "--package", "highwater-tests"];
    cargo(&[&build[..], &packages].concat())?;
    Ok(())
}

/// The documentation of every crate, without a warning. (The doc tests are among the tests.)
pub(crate) fn docs(report: &mut Report) {
    report.suite("doc", || {
        let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut doc = Command::new(program);
        doc.args(["doc", "--release", "--locked", "--workspace", "--no-deps"]);
        run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
        Ok(Outcome::Passed)
    });
}

/// Damaged input for everything that reads from the network, 20 seconds each.
pub(crate) fn fuzz(report: &mut Report) {
    report.suite("fuzz", || {
        let run = [
            "run",
            "--release",
            "--locked",
            "--quiet",
            "--package",
            "highwater-fuzz",
        ];
        cargo(&[&run[..], &["--", "all", "--seconds", "20"]].concat())
    });
}

/// Runs cargo in the workspace.
pub(crate) fn cargo(args: &[&str]) -> Result<Outcome> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    run(Command::new(program).args(args))?;
    Ok(Outcome::Passed)
}

fn matrix() -> Result<String> {
    let output = Command::new("target/release/highwater")
        .arg("api-matrix")
        .output()
        .context("cannot run the binary")?;
    Ok(String::from_utf8(output.stdout)?)
}

fn split(readme: &str) -> Result<(usize, usize)> {
    let from = readme
        .find(MATRIX_BEGIN)
        .context("the README has a place for the matrix")?;
    let from = from + MATRIX_BEGIN.len();
    let to = readme
        .find(MATRIX_END)
        .context("the README's matrix has an end")?;
    Ok((from, to))
}

fn check_matrix() -> Result<Outcome> {
    let readme = std::fs::read_to_string("README.md")?;
    let (from, to) = split(&readme)?;
    if readme[from..to] != matrix()? {
        bail!("the README's API matrix is not the binary's: run `cargo xtask codegen`");
    }
    Ok(Outcome::Passed)
}

/// Writes the README's matrix anew.
pub(crate) fn write_matrix() -> Result<()> {
    cargo(&["build", "--release", "--package", "highwater"])?;
    let readme = std::fs::read_to_string("README.md")?;
    let (from, to) = split(&readme)?;
    let fresh = format!("{}{}{}", &readme[..from], matrix()?, &readme[to..]);
    std::fs::write("README.md", fresh)?;
    Ok(())
}
