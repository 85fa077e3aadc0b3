//! The coordinators of one kind on a node: one for each open partition of their topic.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use highwater_coordinator::{Coordinator, Effects, Now};
use highwater_partition_log::PartitionLog;
use highwater_protocol::ErrorCode;
use highwater_runtime::{TaskKind, Tasks};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Host;
use super::queue::Queue;
use super::shard::{self, Driver};
use super::work::Asked;
use crate::broker::Broker;
use crate::cluster::coordinating_partition;
use crate::partitions::Led;

/// The most jobs that may wait for one shard.
const JOBS_MAX: usize = 1024;

/// The coordinators of one kind, by partition.
#[derive(Debug)]
pub(crate) struct Shards<H: Host> {
    shards: RwLock<BTreeMap<i32, Shard<H::Machine>>>,
    /// For each partition that ever had a shard, the lock that its drivers take in turn.
    turns: Mutex<BTreeMap<i32, Arc<tokio::sync::Mutex<()>>>>,
}

impl<H: Host> Default for Shards<H> {
    fn default() -> Self {
        Self {
            shards: RwLock::default(),
            turns: Mutex::default(),
        }
    }
}

#[derive(Debug)]
struct Shard<M: Coordinator> {
    /// The partition's log, which distinguishes a partition from its successor.
    of: Arc<PartitionLog>,
    queue: Queue<M>,
    /// Retires the shard's driver when it is dropped.
    _runs: oneshot::Sender<Infallible>,
}

impl<H: Host> Shards<H> {
    fn all(&self) -> Vec<Queue<H::Machine>> {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        shards.values().map(|shard| shard.queue.clone()).collect()
    }

    /// The shard of a key, for instance of a group.
    ///
    /// # Errors
    /// `NOT_COORDINATOR` if this node does not lead the partition, or can't open it; `COORDINATOR_LOAD_IN_PROGRESS` while
    /// it is being opened.
    pub(super) fn shard(&self, broker: &Broker, key: &str) -> Result<Queue<H::Machine>, ErrorCode> {
        let topic = broker.topic(H::TOPIC).ok_or(ErrorCode::NotCoordinator)?;
        let index = coordinating_partition(&topic, key);
        let led = broker.partitions.led(&topic, index, -1);
        let led = led.map_err(|_refusal| ErrorCode::NotCoordinator)?;
        self.of(index, &led)
            .ok_or(ErrorCode::CoordinatorLoadInProgress)
    }

    /// The shard of a partition that this node leads; `None` while there is none yet.
    fn of(&self, index: i32, led: &Led) -> Option<Queue<H::Machine>> {
        let Led::Here(partition) = led else {
            return None;
        };
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        let shard = shards.get(&index)?;
        Arc::ptr_eq(&shard.of, &partition.log).then(|| shard.queue.clone())
    }

    /// Reads from every shard.
    ///
    /// # Errors
    /// The first error of a shard; `COORDINATOR_LOAD_IN_PROGRESS` while a partition of the topic is being opened here.
    pub(super) async fn read_all<T: Send + 'static>(
        &self,
        broker: &Broker,
        asked: &Asked,
        read: impl Fn(&H::Machine) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, ErrorCode> {
        let mut queues = Vec::new();
        if let Some(topic) = broker.topic(H::TOPIC) {
            for index in topic.partition_indexes() {
                if let Ok(led) = broker.partitions.led(&topic, index, -1) {
                    let queue = self.of(index, &led);
                    queues.push(queue.ok_or(ErrorCode::CoordinatorLoadInProgress)?);
                }
            }
        }
        let reads = queues.into_iter().map(|queue| {
            let (asked, read) = (asked.clone(), read.clone());
            async move { queue.read(asked, read).await }
        });
        futures::future::try_join_all(reads).await
    }

    /// Makes a call in every shard; returns whether each shard has made it, or will load before it runs again.
    pub(super) async fn have_all(
        &self,
        asked: &Asked,
        act: impl Fn(&mut H::Machine, &mut Effects<<H::Machine as Coordinator>::Action>, Now)
        + Clone
        + Send
        + 'static,
    ) -> bool {
        let calls = self.all().into_iter().map(|queue| {
            let (asked, act) = (asked.clone(), act.clone());
            async move { queue.call(asked, act).await }
        });
        let answers = futures::future::join_all(calls).await;
        // A shard that ended is loaded again, and the load sees the state of that time.
        let done = |answer: &Result<(), ErrorCode>| {
            matches!(answer, Ok(()) | Err(ErrorCode::NotCoordinator))
        };
        answers.iter().all(done)
    }

    fn turn(&self, index: i32) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(index).or_default())
    }

    /// Opens a shard for each open partition of the topic, and drops the shards of closed partitions. A partition is
    /// closed because another node leads it or because it was deleted. Calls that wait are then answered
    /// `NOT_COORDINATOR`, and the state is dropped.
    pub(super) fn open(&self, broker: &Broker, tasks: &Tasks, host: &Arc<H>) {
        let topic = broker.topic(H::TOPIC);
        let open = |index: i32| {
            let topic = topic.as_ref()?;
            broker.partitions.find(topic, index)
        };
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        shards.retain(|index, shard| {
            open(*index).is_some_and(|partition| Arc::ptr_eq(&partition.log, &shard.of))
        });
        let indexes = topic.iter().flat_map(|topic| topic.partition_indexes());
        for index in indexes {
            if shards.contains_key(&index) {
                continue;
            }
            let Some(partition) = open(index) else {
                continue;
            };
            let (jobs, receiver) = mpsc::channel(JOBS_MAX);
            let (runs, retired) = oneshot::channel();
            let driver = Driver {
                host: Arc::clone(host),
                index,
                log: Arc::clone(&partition.log),
                streams: broker.streams.clone(),
                clock: broker.clock.clone(),
                rng: broker.rng.clone(),
                turn: self.turn(index),
                since: Instant::now(),
            };
            let driven = shard::drive(driver, receiver, retired);
            tasks.spawn(TaskKind::Coordinator, driven);
            let shard = Shard {
                of: Arc::clone(&partition.log),
                queue: Queue::new(jobs, partition.closed().clone()),
                _runs: runs,
            };
            shards.insert(index, shard);
        }
    }
}
