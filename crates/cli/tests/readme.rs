//! Statements of README.md about the binary.

use std::process::Command;

use anyhow::{Context, Result};

#[test]
fn the_readme_lists_the_apis_that_the_binary_serves() -> Result<()> {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(readme)?;
    let (_, table) = readme
        .split_once("<!-- api-matrix -->\n")
        .context("the README has no table of APIs")?;
    let (table, _) = table
        .split_once("<!-- /api-matrix -->")
        .context("the README's table of APIs has no end")?;
    let mut binary = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let output = binary.arg("api-matrix").output()?;
    assert_eq!(
        table,
        String::from_utf8(output.stdout)?,
        "`cargo xtask codegen` writes the table"
    );
    Ok(())
}
