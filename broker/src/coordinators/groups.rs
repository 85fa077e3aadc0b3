//! The group coordinator of a node: which shard has a group, and how it is asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use highwater_coordinator::{
    Effects, GroupConfig, GroupShard, Join, JoinReply, Now, Sync, SyncReply, partition_of,
};
use highwater_kraft_meta::{MetadataImage, TopicImage};
use highwater_protocol::{ApiKey, ErrorCode};
use highwater_runtime::{TaskKind, Tasks};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::shard::{self, Parts};
use super::work::{Act, Answered, Asked, Job, Work, tell};
use crate::api::RequestContext;
use crate::api::error::Refusal;
use crate::broker::Broker;
use crate::config::Config;
use crate::topics::on_first_use;

/// The topic of committed offsets and groups.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Jobs that may wait for one shard.
const JOBS_MAX: usize = 1024;

/// The groups of a node.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    shards: RwLock<BTreeMap<i32, Shard>>,
    /// Of each partition that ever had a shard: the turns of its drivers.
    turns: Mutex<BTreeMap<i32, Arc<tokio::sync::Mutex<()>>>>,
    /// Whether it was told that the topic cannot be created.
    told: AtomicBool,
}

#[derive(Debug)]
struct Shard {
    /// The partition's log, to tell a partition from its successor.
    of: Arc<highwater_partition_log::PartitionLog>,
    queue: Queue,
    /// Retires the shard's driver when it is dropped.
    _runs: oneshot::Sender<Infallible>,
}

/// What is to be done by a shard's driver.
#[derive(Debug, Clone)]
pub(super) struct Queue(pub(super) mpsc::Sender<Job>);

impl Groups {
    fn all(&self) -> Vec<Queue> {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        shards.values().map(|shard| shard.queue.clone()).collect()
    }

    fn of_group(&self, broker: &Broker, group: &str) -> Result<Queue, ErrorCode> {
        let topic = broker
            .topic(OFFSETS_TOPIC)
            .ok_or(ErrorCode::NotCoordinator)?;
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        let shard = shards.get(&partition_of(group, count));
        shard
            .map(|shard| shard.queue.clone())
            .ok_or(ErrorCode::NotCoordinator)
    }

