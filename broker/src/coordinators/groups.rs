//! The group coordinator of a node: which shard has a group, and how it is asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use highwater_coordinator::{
    Effects, GroupConfig, GroupShard, Join, JoinReply, Now, Sync, SyncReply, partition_of,
};
use highwater_kraft_meta::TopicImage;
use highwater_protocol::ErrorCode;
use highwater_runtime::{TaskKind, Tasks};
use tokio::sync::{mpsc, oneshot};

use super::shard::{self, Answered, Job, Parts};
use crate::api::error::Refusal;
use crate::broker::Broker;
use crate::config::Config;
use crate::topics::NewTopic;

/// The topic of committed offsets and groups.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Jobs that may wait for one shard.
const JOBS_MAX: usize = 1024;

/// The groups of a node.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    shards: RwLock<BTreeMap<i32, Shard>>,
}

#[derive(Debug, Clone)]
struct Shard {
    /// The partition's log, to tell a partition from its successor.
    of: Arc<highwater_partition_log::PartitionLog>,
    jobs: mpsc::Sender<Job>,
    loaded: Arc<AtomicBool>,
}

impl Groups {
    fn shard(&self, index: i32) -> Option<Shard> {
        self.shards
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&index)
            .cloned()
    }

    fn all(&self) -> Vec<Shard> {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        shards.values().cloned().collect()
    }

    fn of_group(&self, broker: &Broker, group: &str) -> Result<Shard, ErrorCode> {
        let topic = broker
            .topic(OFFSETS_TOPIC)
            .ok_or(ErrorCode::NotCoordinator)?;
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        self.shard(partition_of(group, count))
            .ok_or(ErrorCode::NotCoordinator)
    }

    /// Asks the shard of a group; answers when what it wrote, and everything before, is durable.
    ///
    /// # Errors
    /// `NOT_COORDINATOR`, `COORDINATOR_LOAD_IN_PROGRESS`.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        broker: &Broker,
        group: &str,
        ask: impl FnOnce(&mut GroupShard, &mut Effects, Now) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        self.of_group(broker, group)?.call(ask).await
    }

    /// Asks every shard.
    ///
    /// # Errors
    /// As [`Groups::call`]: the first that a shard answers.
    pub(crate) async fn call_all<T: Send + 'static>(
        &self,
        ask: impl Fn(&mut GroupShard, &mut Effects, Now) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, ErrorCode> {
        let asked = self.all().into_iter().map(|shard| {
            let ask = ask.clone();
            async move { shard.call(ask).await }
        });
        futures::future::try_join_all(asked).await
    }

    /// A member joins; answered when the group is complete.
    ///
    /// # Errors
    /// As [`Groups::call`].
    pub(crate) async fn join(&self, broker: &Broker, join: Join) -> Result<JoinReply, ErrorCode> {
        let shard = self.of_group(broker, &join.group)?;
        let (to, answer) = oneshot::channel();
        let job: Job = Box::new(move |work| {
            let ticket = work.join_ticket(to);
            let (shard, effects) = (&mut work.shard, &mut work.effects);
            shard.join(ticket, &join, work.now, effects);
        });
        shard.send(job).await?;
        durable(answer).await
    }

    /// A member asks for its assignment; answered when the leader has brought it.
    ///
    /// # Errors
    /// As [`Groups::call`].
    pub(crate) async fn sync(&self, broker: &Broker, sync: Sync) -> Result<SyncReply, ErrorCode> {
        let shard = self.of_group(broker, &sync.group)?;
        let (to, answer) = oneshot::channel();
        let job: Job = Box::new(move |work| {
            let ticket = work.sync_ticket(to);
            let (shard, effects) = (&mut work.shard, &mut work.effects);
            shard.sync(ticket, sync, work.now, effects);
        });
        shard.send(job).await?;
        durable(answer).await
    }
}

impl Shard {
    async fn send(&self, job: Job) -> Result<(), ErrorCode> {
        if !self.loaded.load(Ordering::Acquire) {
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        let sent = self.jobs.send(job).await;
        sent.map_err(|_ended| ErrorCode::NotCoordinator)
    }

    async fn call<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut GroupShard, &mut Effects, Now) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let (to, answer) = oneshot::channel();
        let job: Job = Box::new(move |work| {
            let answer = ask(&mut work.shard, &mut work.effects, work.now);
            work.complete(answer, to);
        });
        self.send(job).await?;
        durable(answer).await
    }
}

