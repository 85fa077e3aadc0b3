//! Kafka's message definitions in our schema language, and the Rust that is generated from it.
//!
//! [`convert`] makes the schema from the definitions in Kafka's clients jar (their facts, not their prose),
//! [`generate`] writes the checked-in Rust, and [`compare`] compares the schema with the definitions field by field.
//! [`sample`] makes bytes for tests.

mod definitions;
mod emit;
mod model;
mod sample;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
pub use model::{Field, Kind, Message, Struct, Type, Versions};
pub use sample::{Fill, NAME, sample};

/// Writes a `.kmsg` file for each client-facing message under `json_dir` (the jar's `common/message`).
///
/// # Errors
/// When a file can't be read, understood or written.
pub fn convert(json_dir: &Path, schema_dir: &Path) -> Result<usize> {
    let messages = definitions::read_all(json_dir)?;
    fs::create_dir_all(schema_dir)?;
    for message in &messages {
        let path = schema_dir.join(format!("{}.kmsg", emit::snake(&message.name)));
        fs::write(&path, text::print(message))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(messages.len())
}

/// Writes the Rust of every message that `served.txt` names; with `check` it only compares.
///
/// # Errors
/// When a file can't be read or written; with `check`, when a file differs.
pub fn generate(schema_dir: &Path, out_dir: &Path, check: bool) -> Result<usize> {
    let all = read_schema(schema_dir)?;
    let served = served(schema_dir)?;
    let mut files = BTreeMap::new();
    for name in &served {
        for suffix in ["Request", "Response"] {
            let full = format!("{name}{suffix}");
            let message = all
                .get(&full)
                .with_context(|| format!("there is no schema of {full}"))?;
            files.insert(
                format!("{}.rs", emit::snake(&full)),
                emit::message(message)?,
            );
        }
    }
    files.insert("api_key.rs".to_owned(), emit::api_keys(&all));
    let modules = emit::modules(files.keys().map(String::as_str), &served);
    files.insert("mod.rs".to_owned(), modules);
    fs::create_dir_all(out_dir)?;
    let mut different = Vec::new();
    for (name, source) in &files {
        let source = format(source).with_context(|| format!("cannot format {name}"))?;
        let path = out_dir.join(name);
        if fs::read_to_string(&path).ok().as_deref() == Some(&source) {
            continue;
        }
        if check {
            different.push(name.as_str());
        } else {
            fs::write(&path, source)?;
        }
    }
    if !different.is_empty() {
        bail!(
            "generated files differ (run `cargo xtask codegen`): {}",
            different.join(", ")
        );
    }
    Ok(files.len())
}

/// Returns a line for each difference between our schema and the definitions.
///
/// # Errors
/// When a file can't be read or understood.
pub fn compare(json_dir: &Path, schema_dir: &Path) -> Result<Vec<String>> {
    let mut ours = read_schema(schema_dir)?;
    let mut differences = Vec::new();
    for theirs in definitions::read_all(json_dir)? {
        match ours.remove(&theirs.name) {
            None => differences.push(format!("{}: missing in our schema", theirs.name)),
            Some(own) if own != theirs => {
                let own = text::print(&own);
                let theirs_text = text::print(&theirs);
                for (mine, other) in own.lines().zip(theirs_text.lines()) {
                    if mine != other {
                        differences.push(format!("{}: {mine} | {other}", theirs.name));
                    }
                }
                if own.lines().count() != theirs_text.lines().count() {
                    differences.push(format!("{}: another number of fields", theirs.name));
                }
            }
            Some(_) => {}
        }
    }
    differences.extend(
        ours.keys()
            .map(|name| format!("{name}: not among the definitions")),
    );
    Ok(differences)
}

/// The names in `served.txt`, which have no "Request" or "Response".
///
/// # Errors
/// When the file can't be read.
pub fn served(schema_dir: &Path) -> Result<Vec<String>> {
    let served = fs::read_to_string(schema_dir.join("served.txt"))?;
    let names = served
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(names.map(str::to_owned).collect())
}

/// All messages of our schema, by name.
///
/// # Errors
/// When a file can't be read or understood.
pub fn read_schema(dir: &Path) -> Result<BTreeMap<String, Message>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "kmsg")
        {
            let source = fs::read_to_string(&path)?;
            let message = text::parse(&source)
                .with_context(|| format!("cannot understand {}", path.display()))?;
            all.insert(message.name.clone(), message);
        }
    }
    Ok(all)
}

fn format(source: &str) -> Result<String> {
    use std::io::Write;
    let mut rustfmt = Command::new("rustfmt")
        .args([
            "--edition",
            "2024",
            "--emit",
            "stdout",
            "--config",
            "max_width=100",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run rustfmt")?;
    let mut input = rustfmt
        .stdin
        .take()
        .context("rustfmt has no standard input")?;
    input.write_all(source.as_bytes())?;
    drop(input);
    let output = rustfmt.wait_with_output()?;
    if !output.status.success() {
        bail!("rustfmt failed on:\n{source}");
    }
    Ok(String::from_utf8(output.stdout)?)
}