    fn turn(&self, index: i32) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(index).or_default())
    }

    /// Asks the shard of a group for something that may write; answers when that, and everything before, is durable.
    ///
    /// # Errors
    /// `NOT_COORDINATOR`, `COORDINATOR_LOAD_IN_PROGRESS`; `COORDINATOR_NOT_AVAILABLE` where it isn't done in time;
    /// `UNKNOWN_SERVER_ERROR` where it panics.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        broker: &Broker,
        api: ApiKey,
        group: &str,
        ask: impl FnOnce(&mut GroupShard, &mut Effects, Now) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let asked = asked(api, group);
        self.of_group(broker, group)?.call(asked, ask).await
    }

    /// Reads of the shard of a group; answers when what it read is durable, but never waits for room for a write (M2).
    ///
    /// # Errors
    /// As [`Groups::call`].
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        broker: &Broker,
        api: ApiKey,
        group: &str,
        ask: impl FnOnce(&GroupShard) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let asked = asked(api, group);
        self.of_group(broker, group)?.read(asked, ask).await
    }

    /// Reads of every shard, for an API or none.
    ///
    /// # Errors
    /// As [`Groups::call`]: the first that a shard answers.
    pub(crate) async fn read_all<T: Send + 'static>(
        &self,
        api: Option<ApiKey>,
        ask: impl Fn(&GroupShard) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, ErrorCode> {
        let api = api.map_or("none", ApiKey::name);
        let reads = self.all().into_iter().map(|queue| {
            let (asked, ask) = (of_all(api), ask.clone());
            async move { queue.read(asked, ask).await }
        });
        futures::future::try_join_all(reads).await
    }

    /// A sign of life of a member, which waits for nothing but its turn.
    ///
    /// # Errors
    /// As [`Groups::call`].
    pub(crate) async fn heartbeat(
        &self,
        broker: &Broker,
        group: &str,
        beat: impl FnOnce(&mut GroupShard, Now) -> Result<(), ErrorCode> + Send + 'static,
    ) -> Result<(), ErrorCode> {
        let asked = asked(ApiKey::Heartbeat, group);
        let (to, answer) = oneshot::channel();
        let act: Act = Box::new(move |work| {
            let attempt =
                |work: &mut Work| work.attempt(&asked, |work| beat(&mut work.shard, work.now));
            tell(to, work.and_then(attempt).and_then(|beat| beat));
        });
        let deadline = deadline();
        let queue = self.of_group(broker, group)?;
        queue.send(Job::Read(act), deadline).await?;
        in_time(deadline, async {
            answer.await.unwrap_or(Err(ErrorCode::NotCoordinator))
        })
        .await
    }

    /// Has every shard do something; answers whether each has done it, or has yet to be loaded in another life.
    async fn have_all(
        &self,
        ask: impl Fn(&mut GroupShard, &mut Effects, Now) + Clone + Send + 'static,
    ) -> bool {
        let calls = self.all().into_iter().map(|queue| {
            let ask = ask.clone();
            async move { queue.call(of_all("none"), ask).await }
        });
        let answers = futures::future::join_all(calls).await;
        // one that ended is loaded again, and loading sees what is so then
        let done = |answer: &Result<(), ErrorCode>| {
            matches!(answer, Ok(()) | Err(ErrorCode::NotCoordinator))
        };
        answers.iter().all(done)
    }

    /// A member joins; answered when the group is complete. The request's frame is held until the group has it.
    ///
    /// # Errors
    /// As [`Groups::call`]; `REBALANCE_IN_PROGRESS` where the client is gone, while the group waits on.
    pub(crate) async fn join(
        &self,
        ctx: &RequestContext,
        join: Join,
    ) -> Result<JoinReply, ErrorCode> {
        let queue = self.of_group(&ctx.broker, &join.group)?;
        let frame = ctx.frame.clone();
        let asked = asked(ApiKey::JoinGroup, &join.group);
        let (to, answer) = oneshot::channel();
        let act: Act = Box::new(move |work| {
            match work {
                Ok(work) => work.join(&asked, to, |work, ticket| {
                    let (shard, effects) = (&mut work.shard, &mut work.effects);
                    shard.join(ticket, &join, work.now, effects);
                }),
                Err(error) => tell(to, Err(error)),
            }
            frame.give_back();
        });
        let begun = deadline();
        queue.send(Job::Write(begun, act), begun).await?;
        while_there(ctx, durable(answer, None)).await
    }

    /// A member asks for its assignment; answered when the leader has brought it. The request's frame is held until the
    /// group has it.
    ///
    /// # Errors
    /// As [`Groups::join`].
    pub(crate) async fn sync(
        &self,
        ctx: &RequestContext,
        sync: Sync,
    ) -> Result<SyncReply, ErrorCode> {
        let queue = self.of_group(&ctx.broker, &sync.group)?;
        let frame = ctx.frame.clone();
        let asked = asked(ApiKey::SyncGroup, &sync.group);
        let (to, answer) = oneshot::channel();
        let act: Act = Box::new(move |work| {
            match work {
                Ok(work) => work.sync(&asked, to, |work, ticket| {
                    let (shard, effects) = (&mut work.shard, &mut work.effects);
                    shard.sync(ticket, sync, work.now, effects);
                }),
                Err(error) => tell(to, Err(error)),
            }
            frame.give_back();
        });
        let begun = deadline();
        queue.send(Job::Write(begun, act), begun).await?;
        while_there(ctx, durable(answer, None)).await
    }
}

pub(super) fn asked(api: ApiKey, group: &str) -> Asked {
    Asked {
        api: api.name(),
        group: group.to_owned(),
    }
}

