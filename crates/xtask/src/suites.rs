//! The suites: their names, budgets and needs. README.md says what each one proves.

use std::time::Duration;

use anyhow::{Context, Result};

/// When a suite runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// In `cargo xtask verify` and in `cargo xtask test`.
    Verify,
    /// Only in `cargo xtask test`.
    Test,
    /// Only if it is named: it takes long for what it adds to the others.
    Named,
}

/// A row of the table of suites.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    /// The longest time it may take on two cores with nothing built and nothing downloaded.
    pub(crate) budget: Duration,
    pub(crate) stage: Stage,
    /// Whether it runs binaries that must be built before.
    pub(crate) needs_binaries: bool,
}

const fn suite(name: &'static str, budget_s: u64, stage: Stage, needs_binaries: bool) -> Suite {
    Suite {
        name,
        budget: Duration::from_secs(budget_s),
        stage,
        needs_binaries,
    }
}

/// A suite that needs only the Rust toolchain.
const fn rust(name: &'static str, budget_s: u64, stage: Stage) -> Suite {
    suite(name, budget_s, stage, false)
}

/// A suite that runs the binary.
const fn with_broker(name: &'static str, budget_s: u64) -> Suite {
    suite(name, budget_s, Stage::Test, true)
}

/// All suites, in the order in which they run.
pub(crate) const ALL: &[Suite] = &[
    rust("fmt", 60, Stage::Verify),
    rust("codegen", 300, Stage::Verify),
    rust("tests", 720, Stage::Verify),
    rust("clippy", 480, Stage::Verify),
    rust("deny", 60, Stage::Verify),
    rust("typos", 60, Stage::Verify),
    rust("doc", 240, Stage::Test),
    rust("fuzz", 240, Stage::Test),
    rust("build", 720, Stage::Test),
    with_broker("dist", 60),
    with_broker("image", 120),
    // builds helm, which takes minutes once
    with_broker("chart", 600),
    // builds MinIO, which takes minutes once
    with_broker("chart-processes", 960),
    with_broker("librdkafka", 240),
    with_broker("groups", 120),
    with_broker("kcat", 60),
    with_broker("java", 300),
    with_broker("example", 120),
    with_broker("tools", 90),
    with_broker("differential", 120),
    suite("differential@cluster", 180, Stage::Named, true),
    with_broker("crash", 300),
    with_broker("crash-object", 300),
    with_broker("cluster", 180),
    with_broker("cluster-example", 60),
    with_broker("tools-cluster", 90),
    with_broker("overload", 120),
    with_broker("scenario-java-2.1", 60),
    with_broker("scenario-java-3.9", 60),
    with_broker("scenario-java", 60),
    with_broker("scenario-librdkafka", 60),
    with_broker("scenario-librdkafka-1.9", 120),
    with_broker("scenario-kafka-python", 60),
    with_broker("scenario-franz", 120),
    with_broker("scenario-sarama", 120),
    with_broker("scenario-kafkajs", 60),
    with_broker("clients-cluster", 240),
    with_broker("clients-tls", 240),
    with_broker("old-clients", 60),
    with_broker("franz-go-suite", 180),
    suite("franz-go-suite@cluster", 480, Stage::Named, true),
    // the first suite that needs the server builds it, which takes minutes once
    with_broker("s3-minio", 960),
    with_broker("s3-versitygw", 240),
    with_broker("node@s3", 180),
    with_broker("cost", 120),
    with_broker("librdkafka@s3", 180),
    with_broker("groups@s3", 180),
    with_broker("java@s3", 180),
    with_broker("crash-object@s3", 180),
    with_broker("cluster@s3", 180),
    with_broker("cluster-example@s3", 60),
    with_broker("s3-access", 90),
    // waits for Kubernetes to be built, which begins before the first suite
    with_broker("kubernetes", 2400),
];

/// Whether a suite runs without being named.
fn is_usual(suite: &&Suite) -> bool {
    suite.stage != Stage::Named
}

/// The suite with this name.
pub(crate) fn find(name: &str) -> Option<&'static Suite> {
    ALL.iter().find(|suite| suite.name == name)
}

/// The suites with these names, or all usual ones if no name is given. Fails on an unknown name, and lists the suites.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<&'static Suite>> {
    if names.is_empty() {
        return Ok(ALL.iter().filter(is_usual).collect());
    }
    let by_name = |name: &String| {
        find(name).with_context(|| {
            let all: Vec<&str> = ALL.iter().map(|suite| suite.name).collect();
            format!("there is no suite {name:?}; there are: {}", all.join(", "))
        })
    };
    names.iter().map(by_name).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(of: &[&str]) -> Vec<String> {
        of.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_name_is_listed_once() {
        let all: BTreeSet<&str> = ALL.iter().map(|suite| suite.name).collect();
        assert_eq!(all.len(), ALL.len());
    }

    #[test]
    fn several_names_choose_several_suites_and_none_chooses_the_usual_ones() {
        let named = ["differential@cluster", "franz-go-suite@cluster"];
        let two = chosen(&names(&["crash", named[1]])).unwrap();
        assert_eq!(two, [find("crash").unwrap(), find(named[1]).unwrap()]);
        let usual = chosen(&[]).unwrap();
        let left_out = ALL.iter().filter(|suite| !usual.contains(suite));
        assert!(left_out.map(|suite| suite.name).eq(named));
    }

    #[test]
    fn a_name_that_is_no_suite_is_refused_and_the_suites_are_listed() {
        let refused = chosen(&names(&["crash", "crush"])).unwrap_err().to_string();
        assert!(
            refused.starts_with("there is no suite \"crush\"") && refused.contains("fmt, codegen"),
            "{refused}"
        );
    }

    #[test]
    fn the_readme_says_of_each_suite_what_it_proves() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
        let readme = std::fs::read_to_string(readme).unwrap();
        let table: Vec<&str> = readme
            .lines()
            .skip_while(|line| !line.starts_with("| suite |"))
            .take_while(|line| line.starts_with('|'))
            .filter_map(|line| line.split('|').nth(1))
            .collect();
        let listed: Vec<&str> = table
            .iter()
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .collect();
        let all: BTreeSet<&str> = ALL.iter().map(|suite| suite.name).collect();
        assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), all);
        assert_eq!(listed.len(), ALL.len(), "a suite is listed twice");
    }
}
