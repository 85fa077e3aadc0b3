//! The group coordinator of a node: the calls that handlers make, the expiry of offsets, and the cleanup after deleted
//! topics.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater_coordinator::{
    GroupAction, GroupConfig, GroupEffects, GroupShard, Join, JoinReply, Now, Sync, SyncReply,
};
use highwater_kraft_meta::{MetadataImage, MetadataStore, TopicImage};
use highwater_protocol::{ApiKey, ErrorCode};
use highwater_runtime::Tasks;
use highwater_s3stream::AppendReceipt;

use super::work::Asked;
use super::{Host, Shards};
use crate::api::RequestContext;
use crate::api::error::Refusal;
use crate::broker::Broker;
use crate::config::Config;
use crate::metrics::REBALANCES;
use crate::topics::on_first_use;

/// The topic of groups and their committed offsets.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The groups of a node.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    shards: Shards<GroupHost>,
    /// Whether the log says already that the topic cannot be created.
    told: AtomicBool,
}

/// The kind of coordinator that the driver runs for groups.
#[derive(Debug)]
pub(super) struct GroupHost {
    config: GroupConfig,
    metadata: Arc<dyn MetadataStore>,
}

impl GroupHost {
    /// The group coordinators of a node.
    pub(super) fn new(broker: &Broker) -> Self {
        Self {
            config: group_config(&broker.config),
            metadata: Arc::clone(&broker.metadata),
        }
    }
}

impl Host for GroupHost {
    type Machine = GroupShard;
    const TOPIC: &'static str = OFFSETS_TOPIC;

    fn empty(&self) -> GroupShard {
        GroupShard::new(self.config.clone())
    }

    fn catch_up(&self, shard: &mut GroupShard, effects: &mut GroupEffects) {
        drop_topics(shard, &self.metadata.image(), effects);
    }

    fn act(&self, action: GroupAction, _undurable: Option<&AppendReceipt>) {
        match action {
            GroupAction::CountRebalance => ::metrics::counter!(REBALANCES).increment(1),
        }
    }
}

/// Drops the offsets of topics that are not in an image.
fn drop_topics(shard: &mut GroupShard, image: &MetadataImage, effects: &mut GroupEffects) {
    let id_of = |topic: &str| image.topic(topic).map(|topic| topic.id);
    shard.drop_topics(id_of, effects);
}

impl Groups {
    /// Makes a call that may write, in the shard of a group; returns its answer when the answer's records, and all
    /// before them, are durable.
    ///
    /// # Errors
    /// `NOT_COORDINATOR`; `COORDINATOR_LOAD_IN_PROGRESS`; `COORDINATOR_NOT_AVAILABLE` if the call isn't done in time;
    /// `UNKNOWN_SERVER_ERROR` if it panics.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        broker: &Broker,
        api: ApiKey,
        group: &str,
        ask: impl FnOnce(&mut GroupShard, &mut GroupEffects, Now) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let asked = asked(api, group);
        self.shards.shard(broker, group)?.call(asked, ask).await
    }

    /// Reads from the shard of a group; returns when the state that was read is durable. It never waits for room for a
    /// write (M2).
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
        self.shards.shard(broker, group)?.read(asked, ask).await
    }

    /// Reads from every shard; `api` is the API in whose name, if there is one.
    ///
    /// # Errors
    /// As [`Groups::call`]: the first error of a shard.
    pub(crate) async fn read_all<T: Send + 'static>(
        &self,
        broker: &Broker,
        api: Option<ApiKey>,
        ask: impl Fn(&GroupShard) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, ErrorCode> {
        let asked = for_all_groups(api.map_or("none", ApiKey::name));
        self.shards.read_all(broker, &asked, ask).await
    }

    /// The heartbeat of a member, which waits only for its turn.
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
        self.shards.shard(broker, group)?.touch(asked, beat).await?
    }

    /// Lets a member join; returns when the group is complete. The request's frame is held until the group has the
    /// member.
    ///
    /// # Errors
    /// As [`Groups::call`]; `REBALANCE_IN_PROGRESS` if the client has disconnected while the group waits for other
    /// members.
    pub(crate) async fn join(
        &self,
        ctx: &RequestContext,
        join: Join,
    ) -> Result<JoinReply, ErrorCode> {
        let queue = self.shards.shard(&ctx.broker, &join.group)?;
        let frame = ctx.frame.clone();
        let joined = queue.wait_for(
            asked(ApiKey::JoinGroup, &join.group),
            move |shard, ticket, now, effects| {
                shard.join(ticket, &join, now, effects);
                frame.give_back();
            },
        );
        while_there(ctx, joined).await
    }

    /// Gets a member's assignment; returns when the leader has sent it. The request's frame is held until the group has
    /// the request.
    ///
    /// # Errors
    /// As [`Groups::join`].
    pub(crate) async fn sync(
        &self,
        ctx: &RequestContext,
        sync: Sync,
    ) -> Result<SyncReply, ErrorCode> {
        let queue = self.shards.shard(&ctx.broker, &sync.group)?;
        let frame = ctx.frame.clone();
        let synced = queue.wait_for(
            asked(ApiKey::SyncGroup, &sync.group),
            move |shard, ticket, now, effects| {
                shard.sync(ticket, sync, now, effects);
                frame.give_back();
            },
        );
        while_there(ctx, synced).await
    }
}

