//! A test of one package finds the dependencies of the whole workspace already built: `crates/test-features`.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Result, ensure};

/// A package that takes minutes to build.
const SLOW: &str = "aws-sdk-s3 ";

/// The lines of `cargo tree` about these packages: each dependency of their tests, with its features.
fn tree(packages: &[&str]) -> Result<BTreeSet<String>> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--edges", "normal,build,dev"]);
    tree.args(["--prefix", "none", "--format", "{p} {f}"]);
    let output = tree.args(packages).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout)?;
    let line = |line: &str| line.trim_end_matches(" (*)").trim_end().to_owned();
    let lines = text.lines().filter(|line| !line.is_empty());
    Ok(lines.map(line).collect())
}

/// Whether a line is about a package of the workspace, which has a path and is quick to build.
fn is_ours(line: &str) -> bool {
    line.contains("(/")
}

#[test]
fn a_test_of_one_package_builds_no_slow_dependency_with_other_features() -> Result<()> {
    let all = tree(&["--workspace"])?;
    let mut wrong = Vec::new();
    let mut slow = 0;
    for member in tree(&["--workspace", "--depth", "0"])? {
        let name = member.split(' ').next().unwrap_or_default();
        let own = tree(&["--package", name])?;
        if own.iter().any(|line| line.starts_with(SLOW)) {
            slow += 1;
            let others = own.difference(&all).filter(|line| !is_ours(line));
            wrong.extend(others.map(|line| format!("{name}: {line}")));
        }
    }
    assert!(slow > 5, "the packages are found");
    assert!(
        wrong.is_empty(),
        "highwater-test-features must ask for what the workspace does: {wrong:#?}"
    );
    Ok(())
}
