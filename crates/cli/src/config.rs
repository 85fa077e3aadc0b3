//! `highwater config`, and reading the configuration for every command.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use highwater_broker::config::{Config, File, Host};

use crate::{ConfigArgs, cgroup};

/// Parses `KEY=VALUE`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text} is not of the form KEY=VALUE"))?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// Reads the configuration from all its sources.
pub(crate) fn load(args: &ConfigArgs) -> anyhow::Result<Config> {
    let file = args.config.as_deref().map(Text::read).transpose()?;
    let host = Host {
        name: rustix::system::uname()
            .nodename()
            .to_str()
            .ok()
            .map(str::to_owned),
        memory_bytes: cgroup::memory_max(),
    };
    Ok(Config::load_on(
        &host,
        file.as_ref().map(Text::file),
        environment()?,
        &args.settings,
    )?)
}

/// A file of settings that was read.
#[derive(Debug)]
pub(crate) struct Text {
    name: String,
    text: String,
}

impl Text {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read the configuration {name}"))?;
        Ok(Self { name, text })
    }

    /// What the parsers of settings take.
    pub(crate) fn file(&self) -> File<'_> {
        let (name, text) = (&self.name, &self.text);
        File { name, text }
    }
}

/// The environment. A variable that is not UTF-8 cannot be a setting.
pub(crate) fn environment() -> anyhow::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else {
            continue;
        };
        match value.into_string() {
            Ok(value) => found.push((name, value)),
            Err(value) if name.starts_with("HIGHWATER_") => {
                anyhow::bail!("{name} is not UTF-8: {}", value.display())
            }
            Err(_) => {}
        }
    }
    Ok(found)
}

/// Prints the effective configuration.
pub(crate) fn print(args: &ConfigArgs) -> anyhow::Result<()> {
    say(&load(args)?.render())
}

/// Writes to standard output; a closed pipe is not an error.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes to standard error, and ignores a failure.
pub(crate) fn complain(text: &str) {
    if std::io::stderr().write_all(text.as_bytes()).is_err() {
        // There is no other place to report it.
    }
}
