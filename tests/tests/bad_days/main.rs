//! The bad days of an S3-compatible server, behind a proxy that fails on demand: `HIGHWATER_TEST_S3` is the server's
//! endpoint and `AWS_*` its keys; the bucket `highwater` has to exist. `cargo xtask test --only s3-minio` starts one.

mod day;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use highwater_broker::node::Machine;
use highwater_io::RealDevice;
use highwater_kafka_peer::process::free_port;
use highwater_object_storage::{
    Claim, Config, OpenError, Opened, Opener, Ports, S3Config, conformance, open,
};
use highwater_protocol::records::split_batches;
use highwater_runtime::{SeededRng, Tasks, WallClock};
use highwater_tests::{
    Condition, Fault, FaultProxy, ProxiedRequest, T0, TestNode, batch, put_latency, read,
};
use highwater_types::{NodeId, Uuid};
use tempfile::TempDir;
use tokio::time::Instant;

use self::day::{Day, OUTAGE, SECOND, draw, metric, proxy, url};

/// A seed for each start, because a probe's keys are never used again.
static SEEDS: AtomicU64 = AtomicU64::new(1);

async fn open_behind(proxy: &FaultProxy, name: &str) -> Result<Opened, OpenError> {
    let config = Config {
        url: url(name),
        s3: S3Config {
            endpoint: Some(proxy.endpoint.clone()),
            ..S3Config::default()
        },
    };
    let opener = Opener {
        cluster: Uuid([1; 16]),
        node: NodeId(1),
        claim: Claim::Make,
        has_own_directory: false,
    };
    let ports = Ports {
        device: Arc::new(RealDevice),
        memory: None,
        clock: WallClock::system(),
        tasks: Tasks::default(),
        rng: SeededRng::from_seed(SEEDS.fetch_add(1, Ordering::SeqCst)),
    };
    open(&config, opener, ports).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_fence_is_refused_with_what_failed() -> Result<()> {
    let proxy = proxy().await?;
    for (condition, fault, reason) in [
        (
            Condition::Absent,
            Fault::DropCondition,
            "created the same object",
        ),
        (
            Condition::Absent,
            Fault::AcceptLosers,
            "created the same object",
        ),
        (Condition::Version, Fault::DropCondition, "another version"),
        (Condition::Version, Fault::AcceptLosers, "another version"),
    ] {
        let told = format!("{condition:?} {fault:?}");
        // the claim is no part of the probe
        proxy.set_rule(move |request| {
            match request.condition == Some(condition) && request.path.contains("/probe/") {
                true => fault.clone(),
                false => Fault::None,
            }
        });
        let refused = open_behind(&proxy, "untrusted").await;
        ensure!(proxy.faults() > 0, "{told}: no fault: {refused:?}");
        let Err(OpenError::Untrusted { reason: found, .. }) = refused else {
            anyhow::bail!("{told}: {refused:?}");
        };
        ensure!(found.contains(reason), "{told}: {found}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_slow_or_loses_answers_is_trusted() -> Result<()> {
    let proxy = proxy().await?;
    type Rule = fn(&ProxiedRequest<'_>) -> Fault;
    let rules: [Rule; 4] = [
        |request| Fault::Delay(put_latency(draw(request.nth))),
        |_| Fault::SlowFirstByte(SECOND / 4),
        |request| match (request.method, request.nth % 11) {
            ("PUT", 0) => Fault::LoseAnswer,
            ("PUT", 1) => Fault::Answer(409, "ConditionalRequestConflict"),
            ("PUT", 2) => Fault::Answer(503, "SlowDown"),
            _ => Fault::None,
        },
        |request| match (request.method, request.nth % 4) {
            ("GET", 0) if !request.path.contains('?') => Fault::Truncate,
            _ => Fault::None,
        },
    ];
    for rule in rules {
        proxy.set_rule(rule);
        open_behind(&proxy, "trusted").await?;
        ensure!(proxy.faults() > 0, "a rule without faults");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_conforms_behind_faults_that_retries_hide() -> Result<()> {
    let proxy = proxy().await?;
    let reads = |fault: Fault| {
        move |request: &ProxiedRequest<'_>| match (request.method, request.nth % 3) {
            ("GET", 0) if !request.path.contains('?') => fault.clone(),
            _ => Fault::None,
        }
    };
    let opened = open_behind(&proxy, "latency").await?;
    proxy.set_rule(|request| Fault::Delay(put_latency(draw(request.nth))));
    conformance::run(&*opened.storage).await;
    conformance::replaces(&*opened.storage).await;
    for (name, fault) in [
        ("first-byte", Fault::SlowFirstByte(SECOND / 5)),
        ("truncated", Fault::Truncate),
        ("lost", Fault::LoseAnswer),
        ("error-body", Fault::ErrorBody),
        ("slow-down", Fault::Answer(503, "SlowDown")),
        ("refused", Fault::Refuse),
    ] {
        proxy.heal();
        let opened = open_behind(&proxy, name).await?;
        proxy.set_rule(reads(fault));
        conformance::run(&*opened.storage).await;
        ensure!(proxy.faults() > 0, "{name}");
    }
    Ok(())
}

fn is_data(request: &ProxiedRequest<'_>) -> bool {
    request.method == "PUT" && request.path.contains("/data/")
}

/// Whether the key has one of half of the hashes, by which objects are spread over the store.
fn is_throttled(request: &ProxiedRequest<'_>) -> bool {
    let hash = request.path.split("/data/").nth(1).unwrap_or_default();
    is_data(request) && hash.starts_with(|digit: char| ('0'..='7').contains(&digit))
}

const DAYS: &[Day] = &[
    Day {
        name: "latency",
        faults: 5,
        put_seconds: 0.0,
        rule: |request| Fault::Delay(put_latency(draw(request.nth))),
    },
    Day {
        name: "slow first byte",
        faults: 2,
        put_seconds: 0.0,
        rule: |_| Fault::SlowFirstByte(SECOND),
    },
    Day {
        name: "503 bursts",
        faults: 5,
        put_seconds: 0.0,
        rule: |_| Fault::Answer(503, "SlowDown"),
    },
    Day {
        name: "409",
        faults: 3,
        put_seconds: 0.0,
        rule: |_| Fault::Answer(409, "ConditionalRequestConflict"),
    },
    Day {
        name: "412 though no object is there",
        faults: 3,
        put_seconds: 0.0,
        rule: |request| match is_data(request) {
            true => Fault::Answer(412, "PreconditionFailed"),
            false => Fault::None,
        },
    },
    Day {
        name: "an answer lost after an applied put, and a truncated body of the read after it",
        faults: 4,
        put_seconds: 0.0,
        rule: |request| match request.method {
            "PUT" => Fault::LoseAnswer,
            _ => Fault::Truncate,
        },
    },
    Day {
        name: "200 with an error body",
        faults: 3,
        put_seconds: 0.0,
        rule: |_| Fault::ErrorBody,
    },
    Day {
        name: "throttling of one prefix",
        faults: 3,
        put_seconds: 0.0,
        rule: |request| match is_throttled(request) {
            true => Fault::Answer(503, "SlowDown"),
            false => Fault::None,
        },
    },
    Day {
        name: "a put that hangs for ever",
        faults: 1,
        put_seconds: 20.0,
        rule: |request| match request.nth {
            0 => Fault::Hang,
            _ => Fault::None,
        },
    },
];

const PUT_OLDEST: &str = "highwater_object_storage_put_oldest_seconds{class=\"upload\"}";
const BATCHES: i64 = 40;
const RECORDS: i64 = 10;
const NEVER: Duration = Duration::from_secs(300);

/// A node on the disk WAL whose objects go through the proxy.
struct Bad {
    node: TestNode,
    proxy: FaultProxy,
    admin: String,
    /// The end of the partition, as it was acknowledged.
    end: i64,
}

fn settings<'a>(url: &'a str, endpoint: &'a str, admin: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("highwater.object.storage", url),
        ("highwater.object.storage.endpoint", endpoint),
        ("highwater.admin.listener", admin),
        ("highwater.upload.interval.ms", "50"),
    ]
}

impl Bad {
    async fn start() -> Result<Self> {
        let proxy = proxy().await?;
        let (url, admin) = (url("node"), format!("127.0.0.1:{}", free_port()?));
        let settings = settings(&url, &proxy.endpoint, &admin);
        let node = TestNode::start_in(TempDir::new()?, &settings, Machine::real()).await?;
        node.create_topic("t", 1, &[]).await?;
        Ok(Self {
            node,
            proxy,
            admin,
            end: 0,
        })
    }

    /// Produces a batch; produce waits for no upload.
    async fn produce(&mut self) -> Result<()> {
        let mut client = self.node.client().await?;
        let answer = client.produce("t", 0, batch(RECORDS, T0)).await?;
        ensure!(answer.error_code == 0, "{answer:?}");
        ensure!(answer.base_offset == self.end, "I1: {answer:?}");
        self.end += RECORDS;
        Ok(())
    }

    async fn metric(&self, series: &str) -> Result<f64> {
        metric(&self.admin, series).await
    }

    /// Produces until enough requests have met a fault.
    async fn meets(&mut self, day: &Day) -> Result<()> {
        let begin = Instant::now();
        let mut batches = 0;
        while self.proxy.faults() < day.faults {
            ensure!(begin.elapsed() < NEVER, "no request meets a fault");
            if batches < BATCHES {
                self.produce().await?;
                batches += 1;
            }
            tokio::time::sleep(SECOND / 20).await;
        }
        Ok(())
    }

    /// Waits until all that was acknowledged is uploaded; returns the age of the oldest put that was told meanwhile.
    async fn is_uploaded(&self) -> Result<f64> {
        let begin = Instant::now();
        let mut oldest: f64 = 0.0;
        while self
            .metric("highwater_s3stream_upload_backlog_bytes")
            .await?
            > 0.0
        {
            ensure!(begin.elapsed() < NEVER, "uploads don't go on");
            oldest = oldest.max(self.metric(PUT_OLDEST).await?);
            tokio::time::sleep(SECOND / 20).await;
        }
        Ok(oldest)
    }

    async fn live_through(&mut self, day: &Day) -> Result<()> {
        self.proxy.set_rule(day.rule);
        self.meets(day).await?;
        // the record that waits for its upload is visible, and the last one is
        self.reads_all(self.end - RECORDS).await?;
        self.proxy.heal();
        self.produce().await?;
        let oldest = self.is_uploaded().await?;
        ensure!(
            oldest >= day.put_seconds,
            "a put was told to be {oldest} s late"
        );
        Ok(())
    }

    /// Reads every record from an offset to the end, each once and in order.
    async fn reads_all(&self, from: i64) -> Result<()> {
        let mut client = self.node.client().await?;
        let (mut next, begin) = (from, Instant::now());
        while next < self.end {
            let (code, records) = read(&mut client, "t", next).await?;
            // a read from the store that is late is answered empty, and goes on for the next fetch
            ensure!(code == 0, "error {code} at {next}");
            ensure!(begin.elapsed() < NEVER, "nothing is read at {next}");
            for (header, _) in split_batches(&records)? {
                ensure!(header.base_offset == next, "{header:?} at {next}");
                next += i64::from(header.last_offset_delta) + 1;
            }
        }
        ensure!(next == self.end, "{next} is not {}", self.end);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_loses_nothing_on_a_bad_day_and_goes_on_without_a_restart() -> Result<()> {
    let mut bad = Bad::start().await?;
    for day in DAYS {
        let lived = bad.live_through(day).await;
        lived.with_context(|| format!("{}: {} faults", day.name, bad.proxy.faults()))?;
    }
    // an outage
    let is_over = Arc::new(AtomicBool::new(false));
    let begin = Instant::now();
    let over = Arc::clone(&is_over);
    bad.proxy.set_rule(move |_| {
        over.store(begin.elapsed() > OUTAGE, Ordering::SeqCst);
        Fault::Refuse
    });
    let mut oldest: f64 = 0.0;
    while !is_over.load(Ordering::SeqCst) {
        bad.produce().await?;
        oldest = oldest.max(
            bad.metric("highwater_s3stream_upload_oldest_seconds")
                .await?,
        );
        tokio::time::sleep(SECOND / 4).await;
    }
    ensure!(oldest > 30.0, "the oldest record is told: {oldest}");
    bad.proxy.heal();
    bad.is_uploaded().await.context("after an outage")?;
    bad.reads_all(0).await?;
    // a new process has nothing in memory
    let Bad {
        node, proxy, end, ..
    } = bad;
    let url = url("node");
    let dir = node.stop().await?;
    proxy.set_rule(|request| match request.nth % 3 {
        0 if request.path.contains("/data/") => Fault::Truncate,
        _ => Fault::None,
    });
    let settings = settings(&url, &proxy.endpoint, "");
    let node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    let bad = Bad {
        node,
        proxy,
        admin: String::new(),
        end,
    };
    bad.reads_all(0).await?;
    ensure!(bad.proxy.faults() > 0, "no read met a fault");
    Ok(())
}
