//! The list of everything in the image, in CycloneDX's JSON: the crates of the binary and the packages of the base.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::base::Package;

const BINARY: &str = "highwater";

/// The document.
pub(crate) fn document(packages: &[Package]) -> Result<Vec<u8>> {
    let metadata = metadata()?;
    let sums = checksums()?;
    let mut components = crates(&metadata, &sums)?;
    components.extend(packages.iter().map(|package| {
        let Package { name, version, .. } = package;
        json!({
            "type": "library",
            "name": name,
            "version": version,
            "purl": format!("pkg:deb/debian/{name}@{version}?arch=amd64"),
        })
    }));
    let own = package_of(&metadata, BINARY)?;
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {
            "type": "application",
            "name": BINARY,
            "version": own["version"],
            "licenses": [{"expression": own["license"]}],
        }},
        "components": components,
    });
    Ok(serde_json::to_vec_pretty(&document)?)
}

fn metadata() -> Result<Value> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--locked", "--format-version", "1"]);
    cargo.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = cargo.output()?;
    ensure!(output.status.success(), "cargo metadata failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The SHA-256 of each crate of a registry, by name and version.
fn checksums() -> Result<BTreeMap<(String, String), String>> {
    let lock: toml::Table = std::fs::read_to_string("Cargo.lock")?.parse()?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let packages = packages.context("Cargo.lock has no packages")?;
    let text = |package: &toml::Value, key: &str| Some(package.get(key)?.as_str()?.to_owned());
    let sums = packages.iter().filter_map(|package| {
        let name = (text(package, "name")?, text(package, "version")?);
        Some((name, text(package, "checksum")?))
    });
    Ok(sums.collect())
}

fn package_of<'a>(metadata: &'a Value, name: &str) -> Result<&'a Value> {
    let packages = metadata["packages"].as_array();
    let mut packages = packages.into_iter().flatten();
    let found = packages.find(|package| package["name"] == name && package["source"].is_null());
    found.with_context(|| format!("there is no package {name}"))
}

/// The crates that are compiled into the binary, itself left out.
fn crates(metadata: &Value, sums: &BTreeMap<(String, String), String>) -> Result<Vec<Value>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nodes = metadata["resolve"]["nodes"]
        .as_array()
        .context("no dependencies")?;
    let by_id: BTreeMap<String, &Value> =
        nodes.iter().map(|node| (text(&node["id"]), node)).collect();
    let own = text(&package_of(metadata, BINARY)?["id"]);
    let mut reached = BTreeSet::new();
    let mut next = vec![own.clone()];
    while let Some(id) = next.pop() {
        let node = by_id
            .get(&id)
            .with_context(|| format!("no dependencies of {id}"))?;
        if !reached.insert(id) {
            continue;
        }
        for dependency in node["deps"].as_array().into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array();
            // null is a normal dependency; build and dev dependencies are not in the binary
            if kinds
                .into_iter()
                .flatten()
                .any(|kind| kind["kind"].is_null())
            {
                next.push(text(&dependency["pkg"]));
            }
        }
    }
    reached.remove(&own);
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let packages = packages.filter(|package| reached.contains(&text(&package["id"])));
    let described = packages.map(|package| {
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let mut component = json!({
            "type": "library",
            "name": name,
            "version": version,
            "purl": format!("pkg:cargo/{name}@{version}"),
        });
        if let Some(licence) = package["license"].as_str() {
            component["licenses"] = json!([{"expression": licence.replace('/', " OR ")}]);
        }
        if let Some(sum) = sums.get(&(name, version)) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
        }
        component
    });
    Ok(described.collect())
}