pub(super) fn asked(api: ApiKey, group: &str) -> Asked {
    Asked {
        api: api.name(),
        group: group.to_owned(),
    }
}

fn for_all_groups(api: &'static str) -> Asked {
    Asked {
        api,
        group: String::new(),
    }
}

/// Waits for the answer that depends on other members, for as long as the client is connected. After that it answers as
/// Kafka answers a member of a group that is not complete.
async fn while_there<T>(
    ctx: &RequestContext,
    answer: impl Future<Output = Result<T, ErrorCode>>,
) -> Result<T, ErrorCode> {
    // Cancellation safe: the group keeps the member, and drops an answer that no task waits for.
    tokio::select! {
        biased;
        answer = answer => answer,
        () = ctx.connection.ends() => Err(ErrorCode::RebalanceInProgress),
    }
}

fn group_config(config: &Config) -> GroupConfig {
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

/// The wait before a pass over the shards that could not finish is repeated.
const PASS_RETRY: Duration = Duration::from_millis(100);

/// Opens a shard for each open partition of the topic, drops the shards of closed partitions, and expires offsets. It
/// never returns.
pub(crate) async fn follow(broker: Arc<Broker>, tasks: Tasks) {
    let host = Arc::new(GroupHost::new(&broker));
    let shards = &broker.groups.shards;
    let mut partitions = broker.partitions.subscribe();
    let mut images = broker.metadata.watch();
    let mut seen = broker.metadata.image();
    // Whether offsets of deleted topics may still be there. An image counts as seen only when its deleted topics have
    // none.
    let mut behind = false;
    let check = broker.config.millis("offsets.retention.check.interval.ms");
    let mut checks = tokio::time::interval(check.max(Duration::from_secs(1)));
    loop {
        shards.open(&broker, &tasks, &host);
        // Cancellation safe: these are watches and timers.
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
                if behind || image.topics_lost_since(&seen).next().is_some() {
                    behind = !drop_offsets(&broker, Arc::clone(&image)).await;
                }
                seen = image;
            }
            _ = checks.tick() => {
                let expire = |shard: &mut GroupShard, effects: &mut GroupEffects, now| shard.expire(now, effects);
                if !shards.have_all(&for_all_groups("none"), expire).await {
                    tracing::debug!("some committed offsets expire only at the next check");
                }
            }
            () = tokio::time::sleep(PASS_RETRY), if behind => {
                behind = !drop_offsets(&broker, Arc::clone(&seen)).await;
            }
        }
    }
}

/// Drops the offsets of topics that are not in the image; returns whether every shard has done so.
async fn drop_offsets(broker: &Broker, image: Arc<MetadataImage>) -> bool {
    let drop = move |shard: &mut GroupShard, effects: &mut GroupEffects, _: Now| {
        drop_topics(shard, &image, effects);
    };
    let shards = &broker.groups.shards;
    shards.have_all(&for_all_groups("none"), drop).await
}

impl Broker {
    /// The topic of groups, which is created on first use (KAFKA-BEHAVIOUR 25).
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE`, with the reason why the topic can't be created.
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
        // Clients ask again and again, so the reason is logged once.
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
