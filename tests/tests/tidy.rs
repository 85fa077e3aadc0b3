//! The rules of the conventions that concern the tree itself: layers, sizes, names, and the existence of cited things.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use highwater_broker::config::{Config, File, Host};

/// The layer of each crate, by its folder: docs/LAYOUT.md 1. A crate depends on strictly lower layers only.
const LAYERS: &[(&str, u32)] = &[
    ("crates/types", 0),
    ("crates/io", 0),
    ("kraft-meta/base2histogram", 0),
    ("crates/runtime", 1),
    ("crates/kafka-peer", 1),
    ("crates/test-features", 1),
    ("protocol/codegen", 1),
    ("protocol", 2),
    ("crates/object-format", 2),
    ("crates/object-storage", 2),
    ("crates/disk-log", 2),
    ("crates/tls", 2),
    ("wal", 3),
    ("kraft-meta", 3),
    ("crates/client", 3),
    ("s3stream", 4),
    ("crates/partition-log", 5),
    ("crates/coordinator", 5),
    ("broker", 6),
    ("crates/cli", 7),
    ("crates/sim", 7),
    ("crates/xtask", 8),
    ("protocol/fuzz", 9),
    ("tests", 8),
];
/// Folders that no crate depends on; crates below them are of the top layer.
const TOP: &[&str] = &["benches", "examples", "tests"];

const LINES_MAX: usize = 600;
const BANNED: &[&str] = &[
    "util", "utils", "common", "helpers", "misc", "manager", "impls",
];

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the workspace").to_path_buf()
}

/// Every file of the tree that is written here, relative to the tree.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let root = root();
    let mut found = Vec::new();
    let mut left = vec![root.clone()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).expect("the tree can be read") {
            let path = entry.expect("the tree can be read").path();
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.expect("names are UTF-8");
            if path.is_dir() {
                let foreign = name.starts_with('.') || name == "node_modules" || name == "vendor";
                if !foreign && name != "target" && name != "highwater-data" {
                    left.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let within = path.strip_prefix(&root).expect("below the root");
                found.push(within.to_path_buf());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).expect("sources are UTF-8")
}

fn is_generated(path: &Path) -> bool {
    path.components()
        .any(|part| part.as_os_str() == "generated")
}

fn layer(folder: &str) -> Option<u32> {
    let known = LAYERS.iter().find(|(name, _)| *name == folder);
    let top = TOP
        .iter()
        .any(|top| folder.starts_with(&format!("{top}/")) || folder == *top);
    known.map(|(_, layer)| *layer).or(top.then_some(8))
}

/// The workspace's crates: folder, name, and the crates of the workspace that each depends on in any way.
fn crates() -> Vec<(String, String, BTreeSet<String>)> {
    let mut found = Vec::new();
    for manifest in files(&["Cargo.toml"]) {
        let table: toml::Table = read(&manifest).parse().expect("manifests are TOML");
        let Some(package) = table.get("package") else {
            continue;
        };
        let name = package["name"].as_str().expect("a name").to_owned();
        let mut needs = BTreeSet::new();
        let mut sections = vec![&table];
        let targets = table.get("target").and_then(toml::Value::as_table);
        let targets = targets.into_iter().flat_map(toml::Table::values);
        sections.extend(targets.filter_map(toml::Value::as_table));
        for section in sections {
            for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
                let all = section.get(kind).and_then(toml::Value::as_table);
                needs.extend(all.into_iter().flat_map(toml::Table::keys).cloned());
            }
        }
        let folder = manifest.parent().expect("a folder").display().to_string();
        found.push((folder, name, needs));
    }
    found
}

