//! Compares answers, and checks the differences against the list of those that are allowed.
//!
//! The list is `tests/differential/differences.txt`. A paragraph of `#` lines gives a reason, and the lines under it
//! are the differences that it excuses: `API versions case | path | Apache Kafka's value | ours`. `*` stands for any
//! text.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::driver::Exchange;

/// One field in which two answers differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Difference {
    api: String,
    case: String,
    path: String,
    kafka: String,
    ours: String,
    version: i16,
}

/// Lists whose order has no meaning, with the fields that identify their elements. An API is named if the rule is for
/// that API alone.
const KEYED: &[(&str, &str, &[&str])] = &[
    ("", "Configs", &["Name"]),
    ("", "ApiKeys", &["ApiKey"]),
    ("", "SupportedFeatures", &["Name"]),
    ("", "FinalizedFeatures", &["Name"]),
    ("ListGroups", "Groups", &["GroupId"]),
    ("DescribeGroups", "Groups", &["GroupId"]),
    ("DescribeGroups", "Members", &["ClientId"]),
    ("JoinGroup", "Members", &["Metadata"]),
    ("OffsetDelete", "Topics", &["Name"]),
    ("OffsetDelete", "Partitions", &["PartitionIndex"]),
    ("OffsetFetch", "Topics", &["Name", "TopicId"]),
    ("OffsetFetch", "Partitions", &["PartitionIndex"]),
    ("CreatePartitions", "Results", &["Name"]),
    ("CreateTopics", "Topics", &["Name"]),
    ("DeleteTopics", "Responses", &["Name", "TopicId"]),
    ("Metadata", "Topics", &["Name", "TopicId"]),
    ("Produce", "Responses", &["Name", "TopicId"]),
    ("Produce", "PartitionResponses", &["Index"]),
    ("Fetch", "Responses", &["Topic", "TopicId"]),
    ("Fetch", "Partitions", &["PartitionIndex"]),
    ("ListOffsets", "Topics", &["Name"]),
    ("ListOffsets", "Partitions", &["PartitionIndex"]),
    ("DeleteRecords", "Topics", &["Name"]),
    ("DeleteRecords", "Partitions", &["PartitionIndex"]),
    ("OffsetForLeaderEpoch", "Topics", &["Topic"]),
    ("OffsetForLeaderEpoch", "Partitions", &["Partition"]),
    ("DeleteGroups", "Results", &["GroupId"]),
];

/// Finds every difference between two runs of the same requests.
pub(super) fn compare(kafka: &[Exchange], ours: &[Exchange]) -> Result<Vec<Difference>> {
    ensure!(
        kafka.len() == ours.len(),
        "the two runs didn't send the same requests"
    );
    let mut all = Vec::new();
    for (kafka, ours) in kafka.iter().zip(ours) {
        let mut places = Vec::new();
        let mut walk = Walk {
            api: &kafka.api,
            out: &mut places,
        };
        walk.values(String::new(), &kafka.outcome, &ours.outcome);
        all.extend(places.into_iter().map(|(path, theirs, own)| Difference {
            api: kafka.api.clone(),
            case: kafka.case.clone(),
            path,
            kafka: theirs,
            ours: own,
            version: kafka.version,
        }));
    }
    Ok(all)
}

fn show(value: Option<&Value>) -> String {
    match value {
        None => "(absent)".to_owned(),
        Some(Value::String(text)) => text.replace('\n', "\\n"),
        Some(other) => other.to_string(),
    }
}

/// Compares two answers field by field.
struct Walk<'a> {
    api: &'a str,
    /// The differences: path, Kafka's value, our value.
    out: &'a mut Vec<(String, String, String)>,
}

