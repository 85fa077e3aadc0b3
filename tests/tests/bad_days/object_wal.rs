//! The same bad days for a node whose write-ahead log is in the store, so that a put stands before each
//! acknowledgement (rules W2, W3). It needs what `main.rs` needs.

mod day;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use highwater_broker::node::Machine;
use highwater_client::{Batch, Error, Producer};
use highwater_kafka_peer::process::free_port;
use highwater_protocol::records::split_batches;
use highwater_tests::{
    Fault, FaultProxy, ProxiedRequest, T0, TestNode, producer_batch, put_latency, read, until,
};
use tempfile::TempDir;

use tokio::time::Instant;

use self::day::{Day, OUTAGE, SECOND, draw, metric, proxy, url};

const WAL_OLDEST: &str = "highwater_s3stream_wal_append_oldest_seconds";
const PUT_OLDEST: &str = "highwater_object_storage_put_oldest_seconds{class=\"wal\"}";
/// REQUEST_TIMED_OUT: the record stays, and the producer sends it again (A2).
const TIMED_OUT: i16 = 7;
const IN_FLIGHT: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);

fn is_wal_put(request: &ProxiedRequest<'_>) -> bool {
    request.method == "PUT" && request.path.contains("/wal/")
}

fn of_wal_puts(request: &ProxiedRequest<'_>, fault: Fault) -> Fault {
    match is_wal_put(request) {
        true => fault,
        false => Fault::None,
    }
}

/// The days, each with the time for which an append waits at least until the day ends.
const DAYS: &[Day] = &[
    Day {
        name: "latency",
        faults: 20,
        put_seconds: 0.0,
        rule: |request| Fault::Delay(put_latency(draw(request.nth))),
    },
    Day {
        name: "slow first byte",
        faults: 5,
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
        faults: 5,
        put_seconds: 0.0,
        rule: |_| Fault::Answer(409, "ConditionalRequestConflict"),
    },
    Day {
        name: "412 though no object is there",
        faults: 5,
        put_seconds: 0.0,
        rule: |request| of_wal_puts(request, Fault::Answer(412, "PreconditionFailed")),
    },
    Day {
        name: "an answer lost after an applied put, and a truncated body of the read after it",
        faults: 5,
        put_seconds: 0.0,
        rule: |request| match request.method {
            "PUT" => Fault::LoseAnswer,
            _ => Fault::Truncate,
        },
    },
    Day {
        name: "200 with an error body",
        faults: 5,
        put_seconds: 0.0,
        rule: |_| Fault::ErrorBody,
    },
    Day {
        name: "throttling of the log's prefix",
        faults: 5,
        put_seconds: 0.0,
        rule: |request| of_wal_puts(request, Fault::Answer(503, "SlowDown")),
    },
    Day {
        name: "one put hangs for ever",
        faults: 1,
        put_seconds: 0.0,
        rule: |request| match is_wal_put(request) && request.nth < 10 {
            true => Fault::Hang,
            false => Fault::None,
        },
    },
    Day {
        name: "every request hangs",
        faults: 3,
        put_seconds: 5.0,
        rule: |_| Fault::Hang,
    },
];

/// A node with a producer and a reader that tails it. The record at the offset n has the timestamp `T0 + n`.
struct Tailed {
    node: TestNode,
    proxy: FaultProxy,
    admin: String,
    acknowledged: AtomicI64,
    /// The end of what the reader has seen.
    seen: AtomicI64,
    is_over: AtomicBool,
}

fn settings<'a>(url: &'a str, endpoint: &'a str, admin: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("highwater.object.storage", url),
        ("highwater.object.storage.endpoint", endpoint),
        ("highwater.admin.listener", admin),
        ("highwater.wal", "object"),
        // the log alone has the records
        ("highwater.upload.interval.ms", "600000"),
        ("highwater.wal.object.token.interval.ms", "0"),
    ]
}

