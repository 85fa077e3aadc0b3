//! The differential: the same requests, byte for byte, are sent to Apache Kafka and to Highwater, in every version
//! that is built.
//!
//! The requests are in `tests/differential/*.txt`, in the form that [`scenario`] describes. They are encoded and
//! decoded from `protocol/schema` alone. Answers are compared field by field after [`masks`] are applied; the allowed
//! differences are listed, with reasons, in `tests/differential/differences.txt`.

mod connection;
mod differences;
mod driver;
mod masks;
mod records;
mod scenario;
mod wire;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, anyhow, bail};

use crate::broker::Broker;
use crate::jars::has;
use crate::peer::Peer;
use crate::report::{Outcome, say};
use driver::{Driver, Exchange, Plan};

const FROM: &str = "tests/differential";
const LIST: &str = "differences.txt";
const OUT: &str = "target/test-run/differential";
const LINES_SHOWN_MAX: usize = 100;
/// Settings of Highwater in every scenario, for a short run.
const SETTINGS: &[&str] = &["group.initial.rebalance.delay.ms=300"];

/// The suite.
pub(crate) fn compare() -> Result<Outcome> {
    if !has("java", "-version") || !has("mvn", "--version") {
        return Ok(Outcome::Skipped("java or mvn is missing".to_owned()));
    }
    let broker = Broker::start("differential-broker")?;
    let plan = plan(&broker.address)?;
    let (peer, ours) = std::thread::scope(|scope| {
        let peer = scope.spawn(|| Peer::start_with(SETTINGS));
        let ours = Driver::new(&plan, &broker.address).and_then(Driver::run);
        let peer = peer
            .join()
            .map_err(|_panic| anyhow!("Kafka's start panicked"));
        (peer.flatten(), ours)
    });
    let (peer, ours) = (peer?, ours.context("Highwater")?);
    broker.stop()?;
    let kafka = Driver::new(&plan, &peer.address)?.run();
    let kafka = kafka.context("Apache Kafka")?;
    std::fs::create_dir_all(OUT)?;
    write("kafka.txt", &kafka)?;
    write("highwater.txt", &ours)?;
    let found = differences::compare(&kafka, &ours)?;
    let listed = std::fs::read_to_string(Path::new(FROM).join(LIST))?;
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
    let mut files: Vec<_> = std::fs::read_dir(FROM)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|path| path.file_name().is_some_and(|name| name != LIST));
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
