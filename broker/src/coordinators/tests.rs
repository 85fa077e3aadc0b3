//! Tests of groups, and of calls to them, while they are loaded again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;
use highwater_coordinator::{Commit, GroupShard, OffsetCommit};
use highwater_partition_log::{Origin, PartitionLog};
use highwater_protocol::messages::{
    FindCoordinatorRequest, HeartbeatRequest, OffsetFetchRequest, SyncGroupRequest,
};
use highwater_protocol::records::BatchBuilder;
use highwater_protocol::{ApiKey, ErrorCode};
use highwater_s3stream::{Share, StreamStore};
use highwater_types::TopicId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Host;
use super::groups::{GroupHost, asked};
use super::load::load;
use super::queue::Queue;
use super::shard::{self, Driver, now};
use super::work::Work;
use crate::broker::Broker;
use crate::fixture::{TestNode, ask};
use crate::partitions::{Closed, ClosedMark};

const GROUP: &str = "g";

pub(super) struct World {
    pub(super) node: TestNode,
}

impl World {
    pub(super) async fn start() -> Self {
        let node = TestNode::start(&[("offsets.topic.num.partitions", "1")]).await;
        let world = Self { node };
        let topic = world.broker().offsets_topic().await;
        topic.expect("is created");
        assert_eq!(world.fetched().await, None);
        world
    }

    pub(super) fn broker(&self) -> &Arc<Broker> {
        self.node.broker()
    }

    /// A driver of the topic's first partition.
    pub(super) fn driver_of<H: Host>(&self, host: H) -> Driver<H> {
        let broker = self.broker();
        let topic = broker.topic(H::TOPIC).expect("is there");
        let partition = broker.partitions.find(&topic, 0);
        Driver {
            host: Arc::new(host),
            index: 0,
            log: Arc::clone(&partition.expect("is open").log),
            streams: broker.streams.clone(),
            clock: broker.clock.clone(),
            rng: broker.rng.clone(),
            turn: Arc::default(),
            since: Instant::now(),
        }
    }

    fn driver(&self) -> Driver<GroupHost> {
        self.driver_of(GroupHost::new(self.broker()))
    }

    async fn commit(&self, offset: i64) -> Result<(), ErrorCode> {
        let commit = Commit {
            group: GROUP.to_owned(),
            member: String::new(),
            generation: -1,
            offsets: vec![OffsetCommit {
                topic: super::groups::OFFSETS_TOPIC.to_owned(),
                topic_id: TopicId::ZERO,
                partition: 0,
                offset,
                leader_epoch: -1,
                metadata: String::new(),
                retention_ms: -1,
            }],
        };
        let groups = &self.broker().groups;
        let committed = groups.call(
            self.broker(),
            ApiKey::OffsetCommit,
            GROUP,
            |shard, effects, now| shard.commit(commit, now, effects),
        );
        committed.await?.map(|_codes| ())
    }