impl Tailed {
    async fn start() -> Result<Self> {
        let proxy = proxy().await?;
        let (url, admin) = (url("object-wal"), format!("127.0.0.1:{}", free_port()?));
        let settings = settings(&url, &proxy.endpoint, &admin);
        let node = TestNode::start_in(TempDir::new()?, &settings, Machine::real()).await?;
        node.create_topic("t", 1, &[]).await?;
        Ok(Self {
            node,
            proxy,
            admin,
            acknowledged: AtomicI64::new(0),
            seen: AtomicI64::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    /// Produces until it is over, and then until all is acknowledged.
    async fn produce(&self) -> Result<()> {
        let mut client = self.node.client().await?;
        let mut producer = Producer::new("t".into(), 0, IN_FLIGHT);
        producer.init(&mut client).await?;
        loop {
            while producer.has_room() && !self.is_over.load(Ordering::SeqCst) {
                let fields = producer.next_fields(1);
                let tag = i64::from(fields.base_sequence);
                let bytes = producer_batch(1, T0 + tag, fields);
                producer.push(Batch { bytes, tag });
                tokio::time::sleep(PAUSE).await;
            }
            producer.flush(&mut client).await?;
            match producer.receive(&mut client).await {
                Ok(None) => return Ok(()),
                Ok(Some(answered)) => {
                    let (offset, sequence) = (answered.answer.base_offset, answered.batch.tag);
                    ensure!(offset == sequence, "I6: {offset} is not {sequence}");
                    self.acknowledged.store(sequence + 1, Ordering::SeqCst);
                }
                Err(Error::Refused {
                    code: TIMED_OUT, ..
                }) => {
                    client = self.node.client().await?;
                    producer.resume(&mut client).await?;
                }
                Err(error) => bail!("{error}"),
            }
        }
    }

    /// Reads each record once and in order, until it is over and all that was acknowledged is read.
    async fn tail(&self) -> Result<()> {
        let mut client = self.node.client().await?;
        loop {
            let next = self.seen.load(Ordering::SeqCst);
            let is_over = self.is_over.load(Ordering::SeqCst);
            if is_over && next >= self.acknowledged.load(Ordering::SeqCst) {
                return Ok(());
            }
            let end = read_from(&mut client, next).await?;
            self.seen.store(end, Ordering::SeqCst);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn metric(&self, series: &str) -> Result<f64> {
        metric(&self.admin, series).await
    }

    /// Waits until more records were acknowledged and read.
    async fn goes_on(&self) -> Result<()> {
        let end = self.acknowledged.load(Ordering::SeqCst) + 20;
        until("records are acknowledged and read", async || {
            let acknowledged = self.acknowledged.load(Ordering::SeqCst);
            Ok(acknowledged >= end && self.seen.load(Ordering::SeqCst) >= end)
        })
        .await
    }

    async fn live_through(&self, day: &Day) -> Result<()> {
        self.goes_on().await?;
        self.proxy.set_rule(day.rule);
        until("requests meet faults", async || {
            let late = match day.put_seconds > 0.0 {
                true => self
                    .metric(PUT_OLDEST)
                    .await?
                    .min(self.metric(WAL_OLDEST).await?),
                false => 0.0,
            };
            Ok(self.proxy.faults() >= day.faults && late >= day.put_seconds)
        })
        .await?;
        self.proxy.heal();
        self.goes_on().await?;
        ensure!(
            self.metric(WAL_OLDEST).await? < 5.0,
            "nothing is late any more"
        );
        Ok(())
    }

    /// A store that is away: nothing is acknowledged, and the oldest append is told.
    async fn outage(&self) -> Result<()> {
        self.proxy.set_rule(|_| Fault::Refuse);
        tokio::time::sleep(SECOND).await;
        let before = self.acknowledged.load(Ordering::SeqCst);
        let begin = Instant::now();
        let mut oldest: f64 = 0.0;
        while begin.elapsed() < OUTAGE {
            oldest = oldest.max(self.metric(WAL_OLDEST).await?);
            let (acknowledged, seen) = (&self.acknowledged, &self.seen);
            let [acknowledged, seen] = [acknowledged, seen].map(|it| it.load(Ordering::SeqCst));
            ensure!(
                acknowledged == before && seen <= before,
                "{acknowledged} {seen} {before}"
            );
            tokio::time::sleep(SECOND / 4).await;
        }
        ensure!(oldest > 30.0, "the oldest append is told: {oldest}");
        self.proxy.heal();
        self.goes_on().await
    }

    async fn live(&self) -> Result<()> {
        for day in DAYS {
            let lived = self.live_through(day).await;
            lived.with_context(|| format!("{}: {} faults", day.name, self.proxy.faults()))?;
        }
        self.outage().await?;
        self.is_over.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// Reads once, and returns the end of what was read.
async fn read_from(client: &mut highwater_client::Connection, from: i64) -> Result<i64> {
    let (code, records) = read(client, "t", from).await?;
    ensure!(code == 0, "error {code} at {from}");
    let mut next = from;
    for (header, _) in split_batches(&records)? {
        let found = (header.base_offset, header.base_timestamp);
        ensure!(found == (next, T0 + next), "{header:?} at {next}");
        next += i64::from(header.count);
    }
    Ok(next)
}

// W2, W3, A2: nothing is acknowledged before it is durable, and nothing needs a restart
#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_the_store_loses_nothing_on_a_bad_day_and_goes_on_without_a_restart() -> Result<()>
{
    let tailed = Tailed::start().await?;
    tokio::select! {
        why = tailed.node.failed() => bail!("{why}"),
        done = async { futures::try_join!(tailed.produce(), tailed.tail(), tailed.live()) } => {
            done?;
        }
    }
    let end = tailed.acknowledged.load(Ordering::SeqCst);
    // the node is killed, and a new process finds what was acknowledged
    let Tailed { node, proxy, .. } = tailed;
    let dir = node.kill();
    let url = url("object-wal");
    let settings = settings(&url, &proxy.endpoint, "");
    let node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    let mut client = node.client().await?;
    let mut next = 0;
    until("every record is read", async || {
        next = read_from(&mut client, next).await?;
        Ok(next >= end)
    })
    .await?;
    ensure!(next == end, "{next} is not {end}");
    Ok(())
}