async fn durable<T>(answer: oneshot::Receiver<Answered<T>>) -> Result<T, ErrorCode> {
    let (answer, receipt) = answer.await.map_err(|_ended| ErrorCode::NotCoordinator)?;
    if let Some(mut receipt) = receipt {
        let waited = receipt.wait().await;
        waited.map_err(|_ended| ErrorCode::NotCoordinator)?;
    }
    Ok(answer)
}

fn group_config(config: &Config) -> GroupConfig {
    let ms = |key| u64::try_from(config.millis(key).as_millis()).unwrap_or(u64::MAX);
    let minutes = i64::from(config.int("offsets.retention.minutes"));
    GroupConfig {
        initial_rebalance_delay_ms: ms("group.initial.rebalance.delay.ms"),
        session_timeout_min_ms: config.int("group.min.session.timeout.ms"),
        session_timeout_max_ms: config.int("group.max.session.timeout.ms"),
        members_max: usize::try_from(config.int("group.max.size")).unwrap_or(usize::MAX),
        metadata_bytes_max: usize::try_from(config.int("offset.metadata.max.bytes"))
            .unwrap_or(usize::MAX),
        offsets_retention_ms: minutes * 60_000,
    }
}

/// Opens a shard for each open partition of the topic, drops those of closed ones, expires offsets: for ever.
pub(crate) async fn follow(broker: Arc<Broker>, tasks: Tasks) {
    let mut partitions = broker.partitions.subscribe();
    let mut images = broker.metadata.watch();
    let mut seen = broker.metadata.image();
    let check = broker.config.millis("offsets.retention.check.interval.ms");
    let mut checks = tokio::time::interval(check.max(Duration::from_secs(1)));
    loop {
        open_shards(&broker, &tasks);
        // cancellation safe: watches and an interval
        tokio::select! {
            biased;
            changed = partitions.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            changed = images.changed() => {
                if changed.is_err() {
                    return;
                }
                let image = Arc::clone(&images.borrow_and_update());
                if image.has_lost_topics_of(&seen) {
                    let now = Arc::clone(&image);
                    let dropped = broker.groups.call_all(move |shard, effects, _| {
                        shard.drop_topics(|topic| now.topic(topic).is_some(), effects);
                    });
                    if let Err(error) = dropped.await {
                        tracing::debug!(?error, "offsets of a deleted topic go when their groups are loaded");
                    }
                }
                seen = image;
            }
            _ = checks.tick() => {
                let expired = broker.groups.call_all(|shard, effects, now| shard.expire(now, effects));
                if let Err(error) = expired.await {
                    tracing::debug!(?error, "offsets expire at the next check");
                }
            }
        }
    }
}

fn open_shards(broker: &Arc<Broker>, tasks: &Tasks) {
    let topic = broker.topic(OFFSETS_TOPIC);
    let open = |index: i32| {
        let topic = topic.as_ref()?;
        broker.partitions.find(topic, index).ok()
    };
    let mut shards = broker
        .groups
        .shards
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    shards.retain(|index, shard| {
        !shard.jobs.is_closed()
            && open(*index).is_some_and(|partition| Arc::ptr_eq(&partition.log, &shard.of))
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
        let loaded = Arc::new(AtomicBool::new(false));
        let parts = Parts {
            index,
            log: Arc::clone(&partition.log),
            streams: broker.streams.clone(),
            metadata: Arc::clone(&broker.metadata),
            config: group_config(&broker.config),
            clock: broker.clock.clone(),
            loaded: Arc::clone(&loaded),
        };
        tasks.spawn(TaskKind::Coordinator, shard::drive(parts, receiver));
        let of = Arc::clone(&partition.log);
        shards.insert(index, Shard { of, jobs, loaded });
    }
}

impl Broker {
    /// The topic of groups, created on first use (KAFKA-BEHAVIOUR 25).
    ///
    /// # Errors
    /// When it can't be created.
    pub(crate) async fn offsets_topic(&self) -> Result<Arc<TopicImage>, Refusal> {
        if let Some(topic) = self.topic(OFFSETS_TOPIC) {
            return Ok(topic);
        }
        let replicas = self.config.int("offsets.topic.replication.factor");
        let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let topic = NewTopic {
            name: OFFSETS_TOPIC.to_owned(),
            partitions: self.config.int("offsets.topic.num.partitions"),
            replication_factor: i16::try_from(replicas).unwrap_or(1),
            configs: BTreeMap::from([
                text("cleanup.policy", "compact"),
                text("compression.type", "producer"),
                text("segment.bytes", "104857600"),
            ]),
            ..NewTopic::default()
        };
        match self.create_topic(topic).await {
            Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => self
                .topic(OFFSETS_TOPIC)
                .ok_or_else(|| ErrorCode::CoordinatorNotAvailable.into()),
            other => other,
        }
    }
}