impl Walk<'_> {
    fn values(&mut self, path: String, kafka: &Value, ours: &Value) {
        match (kafka, ours) {
            (Value::Object(kafka), Value::Object(ours)) => {
                let names: BTreeSet<&String> = kafka.keys().chain(ours.keys()).collect();
                let dot = if path.is_empty() { "" } else { "." };
                for name in names {
                    let path = format!("{path}{dot}{name}");
                    self.members(path, kafka.get(name), ours.get(name));
                }
            }
            (Value::Array(kafka), Value::Array(ours)) => self.lists(&path, kafka, ours),
            _ if kafka == ours => {}
            _ => self.out.push((path, show(Some(kafka)), show(Some(ours)))),
        }
    }

    fn members(&mut self, path: String, kafka: Option<&Value>, ours: Option<&Value>) {
        match (kafka, ours) {
            (Some(kafka), Some(ours)) => self.values(path, kafka, ours),
            _ => self.out.push((path, show(kafka), show(ours))),
        }
    }

    fn lists(&mut self, path: &str, kafka: &[Value], ours: &[Value]) {
        let field = path.rsplit('.').next().unwrap_or(path);
        let is_keyed = |(api, name, _): &&(&str, &str, &[&str])| {
            *name == field && (api.is_empty() || *api == self.api)
        };
        let Some((.., key)) = KEYED.iter().find(is_keyed) else {
            if kafka.len() != ours.len() {
                let (theirs, own) = (kafka.len().to_string(), ours.len().to_string());
                self.out.push((format!("{path}.length"), theirs, own));
            }
            for (at, (kafka, ours)) in kafka.iter().zip(ours).enumerate() {
                self.values(format!("{path}[{at}]"), kafka, ours);
            }
            return;
        };
        let (kafka, ours) = (by_key(kafka, key), by_key(ours, key));
        let names: BTreeSet<&String> = kafka.keys().chain(ours.keys()).collect();
        for name in names {
            self.members(format!("{path}[{name}]"), kafka.get(name), ours.get(name));
        }
    }
}

/// Elements by the first of the key fields that each has.
fn by_key(list: &[Value], key: &[&str]) -> BTreeMap<String, Value> {
    let mut known = BTreeMap::new();
    for one in list {
        let named = key.iter().map(|name| one.get(*name));
        let named = named.flatten().find(|name| !name.is_null());
        // a topic has the same key by name and by id, so that versions with ids differ from those with names only in
        // what they say
        let name = show(named);
        let of_id = name.strip_prefix("<id of ");
        let mut name = of_id.map_or(name.clone(), |rest| rest.trim_end_matches('>').to_owned());
        while known.contains_key(&name) {
            name.push('\'');
        }
        known.insert(name, one.clone());
    }
    known
}

/// A line of the list.
#[derive(Debug)]
struct Entry {
    line: String,
    api: String,
    versions: Option<(i16, i16)>,
    case: String,
    path: String,
    kafka: String,
    ours: String,
}

impl Entry {
    fn parse(line: &str) -> Result<Self> {
        let parts: Vec<&str> = line.split(" | ").collect();
        let [head, path, kafka, ours] = parts[..] else {
            bail!("the line is no difference: {line}");
        };
        let mut words = head.splitn(3, ' ');
        let mut word = || {
            words
                .next()
                .with_context(|| format!("the line is no difference: {line}"))
        };
        let (api, versions, case) = (word()?, word()?, word()?);
        let versions = match versions {
            "*" => None,
            range => {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                Some((first.parse()?, last.parse()?))
            }
        };
        Ok(Self {
            line: line.to_owned(),
            api: api.to_owned(),
            versions,
            case: case.to_owned(),
            path: path.to_owned(),
            kafka: kafka.to_owned(),
            ours: ours.to_owned(),
        })
    }

    fn covers(&self, one: &Difference) -> bool {
        let in_range = |(first, last)| (first..=last).contains(&one.version);
        fits(&self.api, &one.api)
            && self.versions.is_none_or(in_range)
            && fits(&self.case, &one.case)
            && fits(&self.path, &one.path)
            && fits(&self.kafka, &one.kafka)
            && fits(&self.ours, &one.ours)
    }
}

/// Whether a text matches a pattern; `*` matches any text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(head) else {
        return false;
    };
    if rest.is_empty() {
        return true;
    }
    let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.into_iter().any(|at| fits(rest, &text[at..]))
}