#[test]
fn a_crate_depends_on_lower_layers_only() {
    let crates = crates();
    let by_name: BTreeMap<&str, &str> = crates
        .iter()
        .map(|(folder, name, _)| (name.as_str(), folder.as_str()))
        .collect();
    let mut wrong = Vec::new();
    for (folder, name, needs) in &crates {
        let Some(own) = layer(folder) else {
            wrong.push(format!("{folder} has no layer: see docs/LAYOUT.md 1"));
            continue;
        };
        for other in needs.iter().filter_map(|need| by_name.get(need.as_str())) {
            let lower = layer(other).is_some_and(|layer| layer < own);
            // A crate may enable more features of itself in its tests.
            if !lower && by_name.get(name.as_str()) != Some(other) {
                wrong.push(format!(
                    "{folder} depends on {other}, which is no lower layer"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(crates.len() > 15, "the crates are found");
}

// crates/sim/README.md: a rule that has moved is planted where it is now
#[test]
fn every_planted_bug_applies() {
    let patches = files(&[".patch"]);
    assert!(patches.len() >= 15, "the patches are found");
    for patch in patches {
        let mut git = Command::new("git");
        let checked = git.args(["apply", "--check"]).arg(&patch);
        let checked = checked.current_dir(root()).output().expect("git runs");
        let why = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{}: {why}", patch.display());
    }
}

#[test]
fn a_dependency_stays_where_it_is_wrapped() {
    let mut wrong = Vec::new();
    for path in files(&[".rs"]) {
        let text = read(&path);
        let within = |folder: &str| path.starts_with(folder);
        let uses = |name: &str| text.contains(&format!("{name}::"));
        let tidy = path.ends_with("tidy.rs");
        if uses("openraft") && !within("kraft-meta/src/raft") {
            wrong.push(format!("{}: openraft", path.display()));
        }
        let sdk = uses("object_store") || uses("aws_config") || uses("aws_sdk_s3");
        // a benchmark measures the library without the crate that wraps it
        let bare = within("benches/src/object_wal/bare.rs");
        if sdk && !within("crates/object-storage") && !bare && !tidy {
            wrong.push(format!("{}: the store's SDK", path.display()));
        }
        let chooses = within("wal") || within("broker/src/wal.rs");
        if uses("highwater_wal::disk") && !chooses && !is_test(&path) {
            wrong.push(format!("{}: a kind of write-ahead log", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The sources of a crate, without those of crates in folders below it.
fn sources_of(folder: &str, folders: &[&str]) -> Vec<PathBuf> {
    let below: Vec<&&str> = folders
        .iter()
        .filter(|other| **other != folder && Path::new(other).starts_with(folder))
        .collect();
    let own = |path: &PathBuf| {
        path.starts_with(folder) && !below.iter().any(|other| path.starts_with(other))
    };
    files(&[".rs"]).into_iter().filter(own).collect()
}

/// Whether a text contains a whole word.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
    })
}

#[test]
fn a_crate_names_every_dependency_it_declares() {
    let crates = crates();
    let folders: Vec<&str> = crates.iter().map(|(folder, ..)| folder.as_str()).collect();
    let mut unused = Vec::new();
    for (folder, _, needs) in &crates {
        let sources = sources_of(folder, &folders);
        let texts: Vec<String> = sources.iter().map(|path| read(path)).collect();
        let is_used = |need: &String| {
            let name = need.replace('-', "_");
            texts.iter().any(|text| has_word(text, &name))
        };
        // This crate has features and no code.
        let of_crate = needs
            .iter()
            .filter(|need| *need != "highwater-test-features" && !is_used(need));
        unused.extend(of_crate.map(|need| format!("{folder}: {need}")));
    }
    assert!(unused.is_empty(), "no source names {unused:#?}");
}

/// The compiler counts public items as used, so it finds dead code only in private ones.
#[test]
fn a_module_that_no_other_crate_names_is_private() {
    let crates = crates();
    let texts: Vec<(PathBuf, String)> = files(&[".rs"])
        .into_iter()
        .map(|path| (path.clone(), read(&path)))
        .collect();
    let mut wrong = Vec::new();
    let mut found = 0;
    for (folder, name, _) in &crates {
        let sources = Path::new(folder).join("src");
        let lib = sources.join("lib.rs");
        let Some((_, lib)) = texts.iter().find(|(path, _)| *path == lib) else {
            continue;
        };
        let modules = lib.lines().filter_map(|line| line.strip_prefix("pub mod "));
        for module in modules.filter_map(|line| line.strip_suffix(';')) {
            found += 1;
            let within = format!("{}::", name.replace('-', "_"));
            let names = |text: &str| {
                let after = text.split(&*within).skip(1);
                after.into_iter().any(|path| {
                    let path = path.split(';').next().unwrap_or_default();
                    match path.starts_with('{') {
                        true => has_word(path, module),
                        false => has_word(path.split("::").next().unwrap_or_default(), module),
                    }
                })
            };
            let mut others = texts.iter().filter(|(path, _)| !path.starts_with(&sources));
            if !others.any(|(_, text)| names(text)) {
                wrong.push(format!("{folder}: {module}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "public, and named by no other crate: {wrong:#?}"
    );
    assert!(found > 5, "the modules are found");
}

#[test]
fn files_are_read_in_one_sitting_and_named_for_what_they_hold() {
    let mut wrong = Vec::new();
    let sources = files(&[".rs"]);
    for path in &sources {
        let lines = read(path).lines().count();
        if lines > LINES_MAX && !is_generated(path) {
            wrong.push(format!(
                "{}: {lines} lines, at most {LINES_MAX}",
                path.display()
            ));
        }
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        if BANNED.contains(&stem) {
            wrong.push(format!("{}: a banned name", path.display()));
        }
        let folder = path.with_extension("");
        if stem != "mod" && root().join(&folder).join("mod.rs").exists() {
            wrong.push(format!("{}: there is a mod.rs too", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(sources.len() > 200, "the sources are found");
}

#[test]
fn no_test_is_left_out_and_nothing_is_left_to_do() {
    let marks = ["#[ignore", "FIXME", "XXX"].map(|mark| mark.to_owned());
    let mut wrong = Vec::new();
    for path in files(&[".rs", ".py", ".go", ".java"]) {
        if path.ends_with("tidy.rs") || is_generated(&path) {
            continue;
        }
        let text = read(&path);
        for line in text.lines() {
            let undone = line.contains("TODO") && !line.contains("TODO(#");
            if undone || marks.iter().any(|mark| line.contains(mark)) {
                wrong.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_files_of_the_root_are_there() {
    let root_files = "README.md CONVENTIONS.md LICENSE NOTICE .ci/run Cargo.toml clippy.toml rustfmt.toml deny.toml \
                      typos.toml rust-toolchain.toml .cargo/config.toml";
    let missing: Vec<&str> = root_files
        .split_whitespace()
        .filter(|name| !root().join(name).is_file())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Whether a word in backticks names a file or, with a trailing slash, a folder.
fn is_path(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let ends = ["/", ".rs", ".md", ".toml", ".py"];
    let is_absolute = word.starts_with('/');
    !is_absolute && word.chars().all(plain) && ends.iter().any(|end| word.ends_with(end))
}

/// The paths in docs/LAYOUT.md, each with the folder of the heading above it, to which it may be relative.
fn paths_of_the_layout(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folder = "";
    for line in text.lines() {
        let words = || line.split('`').skip(1).step_by(2);
        if line.starts_with('#') {
            folder = words().next().unwrap_or_default();
        }
        let paths = words().filter(|word| is_path(word));
        found.extend(paths.map(|path| (folder.to_owned(), path.to_owned())));
    }
    found
}

#[test]
fn what_the_layout_names_is_there_and_every_crate_is_named() {
    let named = paths_of_the_layout(&read(Path::new("docs/LAYOUT.md")));
    let missing: Vec<&str> = named
        .iter()
        .filter(|(folder, path)| {
            let is_there = |path: PathBuf| match path.to_string_lossy().ends_with('/') {
                true => path.is_dir(),
                false => path.is_file(),
            };
            !is_there(root().join(path)) && !is_there(root().join(folder).join(path))
        })
        .map(|(_, path)| path.as_str())
        .collect();
    assert!(missing.is_empty(), "docs/LAYOUT.md names {missing:?}");
    assert!(named.len() > 150, "only {} paths are found", named.len());
    let unnamed: Vec<String> = crates()
        .into_iter()
        .map(|(folder, _, _)| folder)
        .filter(|folder| {
            let is_it = |path: &str| path.trim_end_matches('/') == folder;
            !named.iter().any(|(_, path)| is_it(path))
        })
        .collect();
    assert!(
        unnamed.is_empty(),
        "docs/LAYOUT.md 1 does not name {unnamed:?}"
    );
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

/// The text of tests alone: files under `tests/`, and the part after `#[cfg(test)]` elsewhere.
fn test_text(path: &Path) -> String {
    let text = read(path);
    if is_test(path) {
        return text;
    }
    let from = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[from..].to_owned()
}

/// The numbers after `word` in a text: `word 3, 5 and 7`.
fn cited(text: &str, word: &str) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for after in text.split(word).skip(1) {
        let list = after.split(|c: char| !(c.is_ascii_digit() || ", and\n/".contains(c)));
        let numbers = list
            .take(1)
            .flat_map(|list| list.split(|c: char| !c.is_ascii_digit()));
        found.extend(numbers.filter_map(|number| number.parse::<u32>().ok()));
    }
    found
}

#[test]
fn every_line_of_kafkas_behaviour_has_a_test_that_names_it() {
    let doc = read(Path::new("docs/KAFKA-BEHAVIOUR.md"));
    let lines: BTreeSet<u32> = doc
        .lines()
        .filter_map(|line| line.split_once(". ")?.0.parse().ok())
        .collect();
    assert!(lines.len() >= 25, "the lines are found");
    let mut named = BTreeSet::new();
    for path in files(&[".rs", ".py"])
        .iter()
        .filter(|path| !path.ends_with("tidy.rs"))
    {
        named.extend(cited(&test_text(path), "KAFKA-BEHAVIOUR "));
    }
    let unknown: Vec<&u32> = named.difference(&lines).collect();
    assert!(unknown.is_empty(), "there is no line {unknown:?}");
    let untested: Vec<&u32> = lines.difference(&named).collect();
    assert!(untested.is_empty(), "no test names {untested:?}");
}

/// The rules of docs/STORAGE.md that this code keeps. The others come with takeover, rewriting and
/// restore.
const RULES: &str = "E1 E2 E5 E6 E8 A1 A2 A3 A4 D1 D2 D3 U1 U2 U3 U4 U5 U6 F1 F2 F4 F6 G1 M1 M2 M3 L1 W1 W2 W3 W4 W6 W7 \
    W8 W10 W11";

#[test]
fn every_storage_rule_that_is_built_has_a_test_that_names_it() {
    let doc = read(Path::new("docs/STORAGE.md"));
    let mut untested: BTreeSet<&str> = RULES.split_whitespace().collect();
    for rule in &untested {
        assert!(
            doc.contains(&format!("**{rule}**")),
            "there is no rule {rule}"
        );
    }
    for path in files(&[".rs", ".py"])
        .iter()
        .filter(|path| !path.ends_with("tidy.rs"))
    {
        let text = test_text(path);
        let words: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        untested.retain(|rule| !words.contains(rule));
    }
    assert!(untested.is_empty(), "no test names {untested:?}");
}

#[test]
fn metrics_are_named_by_the_conventions_and_described() {
    let mut names = BTreeSet::new();
    let mut wrong = Vec::new();
    for path in files(&["metrics.rs"]) {
        let text = read(&path);
        for line in text
            .lines()
            .filter(|line| line.starts_with("pub const") || line.starts_with("pub(crate) const"))
        {
            let Some((head, value)) = line.split_once(": &str = \"") else {
                continue;
            };
            let constant = head.rsplit(' ').next().unwrap_or_default();
            let name = value.trim_end_matches("\";");
            let sound = name.starts_with("highwater_")
                && name.split('_').count() >= 4
                && name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if !sound || !names.insert(name.to_owned()) {
                wrong.push(format!("{name}: no sound name, or one that stands twice"));
            }
            let described = ["counter", "gauge", "histogram"].iter().any(|kind| {
                let call = format!("describe_{kind}!(");
                text.split(&call)
                    .skip(1)
                    .any(|args| args.trim_start().starts_with(constant))
            });
            if !described {
                wrong.push(format!("{name} is not described"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(names.len() >= 2, "only {names:?}");
}

#[test]
fn the_configuration_that_is_deployed_is_a_sound_one() {
    let name = "deploy/server.properties";
    let text = read(Path::new(name));
    let file = File { name, text: &text };
    let host = Host {
        name: Some("container".to_owned()),
        ..Host::default()
    };
    let config = Config::load_on(&host, Some(file), [], &[]);
    assert!(config.is_ok(), "{config:?}");
}
