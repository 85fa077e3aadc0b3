//! One well-behaved producer and one well-behaved consumer, and the latencies that they see.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use highwater_client::{Connection, Consumer, Limits};
use highwater_protocol::Records;
use highwater_protocol::records::{BatchBuilder, split_batches};
use highwater_tests::connect;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clients::TAIL;

/// The size of a record; records are sent one at a time.
const RECORD_BYTES: usize = 1024;
const EVERY: Duration = Duration::from_millis(10);
/// The time without an answer after which the broker counts as not serving the client.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// The times from sending to acknowledgement, and from sending to consumption, in ascending order.
#[derive(Debug, Default)]
pub(crate) struct Felt {
    acknowledged: Vec<Duration>,
    consumed: Vec<Duration>,
}

impl fmt::Display for Felt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |times: &[Duration], percent: usize| {
            let time = times.get(times.len() * percent / 100).or(times.last());
            time.map_or(0.0, Duration::as_secs_f64) * 1000.0
        };
        write!(f, "{} records", self.consumed.len())?;
        for (name, times) in [
            ("acknowledged", &self.acknowledged),
            ("consumed", &self.consumed),
        ] {
            let (p50, p99, max) = (at(times, 50), at(times, 99), at(times, 100));
            write!(f, ", {name} p50 {p50:.1} p99 {p99:.1} max {max:.1} ms")?;
        }
        Ok(())
    }
}

/// The records in flight: the time at which each was sent, from the first offset on.
struct Course {
    first: i64,
    sent: Mutex<Vec<Instant>>,
}

/// Produces and consumes at the tail for a while, on a thread of its own. Each record is acknowledged once and consumed
/// in order.
pub(crate) async fn measure(address: SocketAddr, time: Duration) -> Result<Felt> {
    let measured = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(measure_here(address, time))
    });
    measured.await?
}

async fn measure_here(address: SocketAddr, time: Duration) -> Result<Felt> {
    let mut producer = connect(address).await?;
    let mut consumer = connect(address).await?;
    let course = Course {
        first: produce(&mut producer).await? + 1,
        sent: Mutex::default(),
    };
    let (tell, end) = watch::channel(None);
    let (acknowledged, consumed) = tokio::try_join!(
        produce_all(&mut producer, &course, time, tell),
        consume_all(&mut consumer, &course, end)
    )?;
    let mut felt = Felt {
        acknowledged,
        consumed,
    };
    felt.acknowledged.sort();
    felt.consumed.sort();
    Ok(felt)
}

async fn produce(client: &mut Connection) -> Result<i64> {
    let mut batch = BatchBuilder::default();
    batch.push(0, None, Some(&[1; RECORD_BYTES]));
    let batch = batch.build()?;
    let answer = tokio::time::timeout(GIVEN_UP, client.produce(TAIL, 0, batch));
    let answer = answer.await.context("a produce is not answered")??;
    ensure!(answer.error_code == 0, "{answer:?}");
    Ok(answer.base_offset)
}

async fn produce_all(
    client: &mut Connection,
    course: &Course,
    time: Duration,
    tell: watch::Sender<Option<i64>>,
) -> Result<Vec<Duration>> {
    let until = Instant::now() + time;
    let mut acknowledged = Vec::new();
    let mut next = course.first;
    while Instant::now() < until {
        let sent = Instant::now();
        course
            .sent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sent);
        let offset = produce(client).await?;
        ensure!(offset == next, "offset {offset} follows {next}");
        next += 1;
        acknowledged.push(sent.elapsed());
        tokio::time::sleep(EVERY).await;
    }
    tell.send_replace(Some(next));
    Ok(acknowledged)
}

async fn consume_all(
    client: &mut Connection,
    course: &Course,
    end: watch::Receiver<Option<i64>>,
) -> Result<Vec<Duration>> {
    let mut consumed = Vec::new();
    let mut next = course.first;
    let mut consumer = Consumer::new(TAIL.into(), [(0, next)], Limits::default());
    while end.borrow().is_none_or(|end| next < end) {
        let fetched = tokio::time::timeout(GIVEN_UP, consumer.fetch(client)).await;
        let fetched = fetched.context("a fetch is not answered")??;
        let partition = fetched.into_iter().next();
        let partition = partition.context("the partition is answered")?;
        ensure!(partition.error_code == 0, "{partition:?}");
        let records = partition.records.map(Records::into_bytes);
        for (batch, _) in split_batches(&records.unwrap_or_default())? {
            ensure!(batch.base_offset == next, "a record is missing or twice");
            let at = usize::try_from(next - course.first)?;
            let sent = course.sent.lock().unwrap_or_else(PoisonError::into_inner);
            consumed.push(sent.get(at).context("it was sent")?.elapsed());
            next += 1;
        }
        consumer.seek(0, next);
    }
    Ok(consumed)
}
