//! One producer and one consumer that do as clients should: what they feel.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use highwater_protocol::StrBytes;
use highwater_protocol::messages::FetchRequest;
use highwater_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use highwater_protocol::records::{BatchBuilder, split_batches};
use highwater_tests::Client;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clients::TAIL;

/// One record of this size at a time.
const RECORD_BYTES: usize = 1024;
const EVERY: Duration = Duration::from_millis(10);
/// Who stops hearing anything for this long is no longer served.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// Times from send to acknowledgement, and from send to consumption, in order of size.
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

/// Records under way: when each was sent, from the first offset on.
struct Course {
    first: i64,
    sent: Mutex<Vec<Instant>>,
}

/// Produces and consumes at the tail for a while, on a thread that does nothing else; every record is acknowledged once
/// and consumed in order.
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
    let mut producer = Client::connect(address).await?;
    let mut consumer = Client::connect(address).await?;
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

async fn produce(client: &mut Client) -> Result<i64> {
    let mut batch = BatchBuilder::default();
    batch.push(0, None, Some(&[1; RECORD_BYTES]));
    let batch = batch.build()?;
    let answer = tokio::time::timeout(GIVEN_UP, client.produce(TAIL, 0, batch));
    let answer = answer.await.context("a produce is not answered")??;
    ensure!(answer.error_code == 0, "{answer:?}");
    Ok(answer.base_offset)
}

async fn produce_all(
    client: &mut Client,
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

fn tail_fetch(fetch_offset: i64) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: StrBytes::from(TAIL),
            partitions: vec![FetchPartition {
                fetch_offset,
                partition_max_bytes: 1 << 20,
                current_leader_epoch: -1,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

async fn consume_all(
    client: &mut Client,
    course: &Course,
    end: watch::Receiver<Option<i64>>,
) -> Result<Vec<Duration>> {
    let mut consumed = Vec::new();
    let mut next = course.first;
    while end.borrow().is_none_or(|end| next < end) {
        let request = tail_fetch(next);
        let answer = tokio::time::timeout(GIVEN_UP, client.send(&request, 12)).await;
        let answer = answer.context("a fetch is not answered")??;
        let topic = answer.responses.into_iter().next();
        let partition = topic.and_then(|topic| topic.partitions.into_iter().next());
        let partition = partition.context("the partition is answered")?;
        ensure!(partition.error_code == 0, "{partition:?}");
        let records = partition
            .records
            .map_or_else(Bytes::new, |it| it.into_bytes());
        for (batch, _) in split_batches(&records)? {
            ensure!(batch.base_offset == next, "a record is missing or twice");
            let at = usize::try_from(next - course.first)?;
            let sent = course.sent.lock().unwrap_or_else(PoisonError::into_inner);
            consumed.push(sent.get(at).context("it was sent")?.elapsed());
            next += 1;
        }
    }
    Ok(consumed)
}
