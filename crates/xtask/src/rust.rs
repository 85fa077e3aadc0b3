//! The suites that need only the Rust toolchain.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow};
pub(crate) use highwater_kafka_peer::process::{output_of, run};

use crate::report::{Outcome, Report};

const MATRIX_BEGIN: &str = "<!-- api-matrix -->\n";
const MATRIX_END: &str = "<!-- /api-matrix -->";
/// The targets of the fuzzer, in two halves that run at the same time.
const FUZZED: [[&str; 2]; 2] = [["records", "decompression"], ["requests", "answers"]];

/// The suites that take seconds: the format and the generated files.
pub(crate) fn quick(report: &mut Report) {
    report.suite("fmt", || cargo(&["fmt", "--all", "--check"]));
    report.suite("codegen", || {
        let schema = Path::new("protocol/schema");
        highwater_codegen::generate(schema, Path::new("protocol/src/generated"), true)?;
        Ok(Outcome::Passed)
    });
}

/// Every test of the workspace.
pub(crate) fn tests(report: &mut Report) {
    report.suite("tests", || {
        let targets = ["--lib", "--bins", "--tests"];
        let test = ["test", "--release", "--locked", "--workspace", "--quiet"];
        cargo(&[&test[..], &targets].concat())
    });
}

/// The lints, of every target.
pub(crate) fn lints(report: &mut Report) {
    report.suite("clippy", || {
        let clippy = [
            "clippy",
            "--release",
            "--locked",
            "--workspace",
            "--all-targets",
            "--features",
            "highwater-object-storage/s3-server,highwater-tests/s3-server",
            "--",
        ];
        cargo(&[&clippy[..], &["-D", "warnings"]].concat())
    });
}

/// Builds the binary that is published, whose dependencies have fewer features than in the suite `tests`. It comes after
/// that suite, which leaves its own binary in the same place.
pub(crate) fn build(report: &mut Report) {
    report.suite("build", || {
        cargo(&["build", "--release", "--locked", "--package", "highwater"])
    });
}

/// Builds the binaries for suites with clients that are run without the suite `build`.
pub(crate) fn build_binaries() -> Result<()> {
    let build = ["build", "--release", "--locked", "--bins"];
    let packages = ["--package", "highwater", "--package", "highwater-tests"];
    cargo(&[&build[..], &packages].concat())?;
    Ok(())
}

/// Builds the documentation of every crate; fails on a warning. Then runs the doc tests, of which there are few or none:
/// starting them takes a second for each crate, which is why they aren't in the suite `tests`.
pub(crate) fn docs(report: &mut Report) {
    report.suite("doc", || {
        let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut doc = Command::new(program);
        doc.args(["doc", "--release", "--locked", "--workspace", "--no-deps"]);
        run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
        let test = ["test", "--release", "--locked", "--workspace", "--quiet"];
        cargo(&[&test[..], &["--doc"]].concat())
    });
}

/// Damaged input for everything that reads from the network, 20 seconds for each target, two targets at a time because
/// each has one thread. The build takes the whole workspace's features, so that it reuses what the suite `tests` has
/// built. It builds no other program: this one is run again by other suites, and must not be replaced.
pub(crate) fn fuzz(report: &mut Report) {
    report.suite("fuzz", || {
        let build = ["build", "--release", "--locked", "--quiet", "--workspace"];
        cargo(&[&build[..], &["--bin", "fuzz"]].concat())?;
        let fuzz = |targets: &[&str]| -> Result<()> {
            targets.iter().try_for_each(|target| {
                run(Command::new("target/release/fuzz").args([target, "--seconds", "20"]))
            })
        };
        std::thread::scope(|scope| {
            let others = scope.spawn(|| fuzz(&FUZZED[0]));
            fuzz(&FUZZED[1])?;
            others
                .join()
                .map_err(|_panic| anyhow!("a thread panicked"))?
        })?;
        Ok(Outcome::Passed)
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
        .context("the README has no place for the table of APIs")?;
    let from = from + MATRIX_BEGIN.len();
    let to = readme
        .find(MATRIX_END)
        .context("the README's table of APIs has no end")?;
    Ok((from, to))
}

/// Writes the README's table of APIs, which a test of the crate `highwater` compares.
pub(crate) fn write_matrix() -> Result<()> {
    cargo(&["build", "--release", "--package", "highwater"])?;
    let readme = std::fs::read_to_string("README.md")?;
    let (from, to) = split(&readme)?;
    let fresh = format!("{}{}{}", &readme[..from], matrix()?, &readme[to..]);
    std::fs::write("README.md", fresh)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_target_is_fuzzed() {
        let targets = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../protocol/fuzz/src/targets"
        );
        let files: BTreeSet<String> = std::fs::read_dir(targets)
            .unwrap()
            .map(|file| file.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .filter(|name| name != "mod")
            .collect();
        let fuzzed: BTreeSet<String> = FUZZED.concat().iter().map(|&name| name.into()).collect();
        assert_eq!(fuzzed, files);
    }
}
