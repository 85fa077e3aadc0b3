//! The suites with an S3-compatible server, and the cost of a log there.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use highwater_kafka_peer::process::get;

use crate::broker::{Broker, free_port};
use crate::python;
use crate::report::{Body, Outcome, Report, say};
use crate::rust::run;
use crate::server::{BUCKET, Kind, Server};
use crate::time::pause;

const SECOND: Duration = Duration::from_secs(1);
/// The suites with clients that are repeated with the broker's log on the server.
const AGAIN: [&str; 3] = ["librdkafka@s3", "groups@s3", "java@s3"];
/// The suites with crashes that are repeated there. The time that a takeover has is real, so nothing runs beside them.
const AGAIN_ALONE: [&str; 3] = ["crash-object@s3", "cluster@s3", "cluster-example@s3"];
const COST_MIB: u64 = 128;
const IDLE: Duration = Duration::from_secs(5);
const START_TRIES: u32 = 600;
const REQUESTS: &str = "highwater_object_storage_requests_total";
const OPS: [&str; 4] = ["put", "get", "list", "delete"];

/// Every suite with the server. The first suite builds it, which takes minutes once.
pub(crate) fn run_all(report: &mut Report) {
    report.suite("s3-minio", || storage(Kind::Minio));
    report.suite("s3-versitygw", || storage(Kind::Versitygw));
    report.suite("node@s3", node);
    report.suite("cost", cost);
    report.together(
        AGAIN
            .map(|suite| (suite, Box::new(move || again(suite)) as Body<'_>))
            .into(),
    );
    for suite in AGAIN_ALONE {
        report.suite(suite, || again(suite));
    }
}

fn missing() -> Outcome {
    Outcome::Skipped("go is missing".to_owned())
}

/// The object store itself: its contract, the probe, a bucket's settings, errors; and on MinIO, which the other suites
/// use too, the store and a node behind a proxy that fails.
fn storage(kind: Kind) -> Result<Outcome> {
    let Some(binary) = kind.build()? else {
        return Ok(missing());
    };
    let server = Server::start(kind, &binary, "s3")?;
    let tests = |args: &[&str]| {
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--release", "--locked", "--quiet"]);
        // with the whole workspace, so that the build of the suite `tests` is reused
        cargo.args([
            "--workspace",
            "--features",
            "highwater-object-storage/s3-server",
        ]);
        cargo.args(args).envs(server.environment());
        run(cargo.env("HIGHWATER_TEST_S3", &server.endpoint))
    };
    match kind {
        Kind::Minio => {
            let of = |programs: &[&str]| {
                let features = ["--features", "highwater-tests/s3-server"];
                tests(&[&features[..], programs].concat())
            };
            // each waits for its store most of the time
            std::thread::scope(|scope| {
                let object_wal = scope.spawn(|| of(&["--test", "bad_days_object_wal"]));
                of(&["--test", "server", "--test", "bad_days"])?;
                object_wal
                    .join()
                    .map_err(|_panic| anyhow!("a thread panicked"))?
            })?;
        }
        Kind::Versitygw => tests(&["--test", "server", "--", "--skip", "settings"])?,
    }
    Ok(Outcome::Passed)
}

/// The tests of a node in the test's process.
fn node() -> Result<Outcome> {
    let Some(binary) = Kind::Minio.build()? else {
        return Ok(missing());
    };
    let server = Server::start(Kind::Minio, &binary, "node")?;
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--release", "--locked", "--quiet"]);
    cargo.args(["--workspace", "--test", "node", "--"]);
    // these tests damage or read the local directory that stands for a bucket
    for module in ["faults::", "uploads::", "cold_reads::"] {
        cargo.args(["--skip", module]);
    }
    cargo.envs(server.environment());
    run(cargo.env("HIGHWATER_TEST_OBJECT_STORAGE", format!("s3://{BUCKET}")))?;
    Ok(Outcome::Passed)
}

/// Repeats a suite with clients, in a process whose environment names the server for its brokers.
fn again(at_s3: &str) -> Result<Outcome> {
    let suite = at_s3.trim_end_matches("@s3");
    let Some(binary) = Kind::Minio.build()? else {
        return Ok(missing());
    };
    let server = Server::start(Kind::Minio, &binary, suite)?;
    let mut xtask = Command::new(std::env::current_exe()?);
    xtask.args(["test", "--require-all", "--only", suite]);
    xtask.envs(server.environment());
    run(xtask.env("HIGHWATER_OBJECT_STORAGE", format!("s3://{BUCKET}/{suite}")))?;
    Ok(Outcome::Passed)
}

/// Counts requests for each GiB written, for each GiB read back cold, and in an idle hour.
fn cost() -> Result<Outcome> {
    let Some(binary) = Kind::Minio.build()? else {
        return Ok(missing());
    };
    let Some(python) = python::newest()? else {
        return Ok(Outcome::Skipped("python3 is missing".to_owned()));
    };
    let server = Server::start(Kind::Minio, &binary, "cost")?;
    let admin = format!("127.0.0.1:{}", free_port()?);
    let environment: BTreeMap<String, String> = server
        .environment()
        .into_iter()
        .chain([
            ("HIGHWATER_OBJECT_STORAGE", format!("s3://{BUCKET}/cost")),
            ("HIGHWATER_UPLOAD_INTERVAL_MS", "5000".to_owned()),
        ])
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let start = |fresh| {
        let broker = Broker::start_with("cost", fresh, &admin, &environment)?;
        started(&admin)?;
        anyhow::Ok(broker)
    };
    let script = |broker: &Broker, what: &str| {
        let mut script = Command::new(&python);
        script.args(["tests/clients/python/cost.py", &broker.address, what]);
        run(script.arg(COST_MIB.to_string()))
    };
    let broker = start(true)?;
    let begun = requests(&admin)?;
    script(&broker, "write")?;
    let idle_from = settled(&admin)?;
    pause(IDLE);
    let idle_to = requests(&admin)?;
    broker.stop()?;
    // a new process has an empty cache
    let broker = start(false)?;
    let cold = requests(&admin)?;
    script(&broker, "read")?;
    let read = requests(&admin)?;
    broker.stop()?;
    let per_gib = |from: &Counts, to: &Counts| line(from, to, 1024.0 / mib());
    say(&format!(
        "a start asks      {}",
        line(&Counts::new(), &begun, 1.0)
    ));
    say(&format!(
        "per GiB written   {}",
        per_gib(&begun, &idle_from)
    ));
    say(&format!("per GiB read cold {}", per_gib(&cold, &read)));
    let hours = 3600.0 / IDLE.as_secs_f64();
    say(&format!(
        "per idle hour     {}",
        line(&idle_from, &idle_to, hours)
    ));
    ensure!(idle_from == idle_to, "an idle broker makes requests");
    let puts = idle_from.get("put").copied().unwrap_or_default();
    ensure!(
        puts > begun.get("put").copied().unwrap_or_default(),
        "no object was uploaded"
    );
    let gets = |counts: &Counts| counts.get("get").copied().unwrap_or_default();
    ensure!(
        gets(&read) > gets(&cold),
        "no object was read from the store"
    );
    Ok(Outcome::Passed)
}

type Counts = BTreeMap<String, u64>;

#[expect(clippy::cast_precision_loss, reason = "a small number, to be printed")]
fn mib() -> f64 {
    COST_MIB as f64
}

/// Waits until the broker is ready: its start makes requests too, which must not be counted.
fn started(admin: &str) -> Result<()> {
    for _ in 0..START_TRIES {
        if get(admin, "/health/ready")?.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        pause(SECOND / 10);
    }
    bail!("the broker is not ready")
}

/// The number of requests so far, by `op`.
fn requests(admin: &str) -> Result<Counts> {
    let text = get(admin, "/metrics")?;
    let mut counts = Counts::new();
    for line in text.lines().filter(|line| line.starts_with(REQUESTS)) {
        let (_, op) = line
            .split_once("op=\"")
            .context("the metric has no label `op`")?;
        let (op, _) = op.split_once('"').context("the metric has no label `op`")?;
        let (_, count) = line.rsplit_once(' ').context("a value")?;
        *counts.entry(op.to_owned()).or_default() += count.parse::<u64>()?;
    }
    Ok(counts)
}

/// The number of requests, once none has been made for longer than an upload waits.
fn settled(admin: &str) -> Result<Counts> {
    let mut last = requests(admin)?;
    for _ in 0..4 {
        pause(6 * SECOND);
        let now = requests(admin)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

#[expect(clippy::cast_precision_loss, reason = "small numbers, to be printed")]
fn line(from: &Counts, to: &Counts, factor: f64) -> String {
    let of = |op: &&str| {
        let count = |counts: &Counts| counts.get(*op).copied().unwrap_or_default();
        let more = count(to) - count(from);
        format!("{op} {:.0}", more as f64 * factor)
    };
    OPS.iter().map(of).collect::<Vec<_>>().join(", ")
}
