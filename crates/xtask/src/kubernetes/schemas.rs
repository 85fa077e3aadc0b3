//! JSON schemas of Kubernetes' kinds for kubeconform, made from the API's own description. Unknown fields are refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::jars::hash;

const SHARED: &str = "definitions.json";

/// The directory with a schema for each kind, which is made once.
pub(crate) fn make() -> Result<PathBuf> {
    let description = std::fs::read(swagger()?)?;
    let name = format!("schemas-{}", &hash(&description)[..12]);
    let dir = Path::new("target/test-deps").join(name);
    if dir.exists() {
        return Ok(dir);
    }
    let fresh = dir.with_extension("new");
    std::fs::create_dir_all(&fresh)?;
    let description: Value = serde_json::from_slice(&description)?;
    let definitions = description["definitions"].as_object();
    let definitions = definitions.context("the API's description has no definitions")?;
    let strict: Map<String, Value> = definitions
        .iter()
        .map(|(name, definition)| (name.clone(), named(name, definition)))
        .collect();
    for (name, definition) in definitions {
        let kinds = definition["x-kubernetes-group-version-kind"].as_array();
        for kind in kinds.into_iter().flatten() {
            let file = fresh.join(file_name(kind));
            std::fs::write(file, serde_json::to_vec(&strict[name])?)?;
        }
    }
    let shared = json!({"definitions": strict});
    std::fs::write(fresh.join(SHARED), serde_json::to_vec(&shared)?)?;
    std::fs::rename(fresh, &dir)?;
    Ok(dir)
}

/// kubeconform's name of a kind's schema, such as `statefulset-apps-v1.json`.
fn file_name(kind: &Value) -> String {
    let text = |key: &str| kind[key].as_str().unwrap_or_default().to_lowercase();
    let group = text("group");
    let group = group.split('.').next().unwrap_or_default();
    match group {
        "" => format!("{}-{}.json", text("kind"), text("version")),
        group => format!("{}-{group}-{}.json", text("kind"), text("version")),
    }
}

fn named(name: &str, definition: &Value) -> Value {
    // both are written as strings and as numbers, which the description does not say
    if name.ends_with(".Quantity") || name.ends_with(".IntOrString") {
        return json!({"type": ["string", "number"]});
    }
    strict(definition)
}

fn strict(value: &Value) -> Value {
    match value {
        Value::Array(all) => all.iter().map(strict).collect(),
        Value::Object(fields) => {
            let mut out = Map::new();
            for (key, field) in fields {
                match field.as_str().and_then(|text| text.strip_prefix("#/")) {
                    Some(path) if key == "$ref" => {
                        out.insert(key.clone(), json!(format!("{SHARED}#/{path}")));
                    }
                    _ if key.starts_with("x-kubernetes") => {}
                    _ => {
                        out.insert(key.clone(), strict(field));
                    }
                }
            }
            if out.get("properties").is_some_and(Value::is_object) {
                out.entry("additionalProperties").or_insert(json!(false));
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}

/// The schema of Kubernetes' API, from its module.
fn swagger() -> Result<PathBuf> {
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", "k8s.io/kubernetes"]);
    let output = go.current_dir("tests/servers/kubernetes").output()?;
    let told: Value =
        serde_json::from_slice(&output.stdout).context("go says nothing of k8s.io/kubernetes")?;
    let dir = told["Dir"]
        .as_str()
        .with_context(|| format!("k8s.io/kubernetes can't be fetched: {told}"))?;
    Ok(Path::new(dir).join("api/openapi-spec/swagger.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_the_name_that_kubeconform_looks_for() {
        let kind = |group, version, kind| json!({"group": group, "version": version, "kind": kind});
        assert_eq!(file_name(&kind("", "v1", "Service")), "service-v1.json");
        let policy = kind("networking.k8s.io", "v1", "NetworkPolicy");
        assert_eq!(file_name(&policy), "networkpolicy-networking-v1.json");
    }

    #[test]
    fn unknown_fields_are_refused_and_references_lead_to_one_file() {
        let made = strict(&json!({
            "properties": {"a": {"$ref": "#/definitions/A"}, "b": {"type": "object", "x-kubernetes-x": 1}},
        }));
        let expected = json!({
            "properties": {"a": {"$ref": "definitions.json#/definitions/A"}, "b": {"type": "object"}},
            "additionalProperties": false,
        });
        assert_eq!(made, expected);
    }
}