    /// The committed offset, as soon as the group is loaded.
    async fn fetched(&self) -> Option<i64> {
        let groups = &self.broker().groups;
        loop {
            let read = groups.read(self.broker(), ApiKey::OffsetFetch, GROUP, committed);
            match read.await {
                Ok(offset) => return offset,
                Err(ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator) => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

fn committed(shard: &GroupShard) -> Option<i64> {
    let topic = (super::groups::OFFSETS_TOPIC, TopicId::ZERO);
    shard.offset(GROUP, topic, 0).map(|found| found.offset)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_its_requests_alone_and_has_the_groups_loaded_again() {
    let world = World::start().await;
    world.commit(5).await.expect("is committed");
    let groups = &world.broker().groups;
    let panics = groups.call(
        world.broker(),
        ApiKey::OffsetDelete,
        GROUP,
        |shard, effects, _| {
            shard.delete(GROUP, effects).expect("it is there");
            panic!("on purpose");
        },
    );
    let answer: Result<(), ErrorCode> = panics.await;
    assert_eq!(answer, Err(ErrorCode::UnknownServerError));
    assert_eq!(
        world.fetched().await,
        Some(5),
        "what it changed is not kept"
    );
    world.commit(6).await.expect("is committed");
    let beat = groups.heartbeat(world.broker(), GROUP, |_, _| panic!("on purpose"));
    assert_eq!(beat.await, Err(ErrorCode::UnknownServerError));
    assert_eq!(world.fetched().await, Some(6));
    let failed = world.node.node.ended().now_or_never();
    assert_eq!(failed, None, "the process goes on");
    world.node.stop().await;
}

// An offset that is appended when the load begins may be acknowledged at any time.
#[tokio::test(flavor = "multi_thread")]
async fn groups_are_loaded_with_what_was_appended_and_is_not_durable_yet() {
    let world = World::start().await;
    world.commit(5).await.expect("is committed");
    let driver = world.driver();
    world.node.faults.syncs_hang.store(true, Ordering::SeqCst);
    let before = driver.log.bounds().next;
    let mut commit = Box::pin(world.commit(6));
    while driver.log.bounds().next == before {
        assert_eq!(commit.as_mut().now_or_never(), None, "it is not durable");
        tokio::task::yield_now().await;
    }
    let mut work = Work::new(driver.host.empty(), now(&driver));
    {
        let mut loading = Box::pin(load(&driver, &mut work));
        let loaded = loading.as_mut().now_or_never();
        world.node.faults.syncs_hang.store(false, Ordering::SeqCst);
        assert_eq!(commit.await, Ok(()));
        match loaded {
            Some(loaded) => loaded.expect("loads"),
            None => loading.await.expect("loads"),
        }
    }
    assert_eq!(committed(&work.machine), Some(6));
    world.node.stop().await;
}

/// Appends records as another broker may have written them; they are durable then.
async fn append(driver: &Driver<GroupHost>, records: &[(&[u8], &[u8])]) {
    let mut batch = BatchBuilder::default();
    for (key, value) in records {
        batch.push(1, Some(key), Some(value));
    }
    let batch = batch.build().expect("no codec fails");
    let batch = driver.log.validate(&batch, i16::MAX, Origin::Coordinator);
    let batch = batch.await.expect("is a batch");
    let bytes = PartitionLog::append_bytes(&batch);
    let permit = driver.streams.reserve(bytes, Share::Unbounded).await;
    let appended = driver.log.append(&mut permit.expect("has room"), batch);
    let receipt = appended.expect("is appended").receipt.expect("it is new");
    receipt.wait().await.expect("is durable");
}

// Records of a newer broker, or of one with KIP-848, are skipped, as in Kafka.
#[tokio::test(flavor = "multi_thread")]
async fn groups_are_loaded_without_the_records_that_are_unknown() {
    let world = World::start().await;
    world.commit(5).await.expect("is committed");
    let driver = world.driver();
    let unknown_type: &[u8] = b"\0\x0c anything";
    let group_key: &[u8] = b"\0\x02\0\x01g";
    let unknown_version: &[u8] = b"\0\x63 anything";
    let records = [
        (unknown_type, unknown_version),
        (group_key, unknown_version),
        (unknown_type, unknown_version),
    ];
    append(&driver, &records).await;
    world.commit(6).await.expect("is committed");
    let mut work = Work::new(driver.host.empty(), now(&driver));
    load(&driver, &mut work).await.expect("loads");
    assert_eq!(committed(&work.machine), Some(6));
    world.node.stop().await;
}

// With a malformed record the load of its shard is repeated, and everything else goes on.
#[tokio::test(flavor = "multi_thread")]
async fn groups_that_cannot_be_loaded_end_nothing_else() {
    let world = World::start().await;
    let driver = world.driver();
    append(&driver, &[(b"\0\0\0", b"")]).await;
    let mut work = Work::new(driver.host.empty(), now(&driver));
    let unreadable = load(&driver, &mut work).await;
    assert!(unreadable.is_err_and(|why| why.contains("malformed")));
    let groups = &world.broker().groups;
    let beat = groups.heartbeat(world.broker(), GROUP, |_, _| panic!("on purpose"));
    assert_eq!(beat.await, Err(ErrorCode::UnknownServerError));
    for offset in 0..100 {
        let refused = Err(ErrorCode::CoordinatorLoadInProgress);
        assert_eq!(world.commit(offset).await, refused);
    }
    let failed = world.node.node.ended().now_or_never();
    assert_eq!(failed, None, "the process goes on");
    world.node.stop().await;
}

// KAFKA-BEHAVIOUR 24
#[tokio::test(flavor = "multi_thread")]
async fn while_groups_are_loaded_clients_hear_what_they_can_bear() {
    let world = World::start().await;
    world.node.faults.syncs_hang.store(true, Ordering::SeqCst);
    let log = world.driver().log;
    let before = log.bounds().next;
    let mut commit = Box::pin(world.commit(6));
    while log.bounds().next == before {
        assert_eq!(commit.as_mut().now_or_never(), None, "it is not durable");
        tokio::task::yield_now().await;
    }
    let groups = &world.broker().groups;
    let beat = groups.heartbeat(world.broker(), GROUP, |_, _| panic!("on purpose"));
    assert_eq!(beat.await, Err(ErrorCode::UnknownServerError));
    // The load waits for the commit.
    let sync = SyncGroupRequest {
        group_id: GROUP.into(),
        ..Default::default()
    };
    let rebalance = ErrorCode::RebalanceInProgress.code();
    assert_eq!(ask(&world.node.node, &sync, 3).await.error_code, rebalance);
    let beat = HeartbeatRequest {
        group_id: GROUP.into(),
        ..Default::default()
    };
    assert_eq!(ask(&world.node.node, &beat, 3).await.error_code, 0);
    let fetch = OffsetFetchRequest {
        group_id: GROUP.into(),
        ..Default::default()
    };
    let loading = ErrorCode::CoordinatorLoadInProgress.code();
    assert_eq!(ask(&world.node.node, &fetch, 5).await.error_code, loading);
    world.node.faults.syncs_hang.store(false, Ordering::SeqCst);
    assert_eq!(commit.await, Ok(()));
    assert_eq!(world.fetched().await, Some(6));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_shard_is_answered_when_that_loads_or_goes() {
    let world = World::start().await;
    let driver = world.driver();
    let former = Arc::clone(&driver.turn);
    let running = former.lock().await;
    let (jobs, receiver) = mpsc::channel(8);
    let (runs, retired) = oneshot::channel();
    let queue = Queue::new(jobs, ClosedMark::default());
    let ask = || {
        let queue = queue.clone();
        queue.read(asked(ApiKey::OffsetFetch, GROUP), committed)
    };
    let driving = shard::drive(driver, receiver, retired);
    let waits = async {
        // The previous driver still runs.
        assert_eq!(ask().await, Err(ErrorCode::CoordinatorLoadInProgress));
        drop(running);
        loop {
            match ask().await {
                Err(ErrorCode::CoordinatorLoadInProgress) => {}
                other => break assert_eq!(other, Ok(None)),
            }
        }
        let mut queued = Box::pin(ask());
        assert!(queued.as_mut().now_or_never().is_none());
        drop(runs);
        queued.await
    };
    let (queued, ()) = tokio::join!(waits, driving);
    assert_eq!(queued, Err(ErrorCode::NotCoordinator));
    assert_eq!(ask().await, Err(ErrorCode::NotCoordinator));
    assert!(former.try_lock().is_ok(), "the next one's turn");
    world.node.stop().await;
}

// I3: its driver may run for a moment after the partition is closed, and what it appends is not uploaded
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_for_a_partition_that_is_closed() {
    let world = World::start().await;
    let (jobs, receiver) = mpsc::channel(8);
    let (runs, retired) = oneshot::channel();
    let closed = ClosedMark::default();
    let queue = Queue::new(jobs, closed.clone());
    let ask = || {
        let queue = queue.clone();
        queue.read(asked(ApiKey::OffsetFetch, GROUP), committed)
    };
    let driving = shard::drive(world.driver(), receiver, retired);
    let asking = async {
        while ask().await == Err(ErrorCode::CoordinatorLoadInProgress) {}
        assert_eq!(ask().await, Ok(None));
        closed.set(Closed::LedElsewhere);
        let answer = ask().await;
        drop(runs);
        answer
    };
    let (answer, ()) = tokio::join!(asking, driving);
    assert_eq!(answer, Err(ErrorCode::NotCoordinator));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_partition_moves_has_its_coordinator_elsewhere() {
    let world = World::start().await;
    world.commit(5).await.expect("is committed");
    world.node.give_away(super::groups::OFFSETS_TOPIC, 2).await;
    let broker = world.broker();
    let mut changes = broker.partitions.subscribe();
    let topic = broker.topic(super::groups::OFFSETS_TOPIC);
    let topic = topic.expect("is there");
    while broker.partitions.find(&topic, 0).is_some() {
        changes.changed().await.expect("the node lives");
    }
    assert_eq!(world.commit(6).await, Err(ErrorCode::NotCoordinator));
    let find = FindCoordinatorRequest {
        coordinator_keys: vec![GROUP.into()],
        ..Default::default()
    };
    let found = ask(&world.node.node, &find, 4).await;
    let found = &found.coordinators[0];
    assert_eq!((found.error_code, found.node_id), (0, 2));
    assert_eq!((&*found.host, found.port), ("other", 19092));
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_does_nothing_is_waited_for_until_the_deadline() {
    let (jobs, _receiver) = mpsc::channel(1);
    let queue = Queue::new(jobs, ClosedMark::default());
    let ask = || {
        let queue = queue.clone();
        queue.read(asked(ApiKey::OffsetFetch, GROUP), committed)
    };
    // One job is in the queue, and there is no room for the other.
    let answers = tokio::join!(ask(), ask());
    let late = Err(ErrorCode::CoordinatorNotAvailable);
    assert_eq!(answers, (late, late));
}
