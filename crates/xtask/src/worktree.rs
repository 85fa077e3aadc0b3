//! The files of one commit in a directory of their own, as a worktree of git.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::rust::run;

/// Puts the files of a commit into a directory, in place of what is there.
///
/// # Errors
/// The directory can't be replaced, or there is no such commit.
pub(crate) fn add(tree: &Path, commit: &str) -> Result<()> {
    if tree.exists() {
        std::fs::remove_dir_all(tree)?;
    }
    run(Command::new("git").args(["worktree", "prune"]))?;
    let mut add = Command::new("git");
    add.args(["worktree", "add", "--quiet", "--detach"]);
    run(add.arg(tree).arg(commit))
}

/// Removes the directory.
///
/// # Errors
/// Git refuses to.
pub(crate) fn remove(tree: &Path) -> Result<()> {
    let mut remove = Command::new("git");
    run(remove.args(["worktree", "remove", "--force"]).arg(tree))
}
