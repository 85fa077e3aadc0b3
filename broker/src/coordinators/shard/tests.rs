//! Tests of the driver with a state machine that only adds numbers.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use highwater_coordinator::{
    Coordinator, CoordinatorRecord, Effects, Now, RecordError, Ticket, UnknownRecord,
};
use highwater_protocol::ErrorCode;
use highwater_runtime::WallClock;
use highwater_s3stream::AppendReceipt;
use tokio::sync::{mpsc, oneshot};

use super::drive;
use crate::coordinators::Host;
use crate::coordinators::queue::Queue;
use crate::coordinators::tests::World;
use crate::coordinators::work::Asked;
use crate::partitions::ClosedMark;
use crate::topics::on_first_use;

/// A sum, whose log has the added numbers.
#[derive(Debug, Default)]
struct Sum {
    total: u64,
    loaded: u64,
    /// The numbers that wait for the next tick.
    waiting: Vec<Ticket<u64>>,
    wake_at: Option<u64>,
    panics: bool,
}

/// The actions of a sum.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Loaded(u64),
    Added(u64),
}

impl Sum {
    fn add(&mut self, number: u64, effects: &mut Effects<Told>) -> u64 {
        self.total += number;
        effects.records.push(CoordinatorRecord {
            key: Bytes::from_static(b"sum"),
            value: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
        });
        effects.actions.push(Told::Added(number));
        self.total
    }

    /// Answers at the next tick, which adds 1.
    fn wait(&mut self, ticket: Ticket<u64>, now: Now) {
        self.waiting.push(ticket);
        self.wake_at = Some(now.monotonic_ms + 1);
    }
}

impl Coordinator for Sum {
    type Action = Told;

    fn replay(&mut self, record: &CoordinatorRecord, _now: Now) -> Result<(), RecordError> {
        let value = record.value.clone().unwrap_or_default();
        let Ok(number) = <[u8; 8]>::try_from(&*value) else {
            return Err(RecordError::Unknown(UnknownRecord {
                record_type: 0,
                version: None,
            }));
        };
        self.total += u64::from_be_bytes(number);
        Ok(())
    }

    fn loaded(&mut self, _now: Now, effects: &mut Effects<Told>) {
        self.loaded = self.total;
        effects.actions.push(Told::Loaded(self.total));
    }

    fn wake_at(&self) -> Option<u64> {
        self.wake_at
    }

    fn tick(&mut self, now: Now, effects: &mut Effects<Told>) {
        if self.wake_at.is_none_or(|at| at > now.monotonic_ms) {
            return;
        }
        self.wake_at = None;
        assert!(!self.panics, "on purpose");
        let total = self.add(1, effects);
        for ticket in self.waiting.drain(..) {
            effects.answer(ticket, total);
        }
    }
}

const YEAR_MS: i64 = 365 * 24 * 60 * 60 * 1000;

/// Remembers its actions, and whether a receipt came with them.
#[derive(Debug, Default, Clone)]
struct Listener(Arc<Mutex<Vec<(Told, bool)>>>);

impl Listener {
    fn told(&self) -> Vec<(Told, bool)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Host for Listener {
    type Machine = Sum;
    const TOPIC: &'static str = "sums";

    fn empty(&self) -> Sum {
        Sum::default()
    }

    fn catch_up(&self, _machine: &mut Sum, _effects: &mut Effects<Told>) {}

    fn act(&self, action: Told, undurable: Option<&AppendReceipt>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.push((action, undurable.is_some()));
    }
}

fn asked() -> Asked {
    Asked {
        api: "none",
        group: String::new(),
    }
}

/// A driver of the topic's partition on a node.
struct Driven {
    world: World,
    listener: Listener,
    /// By how much the driver's clock is ahead of the log's, in milliseconds; the log refuses later timestamps.
    ahead_ms: Arc<AtomicI64>,
}

impl Driven {
    async fn start() -> Self {
        let world = World::start().await;
        let broker = world.broker();
        let topic = on_first_use(Listener::TOPIC, &broker.config);
        let topic = broker.create_topic(topic).await.expect("is created");
        while broker.partitions.find(&topic, 0).is_none() {
            tokio::task::yield_now().await;
        }
        Self {
            world,
            listener: Listener::default(),
            ahead_ms: Arc::default(),
        }
    }