/// Compares the differences with the list, and returns a line for each mistake: a difference that isn't listed, and a
/// listed one that wasn't seen, or not in one of its versions.
pub(super) fn judge(found: &[Difference], listed: &str) -> Result<Vec<String>> {
    let mut entries = Vec::new();
    let mut has_reason = false;
    for line in listed.lines() {
        match line {
            "" => has_reason = false,
            line if line.starts_with('#') => has_reason = true,
            line => {
                ensure!(has_reason, "the line has no reason above it: {line}");
                entries.push((Entry::parse(line)?, BTreeSet::new()));
            }
        }
    }
    let mut unlisted = Vec::new();
    for one in found {
        let mut is_listed = false;
        for (entry, versions) in &mut entries {
            if entry.covers(one) {
                versions.insert(one.version);
                is_listed = true;
            }
        }
        if !is_listed {
            unlisted.push(one.clone());
        }
    }
    let mut wrong = merged(unlisted);
    for (entry, versions) in &entries {
        let missing =
            |(first, last): (i16, i16)| (first..=last).any(|one| !versions.contains(&one));
        if versions.is_empty() || entry.versions.is_some_and(missing) {
            wrong.push(format!(
                "listed, but seen only in versions {versions:?}: {}",
                entry.line
            ));
        }
    }
    Ok(wrong)
}

/// Writes differences as lines of the list, merging those of consecutive versions.
fn merged(mut all: Vec<Difference>) -> Vec<String> {
    all.sort();
    all.dedup();
    let mut lines: Vec<(Difference, i16)> = Vec::new();
    for one in all {
        if let Some((last, to)) = lines.last_mut() {
            let same = Difference {
                version: last.version,
                ..one.clone()
            } == *last;
            if same && *to + 1 == one.version {
                *to = one.version;
                continue;
            }
        }
        let to = one.version;
        lines.push((one, to));
    }
    let line = |(one, to): &(Difference, i16)| {
        let Difference {
            api,
            case,
            path,
            kafka,
            ours,
            version,
        } = one;
        let versions = if version == to {
            version.to_string()
        } else {
            format!("{version}-{to}")
        };
        format!("{api} {versions} {case} | {path} | {kafka} | {ours}")
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn exchange(version: i16, outcome: Value) -> Exchange {
        Exchange {
            api: "Fetch".to_owned(),
            version,
            case: "empty: all".to_owned(),
            outcome,
        }
    }

    fn found() -> Vec<Difference> {
        let kafka = json!({"Topics": [{"A": 1}, {"A": 2}], "Null": null, "Same": "x"});
        let ours = json!({"Topics": [{"A": 3}], "Same": "x"});
        let kafka = [exchange(4, kafka.clone()), exchange(5, kafka)];
        let ours = [exchange(4, ours.clone()), exchange(5, ours)];
        compare(&kafka, &ours).expect("the same requests")
    }

    #[test]
    fn a_difference_that_is_not_listed_is_wrong() {
        let wrong = judge(&found(), "").expect("reads");
        let expected = [
            "Fetch 4-5 empty: all | Null | null | (absent)",
            "Fetch 4-5 empty: all | Topics.length | 2 | 1",
            "Fetch 4-5 empty: all | Topics[0].A | 1 | 3",
        ];
        assert_eq!(wrong, expected);
    }

    #[test]
    fn a_listed_difference_is_excused_until_it_is_gone() {
        let listed =
            "# why\nFetch * empty: * | Null | * | (absent)\nFetch 4-5 empty: all | T*.A | 1 | 3\n";
        let wrong = judge(
            &found(),
            &format!("{listed}Fetch 4-6 * | Topics.length | 2 | 1"),
        );
        let wrong = wrong.expect("reads");
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].contains("4-6"), "{wrong:?}");
        let gone = judge(&[], listed).expect("reads");
        assert_eq!(gone.len(), 2);
    }

    #[test]
    fn a_difference_has_a_reason() {
        assert!(judge(&[], "Fetch 4 a | b | c | d").is_err());
    }
}