fn of_all(api: &'static str) -> Asked {
    Asked {
        api,
        group: String::new(),
    }
}

/// Kafka's default of `offsets.commit.timeout.ms`: what is not done and durable by then is refused.
const TIMEOUT: Duration = Duration::from_secs(5);

fn deadline() -> Instant {
    Instant::now() + TIMEOUT
}

impl Queue {
    async fn send(self, job: Job, deadline: Instant) -> Result<(), ErrorCode> {
        in_time(deadline, async {
            let sent = self.0.send(job).await;
            sent.map_err(|_retired| ErrorCode::NotCoordinator)
        })
        .await
    }

    async fn call<T: Send + 'static>(
        self,
        asked: Asked,
        ask: impl FnOnce(&mut GroupShard, &mut Effects, Now) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let (to, answer) = oneshot::channel();
        let act: Act = Box::new(move |work| {
            let done = work.and_then(|work| {
                let done = work.attempt(&asked, |work| {
                    ask(&mut work.shard, &mut work.effects, work.now)
                });
                done.map(|answer| (work, answer))
            });
            match done {
                Ok((work, answer)) => work.complete(answer, to),
                Err(error) => tell(to, Err(error)),
            }
        });
        let deadline = deadline();
        self.send(Job::Write(deadline, act), deadline).await?;
        durable(answer, Some(deadline)).await
    }

    pub(super) async fn read<T: Send + 'static>(
        self,
        asked: Asked,
        ask: impl FnOnce(&GroupShard) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let (to, answer) = oneshot::channel();
        let act: Act = Box::new(move |work| {
            let done = work.and_then(|work| {
                let answer = work.attempt(&asked, |work| ask(&work.shard))?;
                Ok((answer, work.pending()))
            });
            tell(to, done);
        });
        let deadline = deadline();
        self.send(Job::Read(act), deadline).await?;
        durable(answer, Some(deadline)).await
    }
}

async fn in_time<T>(
    deadline: Instant,
    answer: impl Future<Output = Result<T, ErrorCode>>,
) -> Result<T, ErrorCode> {
    let answered = tokio::time::timeout_at(deadline, answer).await;
    answered.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
}

/// The answer, once it is durable. One without a deadline comes when the group's members let it, and is durable in time
/// after that.
async fn durable<T>(
    answer: oneshot::Receiver<Answered<T>>,
    until: Option<Instant>,
) -> Result<T, ErrorCode> {
    let answered = async { answer.await.map_err(|_dropped| ErrorCode::NotCoordinator)? };
    let (answer, receipt) = match until {
        Some(until) => in_time(until, answered).await?,
        None => answered.await?,
    };
    if let Some(mut receipt) = receipt {
        let waited = async {
            receipt
                .wait()
                .await
                .map_err(|_ended| ErrorCode::NotCoordinator)
        };
        in_time(until.unwrap_or_else(deadline), waited).await?;
    }
    Ok(answer)
}

/// Waits for what other members let come as long as the client is there to hear it; then as Kafka answers members of a
/// group that is not complete.
async fn while_there<T>(
    ctx: &RequestContext,
    answer: impl Future<Output = Result<T, ErrorCode>>,
) -> Result<T, ErrorCode> {
    // cancellation safe: the group keeps the member, and an answer that nobody hears is dropped
    tokio::select! {
        biased;
        answer = answer => answer,
        () = ctx.connection.ends() => Err(ErrorCode::RebalanceInProgress),
    }
}

pub(super) fn group_config(config: &Config) -> GroupConfig {
    let ms = |key| u64::try_from(config.millis(key).as_millis()).unwrap_or(u64::MAX);
    let minutes = i64::from(config.int("offsets.retention.minutes"));
    GroupConfig {
        initial_rebalance_delay_ms: ms("group.initial.rebalance.delay.ms"),
        session_timeout_min_ms: config.int("group.min.session.timeout.ms"),
        session_timeout_max_ms: config.int("group.max.session.timeout.ms"),
        members_max: usize::try_from(config.int("group.max.size")).unwrap_or(usize::MAX),
        metadata_units_max: usize::try_from(config.int("offset.metadata.max.bytes"))
            .unwrap_or(usize::MAX),
        offsets_retention_ms: minutes * 60_000,
    }
}