    /// Runs a future on a queue while a driver serves it, which loads the sum first.
    async fn run<T>(&self, run: impl AsyncFnOnce(Queue<Sum>) -> T) -> T {
        let (jobs, receiver) = mpsc::channel(8);
        let (runs, retired) = oneshot::channel();
        let mut driver = self.world.driver_of(self.listener.clone());
        let (clock, ahead_ms) = (driver.clock.clone(), Arc::clone(&self.ahead_ms));
        driver.clock = WallClock::new(move || clock.now_ms() + ahead_ms.load(Ordering::SeqCst));
        let driving = drive(driver, receiver, retired);
        let run = async {
            let queue = Queue::new(jobs, ClosedMark::default());
            loaded(&queue).await;
            let done = run(queue).await;
            drop(runs);
            done
        };
        let ((), done) = tokio::join!(driving, run);
        done
    }
}

/// Waits until the sum is loaded; returns its value at that time.
async fn loaded(queue: &Queue<Sum>) -> u64 {
    loop {
        match queue.clone().read(asked(), |sum| sum.loaded).await {
            Err(ErrorCode::CoordinatorLoadInProgress) => tokio::task::yield_now().await,
            loaded => return loaded.expect("is loaded"),
        }
    }
}

async fn add(queue: &Queue<Sum>, number: u64) -> Result<u64, ErrorCode> {
    let queue = queue.clone();
    let add = move |sum: &mut Sum, effects: &mut Effects<Told>, _now| sum.add(number, effects);
    queue.call(asked(), add).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_machine_is_loaded_with_what_an_earlier_driver_appended() {
    let driven = Driven::start().await;
    let added = driven.run(async |queue| (add(&queue, 3).await, add(&queue, 4).await));
    assert_eq!(added.await, (Ok(3), Ok(7)));
    let told = driven.listener.told();
    assert_eq!(
        told[0],
        (Told::Loaded(0), false),
        "nothing is to be waited for"
    );
    assert_eq!(driven.run(async |queue| loaded(&queue).await).await, 7);
    driven.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_told_with_what_must_be_durable_first() {
    let driven = Driven::start().await;
    let hangs = &driven.world.node.faults.syncs_hang;
    let told = driven.run(async |queue| {
        hangs.store(true, Ordering::SeqCst);
        let mut adding = Box::pin(add(&queue, 3));
        let mut told = Vec::new();
        while !told.contains(&(Told::Added(3), true)) {
            assert_eq!(adding.as_mut().now_or_never(), None, "it is not durable");
            told.append(&mut driven.listener.told());
            tokio::task::yield_now().await;
        }
        hangs.store(false, Ordering::SeqCst);
        assert_eq!(adding.await, Ok(3));
        told
    });
    let told = told.await;
    assert_eq!(told, [(Told::Loaded(0), false), (Told::Added(3), true)]);
    driven.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_that_is_due_answers_what_waits_for_it() {
    let driven = Driven::start().await;
    let waited = driven.run(async |queue| {
        let waits = queue.wait_for(asked(), |sum, ticket, now, _effects| sum.wait(ticket, now));
        waits.await
    });
    assert_eq!(waited.await, Ok(1));
    assert_eq!(driven.run(async |queue| loaded(&queue).await).await, 1);
    driven.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_appended_is_neither_answered_nor_kept_nor_told() {
    let driven = Driven::start().await;
    let outcome = driven.run(async |queue| {
        add(&queue, 5).await.expect("is added");
        driven.listener.told();
        driven.ahead_ms.store(YEAR_MS, Ordering::SeqCst);
        let refused = add(&queue, 1).await;
        driven.ahead_ms.store(0, Ordering::SeqCst);
        (refused, loaded(&queue).await, add(&queue, 1).await)
    });
    assert_eq!(outcome.await, (Err(ErrorCode::NotCoordinator), 5, Ok(6)));
    let told: Vec<Told> = driven
        .listener
        .told()
        .into_iter()
        .map(|(told, _)| told)
        .collect();
    assert_eq!(told, [Told::Loaded(5), Told::Added(1)]);
    driven.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_that_panics_has_the_state_loaded_again() {
    let driven = Driven::start().await;
    let outcome = driven.run(async |queue| {
        add(&queue, 5).await.expect("is added");
        let waits = queue
            .clone()
            .wait_for(asked(), |sum, ticket, now, _effects| {
                sum.panics = true;
                sum.wait(ticket, now);
            });
        (waits.await, loaded(&queue).await, add(&queue, 1).await)
    });
    assert_eq!(outcome.await, (Err(ErrorCode::NotCoordinator), 5, Ok(6)));
    assert_eq!(driven.world.node.node.ended().now_or_never(), None);
    driven.world.node.stop().await;
}

// Another node leads the partition, or it is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_when_a_driver_is_retired_is_answered() {
    let driven = Driven::start().await;
    let mut waiting = None;
    driven
        .run(async |queue| {
            let mut waits = Box::pin(
                queue
                    .clone()
                    .wait_for(asked(), |sum: &mut Sum, ticket, _now, _effects| {
                        sum.waiting.push(ticket)
                    }),
            );
            assert_eq!(waits.as_mut().now_or_never(), None);
            let count = || queue.clone().read(asked(), |sum| sum.waiting.len());
            while count().await.expect("is read") == 0 {}
            waiting = Some(waits);
        })
        .await;
    let waited = waiting.expect("was asked").await;
    assert_eq!(waited, Err(ErrorCode::NotCoordinator));
    driven.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_is_durable_is_not_answered_as_if_it_were() {
    let driven = Driven::start().await;
    let outcome = driven.run(async |queue| {
        driven
            .world
            .node
            .faults
            .syncs_fail
            .store(true, Ordering::SeqCst);
        (add(&queue, 1).await, add(&queue, 1).await)
    });
    let (first, then) = outcome.await;
    assert_eq!(first, Err(ErrorCode::NotCoordinator));
    assert!(then.is_err(), "{then:?}");
}
