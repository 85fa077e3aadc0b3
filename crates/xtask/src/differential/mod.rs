//! The differential: the same requests, byte for byte, are sent to Apache Kafka and to Highwater, in every version
//! that is built.
//!
//! The requests are in `tests/differential/*.txt`, in the form that [`scenario`] describes. They are encoded and
//! decoded from `protocol/schema` alone. Answers are compared field by field after [`masks`] are applied; the allowed
//! differences are listed, with reasons, in `tests/differential/differences*.txt`.

mod connection;
mod differences;
mod driver;
mod masks;
mod records;
mod scenario;
mod wire;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, anyhow, bail};

use crate::broker::Broker;
use crate::cluster::{BROKERS, Cluster, rack};
use crate::jars::has;
use crate::peer::Peer;
use crate::report::{Outcome, say};
use driver::{Driver, Exchange, Plan};

const FROM: &str = "tests/differential";
const LIST: &str = "differences.txt";
/// The differences beyond those if Highwater is a lone node, as Apache Kafka is here, and if it has three brokers.
const ALONE_LIST: &str = "differences-alone.txt";
const CLUSTER_LIST: &str = "differences-cluster.txt";
const OUT: &str = "target/test-run/differential";
const LINES_SHOWN_MAX: usize = 100;
/// Settings of Highwater in every scenario, for a short run.
const SETTINGS: &[&str] = &["group.initial.rebalance.delay.ms=300"];

/// The suite.
pub(crate) fn compare() -> Result<Outcome> {
    if let Some(skipped) = skipped() {
        return Ok(skipped);
    }
    let broker = Broker::start("differential-broker")?;
    let stop = |broker: Broker| broker.stop();
    let address = broker.address.clone();
    compare_with(&address, broker, stop, &[LIST, ALONE_LIST], SETTINGS)
}

/// The suite with three controllers and three brokers, of which one gets everything: so its answers are those of a lone
/// one, but for what a client is told of the others.
pub(crate) fn compare_cluster() -> Result<Outcome> {
    if let Some(skipped) = skipped() {
        return Ok(skipped);
    }
    let cluster = Cluster::start("differential-cluster", SETTINGS)?;
    for broker in &BROKERS[1..] {
        cluster.operate("cordon", *broker)?;
    }
    let stop = |cluster: Cluster| cluster.stop(&[]);
    let address = cluster.address(BROKERS[0]).to_owned();
    let rack = format!("broker.rack={}", rack(BROKERS[0]));
    let peer = [SETTINGS, &[&rack]].concat();
    compare_with(&address, cluster, stop, &[LIST, CLUSTER_LIST], &peer)
}

fn skipped() -> Option<Outcome> {
    let is_there = has("java", "-version") && has("mvn", "--version");
    (!is_there).then(|| Outcome::Skipped("java or mvn is missing".to_owned()))
}

/// Compares the answers of the broker at an address, which is stopped as soon as it has given them, with those of Kafka with
/// these settings.
fn compare_with<T>(
    address: &str,
    running: T,
    stop: impl FnOnce(T) -> Result<()>,
    lists: &[&str],
    settings: &[&str],
) -> Result<Outcome> {
    let plan = plan(address)?;
    let (peer, ours) = std::thread::scope(|scope| {
        let peer = scope.spawn(|| Peer::start_with(settings));
        let ours = Driver::new(&plan, address).and_then(Driver::run);
        let peer = peer
            .join()
            .map_err(|_panic| anyhow!("Kafka's start panicked"));
        (peer.flatten(), ours)
    });
    let (peer, ours) = (peer?, ours.context("Highwater")?);
    stop(running)?;
    let kafka = Driver::new(&plan, &peer.address)?.run();
    let kafka = kafka.context("Apache Kafka")?;
    std::fs::create_dir_all(OUT)?;
    write("kafka.txt", &kafka)?;
    write("highwater.txt", &ours)?;
    let found = differences::compare(&kafka, &ours)?;
    let mut listed = String::new();
    for list in lists {
        listed.push_str(&std::fs::read_to_string(Path::new(FROM).join(list))?);
    }
    let mut wrong = differences::judge(&found, &listed)?;
    wrong.extend(not_covered(&plan, &kafka));
    say(&format!(
        "{} requests compared, {} differences",
        kafka.len(),
        found.len()
    ));
    if wrong.is_empty() {
        return Ok(Outcome::Passed);
    }
    std::fs::write(Path::new(OUT).join("wrong.txt"), wrong.join("\n"))?;
    let count = wrong.len();
    wrong.truncate(LINES_SHOWN_MAX);
    bail!(
        "{count} line(s) are wrong (all in {OUT}/wrong.txt):\n{}",
        wrong.join("\n")
    )
}

fn plan(address: &str) -> Result<Plan> {
    let schema = highwater_codegen::read_schema(Path::new("protocol/schema"))?;
    let versions = driver::served(&schema, address)?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(FROM)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    let lists = [LIST, ALONE_LIST, CLUSTER_LIST];
    let is_list = |path: &PathBuf| lists.iter().any(|list| path.ends_with(list));
    files.retain(|path| !is_list(path));
    files.sort();
    let mut scenarios = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path)?;
        let parsed = scenario::parse(&text).with_context(|| path.display().to_string())?;
        scenarios.extend(parsed);
    }
    #[expect(clippy::disallowed_methods, reason = "a tool measures real time")]
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Plan {
        schema,
        versions,
        scenarios,
        start: i64::try_from(now.as_millis())?,
    })
}

/// The versions of APIs in which no request was answered.
fn not_covered(plan: &Plan, exchanges: &[Exchange]) -> Vec<String> {
    let answered = exchanges.iter().filter(|one| one.outcome.is_object());
    let answered: BTreeSet<(&str, i16)> = answered
        .map(|one| (one.api.as_str(), one.version))
        .collect();
    let mut missing = Vec::new();
    for (api, (first, last)) in &plan.versions {
        for version in *first..=*last {
            if !answered.contains(&(api.as_str(), version)) {
                missing.push(format!("{api} {version} is never answered"));
            }
        }
    }
    missing
}

fn write(name: &str, exchanges: &[Exchange]) -> Result<()> {
    let mut text = String::new();
    for one in exchanges {
        let Exchange {
            api,
            version,
            case,
            outcome,
        } = one;
        writeln!(text, "{api} {version} {case}\n  {outcome}")?;
    }
    std::fs::write(Path::new(OUT).join(name), text)?;
    Ok(())
}