/// Before a pass over the shards that could not finish is made again.
const PASS_RETRY: Duration = Duration::from_millis(100);

/// Opens a shard for each open partition of the topic, drops those of closed ones, expires offsets: for ever.
pub(crate) async fn follow(broker: Arc<Broker>, tasks: Tasks) {
    let mut partitions = broker.partitions.subscribe();
    let mut images = broker.metadata.watch();
    let mut seen = broker.metadata.image();
    // whether the offsets of topics that are gone may still be there: an image counts as seen when they are not
    let mut behind = false;
    let check = broker.config.millis("offsets.retention.check.interval.ms");
    let mut checks = tokio::time::interval(check.max(Duration::from_secs(1)));
    loop {
        open_shards(&broker, &tasks);
        // cancellation safe: watches and timers
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
                if behind || image.has_lost_topics_of(&seen) {
                    behind = !drop_offsets(&broker, Arc::clone(&image)).await;
                }
                seen = image;
            }
            _ = checks.tick() => {
                if !broker.groups.have_all(|shard, effects, now| shard.expire(now, effects)).await {
                    tracing::debug!("some offsets expire at the next check only");
                }
            }
            () = tokio::time::sleep(PASS_RETRY), if behind => {
                behind = !drop_offsets(&broker, Arc::clone(&seen)).await;
            }
        }
    }
}

/// Drops the offsets of topics that are not in the image; answers whether every shard has.
async fn drop_offsets(broker: &Broker, image: Arc<MetadataImage>) -> bool {
    let drop = move |shard: &mut GroupShard, effects: &mut Effects, _: Now| {
        let id_of = |topic: &str| image.topic(topic).map(|topic| topic.id);
        shard.drop_topics(id_of, effects);
    };
    broker.groups.have_all(drop).await
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
        let parts = Parts {
            index,
            log: Arc::clone(&partition.log),
            streams: broker.streams.clone(),
            metadata: Arc::clone(&broker.metadata),
            config: group_config(&broker.config),
            clock: broker.clock.clone(),
            rng: broker.rng.clone(),
            turn: broker.groups.turn(index),
            since: Instant::now(),
        };
        let driven = shard::drive(parts, receiver, retired);
        tasks.spawn(TaskKind::Coordinator, driven);
        let shard = Shard {
            of: Arc::clone(&partition.log),
            queue: Queue(jobs),
            _runs: runs,
        };
        shards.insert(index, shard);
    }
}

impl Broker {
    /// The topic of groups, created on first use (KAFKA-BEHAVIOUR 25).
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE` and the reason when it can't be created.
    pub(crate) async fn offsets_topic(&self) -> Result<Arc<TopicImage>, Refusal> {
        if let Some(topic) = self.topic(OFFSETS_TOPIC) {
            return Ok(topic);
        }
        let created = match self
            .create_topic(on_first_use(OFFSETS_TOPIC, &self.config))
            .await
        {
            Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => self
                .topic(OFFSETS_TOPIC)
                .ok_or_else(|| ErrorCode::CoordinatorNotAvailable.into()),
            other => other,
        };
        // clients ask again and again: the reason is told once
        let told = self.groups.told.swap(created.is_err(), Ordering::Relaxed);
        created.map_err(|refusal| {
            let why = refusal.message.unwrap_or_default();
            if !told {
                tracing::warn!(
                    topic = OFFSETS_TOPIC,
                    error = why,
                    "groups have no coordinator"
                );
            }
            Refusal::new(ErrorCode::CoordinatorNotAvailable, why)
        })
    }
}
