//! The load: idempotent producers with several batches in flight, consumers, offset commits, topics, deleted records, a
//! topic with retention, one that is deleted and created again, one that gets more partitions, and moves of partitions.
//!
//! After any failure a client goes on where it was, as Kafka's clients do. It tells the checker every answer.

mod aged;
mod connection;
mod consumer;
mod group;
mod growing;
mod moved;
mod producer;
mod records;
mod recreated;
mod topics;
mod voters;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use highwater_protocol::ErrorCode;
use highwater_runtime::SeededRng;
use highwater_types::NodeId;
use tokio::sync::watch;

use crate::Trace;
use crate::checker::{Checker, Known, PartitionHistory, TopicPartition};
use crate::scenario::Scenario;
use connection::Connection;

const TOPIC: &str = "t";

/// The state that all clients of a run share.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) trace: Trace,
    /// The brokers, all of one cluster.
    pub(crate) brokers: Vec<Broker>,
    /// The controllers, if there are several of them.
    pub(crate) controllers: Vec<Controller>,
    /// Whether a voter may lose its disk in this run.
    pub(crate) loses_a_voter: bool,
    pub(crate) checker: Checker,
    pub(crate) scenario: Scenario,
    pub(crate) rng: SeededRng,
    /// True when nothing fails any more and the clients finish.
    pub(crate) calm: watch::Receiver<bool>,
    /// The number of producers that are not done.
    pub(crate) producing: AtomicUsize,
}

/// A broker, as clients reach it.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) id: NodeId,
    /// Its network name.
    pub(crate) name: String,
    /// Changes when its process ends, which resets its connections.
    pub(crate) crashes: watch::Receiver<u64>,
}

/// A controller, as an operator adds it to the voters.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) id: NodeId,
    /// Its network name.
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// Why a client's attempt ended.
#[derive(Debug)]
enum Again {
    /// The node does not answer, or not yet; the client tries again.
    Later,
    /// A violation was found, and is noted.
    Violation,
}

/// Returns `Ok` if an answer is a success, and otherwise whether the client may try again.
fn judge(checker: &Checker, what: &str, code: i16) -> Result<(), Again> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(code) if code.is_retriable() => {
            tracing::debug!(what, ?code, "a client tries again");
            Err(Again::Later)
        }
        known => {
            let what = format!("{what} is answered {code} {known:?}");
            checker.check(Err(what));
            Err(Again::Violation)
        }
    }
}

impl Clients {
    fn is_calm(&self) -> bool {
        *self.calm.borrow()
    }

    fn now_ms(&self) -> i64 {
        crate::options::wall_clock_ms(&self.trace)
    }

    /// Calls [`crate::checker::PartitionHistory::bounds`] with the present time.
    fn check_bounds(&self, at: TopicPartition, known: Known, start: i64, end: i64) {
        let now_ms = self.now_ms();
        self.checker.check_partition(at, |history| {
            history.ages(now_ms);
            history.bounds(known, start, end)
        });
    }

    fn violation(&self, what: &str) {
        self.checker.check(Err(what.to_owned()));
    }

    async fn rest(&self, max_ms: u64) {
        tokio::time::sleep(Duration::from_millis(1 + self.rng.below(max_ms))).await;
    }

    /// Returns `Ok` if an answer is a success, and otherwise whether the client may try again.
    fn expect(&self, what: &str, code: i16) -> Result<(), Again> {
        judge(&self.checker, what, code)
    }

    /// Runs the whole load until all is calm and every client has seen what it must see.
    pub(crate) async fn run(self: Arc<Self>) {
        let scenario = &self.scenario;
        let slow = scenario.slow_partition();
        topics::create_one(&self, TOPIC, slow + 1, &[]).await;
        aged::create(&self).await;
        let mut all: Vec<BoxFuture<'_, ()>> = Vec::new();
        let mut numbers = 0..;
        let mut number = || numbers.next().unwrap_or(0);
        for partition in 0..scenario.partitions {
            for _ in 0..scenario.producers_per_partition {
                self.producing.fetch_add(1, Ordering::SeqCst);
                all.push(Box::pin(producer::run(&self, main(partition), number())));
            }
        }
        self.producing.fetch_add(2, Ordering::SeqCst);
        all.push(Box::pin(aged::run(&self, number())));
        all.push(Box::pin(producer::run_slow(&self, main(slow), number())));
        for partition in (0..=slow).map(main) {
            all.push(Box::pin(consumer::run(&self, partition)));
            all.push(Box::pin(topics::delete_records(&self, partition)));
        }
        all.push(Box::pin(consumer::run(&self, aged::AGED)));
        all.push(Box::pin(recreated::run(&self)));
        all.push(Box::pin(topics::run(&self)));
        if self.is_cluster() {
            all.push(Box::pin(growing::run(&self)));
            all.push(Box::pin(moved::run(&self)));
        }
        if !self.controllers.is_empty() {
            all.push(Box::pin(voters::run(&self)));
        }
        for group in 0..group::GROUPS {
            all.push(Box::pin(group::run(&self, group)));
        }
        all.push(Box::pin(group::watch(&self)));
        join_all(all).await;
    }

    /// Reads and checks everything once more.
    pub(crate) async fn audit(self: Arc<Self>) {
        let partitions = (0..=self.scenario.slow_partition()).map(main);
        let grown = growing::partitions(&self);
        let partitions: Vec<_> = partitions.chain([aged::AGED]).chain(grown).collect();
        for partition in &partitions {
            self.checker
                .partition(*partition, PartitionHistory::note_end);
        }
        let mut all: Vec<BoxFuture<'_, ()>> = Vec::new();
        for partition in &partitions {
            all.push(Box::pin(consumer::read_all(&self, *partition)));
        }
        all.push(Box::pin(group::verify(&self)));
        all.push(Box::pin(topics::verify(&self)));
        all.push(Box::pin(aged::verify(&self)));
        join_all(all).await;
        for partition in partitions {
            self.checker
                .check_partition(partition, |history| history.is_complete());
        }
    }

    /// Whether there are several brokers, whose images of the metadata may differ for a while.
    fn is_cluster(&self) -> bool {
        self.brokers.len() > 1
    }

    fn is_producing(&self) -> bool {
        self.producing.load(Ordering::SeqCst) > 0
    }
}

/// A partition of the topic that all clients use.
const fn main(index: i32) -> TopicPartition {
    TopicPartition {
        topic: TOPIC,
        former: 0,
        index,
    }
}
