//! The policy for dependencies and spelling: `deny.toml`, `typos.toml`.
//!
//! The rules for licences, sources and bans are read from `deny.toml` and checked by this code, because no prebuilt
//! cargo-deny can read the metadata of this version of cargo. If cargo-deny is installed it runs as well, including
//! the check for advisories, which downloads a database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::jars::{has, hash};
use crate::report::{Outcome, Report, say};
use crate::rust::run;

const REQUIREMENTS: &str = "tests/tools/requirements.txt";

/// The suites `deny` and `typos`.
pub(crate) fn check(report: &mut Report) {
    report.suite("deny", deny);
    report.suite("typos", typos);
}

#[derive(Debug)]
struct Policy {
    licences: BTreeSet<String>,
    /// The additional licences of single crates.
    exceptions: BTreeMap<String, BTreeSet<String>>,
    banned: BTreeSet<String>,
    registries: BTreeSet<String>,
}

fn strings(value: Option<&toml::Value>) -> BTreeSet<String> {
    let list = value.and_then(toml::Value::as_array);
    let texts = list.into_iter().flatten().filter_map(toml::Value::as_str);
    texts.map(str::to_owned).collect()
}

impl Policy {
    fn read() -> Result<Self> {
        let table: toml::Table = std::fs::read_to_string("deny.toml")?.parse()?;
        let at = |section: &str, key: &str| table.get(section).and_then(|found| found.get(key));
        let names = |value: Option<&toml::Value>| {
            let list = value.and_then(toml::Value::as_array).into_iter().flatten();
            list.filter_map(|one| one.get("name")?.as_str().map(str::to_owned))
                .collect()
        };
        let mut exceptions = BTreeMap::new();
        let listed = at("licenses", "exceptions").and_then(toml::Value::as_array);
        for one in listed.into_iter().flatten() {
            let name = one.get("name").and_then(toml::Value::as_str);
            let name = name.context("an exception doesn't name its crate")?;
            exceptions.insert(name.to_owned(), strings(one.get("allow")));
        }
        Ok(Self {
            licences: strings(at("licenses", "allow")),
            exceptions,
            banned: names(at("bans", "deny")),
            registries: strings(at("sources", "allow-registry")),
        })
    }

    /// The violations of one package.
    fn judge(&self, package: &Value) -> Vec<String> {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let name = text("name");
        let mut wrong = Vec::new();
        if self.banned.contains(name) {
            wrong.push(format!("{name} is banned"));
        }
        let source = text("source");
        let known = |registry: &String| source == format!("registry+{registry}");
        if !source.is_empty() && !self.registries.iter().any(known) {
            wrong.push(format!("{name} comes from {source}"));
        }
        let own = self.exceptions.get(name);
        let allowed = |licence: &str| {
            self.licences.contains(licence) || own.is_some_and(|own| own.contains(licence))
        };
        match satisfied(text("license"), &allowed) {
            Ok(true) => {}
            Ok(false) => wrong.push(format!("{name} has the licence {}", text("license"))),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
        wrong
    }
}

/// Whether the allowed licences satisfy a licence expression.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool> {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any_of(&mut words, allowed)?;
    ensure!(
        words.next().is_none(),
        "the licence expression is malformed: {expression}"
    );
    Ok(met)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Result<bool> {
    let mut met = all_of(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words, allowed)?;
    }
    Ok(met)
}

fn all_of(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Result<bool> {
    let mut met = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed)?;
    }
    Ok(met)
}

fn one(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Result<bool> {
    let word = words
        .next()
        .context("the expression ends before a licence")?;
    if word == "(" {
        let met = any_of(words, allowed)?;
        ensure!(words.next() == Some(")"), "a parenthesis isn't closed");
        return Ok(met);
    }
    match words.next_if_eq(&"WITH") {
        Some(_) => {
            let exception = words
                .next()
                .context("WITH isn't followed by an exception")?;
            Ok(allowed(&format!("{word} WITH {exception}")))
        }
        None => Ok(allowed(word)),
    }
}

fn deny() -> Result<Outcome> {
    let policy = Policy::read()?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--locked", "--format-version", "1"])
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed");
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for package in packages {
        wrong.extend(policy.judge(package));
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        versions
            .entry(text("name"))
            .or_default()
            .push(text("version"));
    }
    for (name, versions) in versions.iter().filter(|(_, all)| all.len() > 1) {
        say(&format!(
            "warning: {name} in versions {}",
            versions.join(", ")
        ));
    }
    if !wrong.is_empty() {
        bail!("deny.toml does not allow:\n{}", wrong.join("\n"));
    }
    if has("cargo-deny", "--version") {
        run(Command::new("cargo-deny").args(["check", "all"]))?;
    } else {
        say("skipped: advisories are not checked, because cargo-deny is not installed");
    }
    Ok(Outcome::Passed)
}

fn typos() -> Result<Outcome> {
    if !has("python3", "--version") {
        return Ok(Outcome::Skipped("python3 is missing".to_owned()));
    }
    let stamp = hash(&std::fs::read(REQUIREMENTS)?);
    let venv = PathBuf::from(format!("target/test-deps/tools-{}", &stamp[..12]));
    let done = venv.join("done");
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--require-hashes"]);
        run(pip.args(["--no-deps", "-r", REQUIREMENTS]))?;
        std::fs::write(&done, "")?;
    }
    run(Command::new(venv.join("bin/typos")).arg(Path::new(".")))?;
    Ok(Outcome::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_expression_is_met_by_one_way_through_it() {
        let allowed = |licence: &str| matches!(licence, "MIT" | "Apache-2.0 WITH LLVM-exception");
        let met = |expression| satisfied(expression, &allowed).ok();
        assert_eq!(met("MIT OR GPL-3.0"), Some(true));
        assert_eq!(met("GPL-3.0/MIT"), Some(true));
        assert_eq!(met("MIT AND GPL-3.0"), Some(false));
        assert_eq!(met("(GPL-3.0 OR MIT) AND MIT"), Some(true));
        assert_eq!(met("Apache-2.0 WITH LLVM-exception OR GPL-3.0"), Some(true));
        assert_eq!(met("Apache-2.0"), Some(false));
        assert_eq!(met(""), None);
        assert_eq!(met("(MIT"), None);
    }

    #[test]
    fn what_a_package_may_not_be_is_told() {
        let policy = Policy {
            licences: BTreeSet::from(["MIT".to_owned()]),
            exceptions: BTreeMap::from([("b".to_owned(), BTreeSet::from(["MPL-2.0".to_owned()]))]),
            banned: BTreeSet::from(["c".to_owned()]),
            registries: BTreeSet::from(["https://one".to_owned()]),
        };
        let judge = |name: &str, licence: &str, source: &str| {
            let package = serde_json::json!({"name": name, "license": licence, "source": source});
            policy.judge(&package).len()
        };
        assert_eq!(judge("a", "MIT", "registry+https://one"), 0);
        assert_eq!(judge("a", "MPL-2.0", "registry+https://one"), 1);
        assert_eq!(judge("b", "MPL-2.0", ""), 0);
        assert_eq!(judge("c", "GPL-3.0", "git+https://two"), 3);
    }
}
