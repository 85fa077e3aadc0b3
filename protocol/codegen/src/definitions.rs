//! Parses Kafka's own definitions, which are JSON with comments.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::model::{Field, Kind, Message, Struct, Type, Versions};

/// Parses every client-facing request and its response, by name.
pub(crate) fn read_all(dir: &Path) -> Result<Vec<Message>> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    paths.sort();
    let mut requests = Vec::new();
    let mut responses = Vec::new();
    for path in paths {
        let json = without_comments(&fs::read_to_string(&path)?);
        let value: Value = serde_json::from_str(&json)
            .with_context(|| format!("cannot understand {}", path.display()))?;
        match value["type"].as_str() {
            Some("request") if client_facing(&value) => {
                requests.push(message(&value, Kind::Request)?);
            }
            Some("response") => responses.push(message(&value, Kind::Response)?),
            _ => {}
        }
    }
    requests.retain(|request| !request.valid.is_empty());
    responses.retain(|response| requests.iter().any(|request| request.key == response.key));
    requests.extend(responses);
    requests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(requests)
}

fn client_facing(value: &Value) -> bool {
    value["listeners"]
        .as_array()
        .is_some_and(|listeners| listeners.iter().any(|listener| listener == "broker"))
}

fn without_comments(text: &str) -> String {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn message(value: &Value, kind: Kind) -> Result<Message> {
    let key = value["apiKey"].as_i64().context("an API key")?;
    let structs = match value["commonStructs"].as_array() {
        Some(structs) => structs
            .iter()
            .map(|one| {
                Ok(Struct {
                    name: string(one, "name")?,
                    versions: versions(one, "versions")?,
                    fields: fields(one)?,
                })
            })
            .collect::<Result<_>>()?,
        None => Vec::new(),
    };
    Ok(Message {
        name: string(value, "name")?,
        kind,
        key: i16::try_from(key)?,
        valid: versions(value, "validVersions")?,
        flexible: versions(value, "flexibleVersions")?,
        unstable: value["latestVersionUnstable"].as_bool().unwrap_or(false),
        fields: fields(value)?,
        structs,
    })
}

fn string(value: &Value, name: &str) -> Result<String> {
    let text = value[name]
        .as_str()
        .with_context(|| format!("{name} is missing in {value}"))?;
    Ok(text.to_owned())
}

fn versions(value: &Value, name: &str) -> Result<Versions> {
    match value[name].as_str() {
        Some(text) => Versions::parse(text),
        None => Ok(Versions::NONE),
    }
}

fn fields(value: &Value) -> Result<Vec<Field>> {
    match value["fields"].as_array() {
        Some(fields) => fields.iter().map(field).collect(),
        None => Ok(Vec::new()),
    }
}

fn field(value: &Value) -> Result<Field> {
    let tagged = match value["tag"].as_u64() {
        Some(tag) => Some((u32::try_from(tag)?, versions(value, "taggedVersions")?)),
        None => None,
    };
    let default = match &value["default"] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        other => bail!("the default has an unknown kind: {other}"),
    };
    let flexible = match value["flexibleVersions"].as_str() {
        Some(text) => Some(Versions::parse(text)?),
        None => None,
    };
    Ok(Field {
        name: string(value, "name")?,
        ty: ty(&string(value, "type")?),
        versions: versions(value, "versions")?,
        nullable: versions(value, "nullableVersions")?,
        tagged,
        flexible,
        default: default.filter(|text| !text.is_empty()),
        map_key: value["mapKey"].as_bool().unwrap_or(false),
        ignorable: value["ignorable"].as_bool().unwrap_or(false),
        entity: value["entityType"].as_str().map(str::to_owned),
        fields: fields(value)?,
    })
}

/// The type with this name in Kafka's definitions.
pub(crate) fn ty(text: &str) -> Type {
    if let Some(element) = text.strip_prefix("[]") {
        return Type::Array(Box::new(ty(element)));
    }
    if text.starts_with(|first: char| first.is_ascii_uppercase()) {
        Type::Struct(text.to_owned())
    } else {
        Type::Plain(text.to_owned())
    }
}
