//! Plants known kinds of bugs, one after the other, and lets the simulation of a cluster find each.
//!
//! A bug is a patch in `crates/sim/planted`, which takes one rule out of the code and says so in its first lines. The suite
//! `tests` checks that every patch still applies.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::report::say;
use crate::rust::run;
use crate::worktree;

/// The directory of the patches.
const PATCHES: &str = "crates/sim/planted";
const DIR: &str = "target/planted";
/// How many simulations run beside each other, and beside the build of the next one.
const AT_ONCE: usize = 2;

/// A simulation with a bug.
struct Searching {
    name: String,
    process: Child,
    told: PathBuf,
}

/// Plants each bug in the last commit, or only those that are named, and runs seeds from 0 on until one fails.
///
/// # Errors
/// A bug that none of the seeds finds; a patch that does not apply, or code that does not compile with it.
pub(crate) fn find(names: &[String], seeds: u64) -> Result<()> {
    let all = all()?;
    let unknown = names.iter().find(|name| !all.contains(name));
    if let Some(unknown) = unknown {
        bail!("{PATCHES} has no {unknown}.patch, but {}", all.join(", "));
    }
    let asked = all
        .iter()
        .filter(|name| names.is_empty() || names.contains(name));
    let dir = Path::new(DIR);
    std::fs::create_dir_all(dir)?;
    let tree = dir.join("tree");
    worktree::add(&tree, "HEAD")?;
    let mut searching: Vec<Searching> = Vec::new();
    let mut missed = Vec::new();
    for name in asked {
        let binary = plant(&tree, name)?;
        if searching.len() == AT_ONCE {
            missed.extend(searching.remove(0).end(seeds)?);
        }
        searching.push(Searching::begin(name, &binary, seeds)?);
    }
    for one in searching {
        missed.extend(one.end(seeds)?);
    }
    worktree::remove(&tree)?;
    ensure!(missed.is_empty(), "not found: {}", missed.join(", "));
    Ok(())
}

/// The names of the bugs.
fn all() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in std::fs::read_dir(PATCHES).with_context(|| PATCHES)? {
        let path = file?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        names.push(name.context("the name is not UTF-8")?.to_owned());
    }
    names.sort();
    Ok(names)
}

/// Builds the simulation with a bug, beside the other builds of the workspace, with which it shares what it depends on.
fn plant(tree: &Path, name: &str) -> Result<PathBuf> {
    let patch = Path::new(PATCHES).join(format!("{name}.patch"));
    let patch = std::fs::canonicalize(patch)?;
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args(args).current_dir(tree);
        git
    };
    run(&mut git(&["checkout", "--quiet", "."]))?;
    run(git(&["apply"]).arg(patch))?;
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--release", "--locked"]);
    build.args(["--package", "highwater-sim", "--bins"]);
    // cargo takes its configuration from this directory, so that it builds the dependencies once for both trees
    build.arg("--manifest-path").arg(tree.join("Cargo.toml"));
    build.args(["--target-dir", "target"]);
    run(&mut build)?;
    let binary = Path::new(DIR).join(name);
    std::fs::copy("target/release/highwater-sim", &binary)?;
    Ok(binary)
}

impl Searching {
    fn begin(name: &str, binary: &Path, seeds: u64) -> Result<Self> {
        let told = Path::new(DIR).join(format!("{name}.log"));
        let mut simulation = Command::new(binary);
        simulation.args([
            "--cluster",
            "--until-failure",
            "--count",
            &seeds.to_string(),
        ]);
        let process = simulation
            .stdout(File::create(&told)?)
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            name: name.to_owned(),
            process,
            told,
        })
    }

    /// Waits for the first seed that fails, and says what was found. Returns the name of a bug that was not.
    fn end(mut self, seeds: u64) -> Result<Option<String>> {
        let passed = self.process.wait()?.success();
        let told = std::fs::read_to_string(&self.told)?;
        let name = self.name;
        if passed {
            say(&format!("{name}: none of {seeds} seeds fails"));
            return Ok(Some(name));
        }
        let last = told.lines().rfind(|line| line.starts_with("seed"));
        say(&format!("{name}: {}", last.unwrap_or("ended by itself")));
        Ok(None)
    }
}
