//! A slow topic with retention. Where it rolls and where it starts follows Kafka's rules, whatever is restarted (F6).

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::producer::{Pace, Producer};
use super::{Clients, consumer, topics};
use crate::checker::TopicPartition;

pub(super) const AGED: TopicPartition = TopicPartition {
    topic: "aged",
    former: 0,
    index: 0,
};

/// How long records may remain after retention permits their removal: the node checks retention several times in it.
const LAG_MS: u64 = 1000;
/// How long the topic is watched after the last crash.
const WATCHED_MS: u64 = 3000;

pub(super) async fn create(clients: &Clients) {
    let keeps = clients.scenario.keeps;
    clients
        .checker
        .partition(AGED, |history| history.keeps(keeps));
    let configs = [
        ("segment.ms", keeps.segment_ms),
        ("segment.bytes", keeps.segment_bytes),
        ("retention.ms", keeps.retention_ms),
        ("retention.bytes", keeps.retention_bytes),
    ];
    topics::create_one(clients, AGED.topic, 1, &configs).await;
}

/// Produces until all is calm, then checks that the log start moves as it must.
pub(super) async fn run(clients: &Clients, number: u32) {
    let scenario = &clients.scenario;
    let pace = Pace {
        // One batch at a time is in flight, so that the order of the batches is known.
        in_flight_max: 1,
        think_ms: scenario.aged_think_ms,
        batches: None,
        repeats: true,
        records_max: 3,
        value_bytes_max: scenario.aged_value_bytes_max,
    };
    let mut producer = Producer::new(clients, AGED.into(), number, pace);
    producer.run().await;
    clients.producing.fetch_sub(1, Ordering::SeqCst);
    // a broker of a cluster may still wait for the answer of a controller that died, and retention waits with it
    if !clients.is_cluster() {
        verify(clients).await;
    }
}

/// Checks for a while that expired records are gone, from when the partition's leader answers.
pub(super) async fn verify(clients: &Clients) {
    while consumer::look(clients, AGED).await.is_err() && clients.checker.violation().is_none() {
        clients.rest(200).await;
    }
    let begin = tokio::time::Instant::now();
    let since = |ms| begin.elapsed() > Duration::from_millis(ms);
    while !since(LAG_MS + WATCHED_MS) && clients.checker.violation().is_none() {
        let is_due = since(LAG_MS);
        let then_ms = clients.now_ms() - i64::try_from(LAG_MS).unwrap_or(0);
        if consumer::look(clients, AGED).await.is_ok() && is_due {
            clients
                .checker
                .check_partition(AGED, |history| history.is_removed(then_ms));
        }
        clients.rest(200).await;
    }
}
