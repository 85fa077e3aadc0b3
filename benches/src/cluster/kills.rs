//! A leader dies by kill -9: how soon clients write to and read from another broker.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use highwater_protocol::messages::FetchRequest;
use highwater_protocol::messages::fetch_request::{FetchPartition, FetchTopic};

use super::processes::{BROKERS, Cluster};
use super::{Lab, TOPIC};
use crate::admin::Admin;
use crate::batch::Batch;
use crate::follower::{Follower, await_view, until_done};
use crate::machine::{self, pause};
use crate::socket::{connect, done};

/// The version of Fetch, which names topics by id.
const FETCH: i16 = 16;
const REPLICAS: usize = BROKERS.len();
/// How long the cluster rests between two kills. The times at which leaders die are spread over heartbeats.
const REST: Duration = Duration::from_millis(500);
const SPREAD_MS: u64 = 100;

/// Kills the leader of a partition again and again, and starts it again each time.
pub(super) fn kills(lab: &mut Lab, cluster: &mut Cluster) -> Result<()> {
    let mut admin = Admin::open(&cluster.addresses()[0])?;
    let topic = admin.create_replicated(TOPIC, 1, i16::try_from(REPLICAS)?)?;
    let batch = Batch::build(1024, 1024, machine::timestamp()?)?;
    for round in 0..lab.kills {
        let all = |view: &crate::admin::View| {
            view.in_sync.get(&0) == Some(&REPLICAS) && view.leader(0).is_some()
        };
        let (view, _) = await_view(&cluster.addresses()[0], TOPIC, all)?;
        let (leader, _) = view.leader(0).context("it has a leader")?;
        let survivors = cluster.addresses().into_iter();
        let leader_address = cluster.address(leader)?.to_owned();
        let survivors: Vec<String> = survivors.filter(|one| *one != leader_address).collect();
        let mut producer = Follower::new(cluster.addresses(), (TOPIC, topic, 0), &batch)?;
        until_done(|| producer.produce())?;
        pause(REST + Duration::from_millis(u64::from(round) * 37 % SPREAD_MS));
        producer.produce()?;
        let killed = machine::now();
        cluster.kill(leader)?;
        let times = std::thread::scope(|scope| -> Result<[Instant; 4]> {
            let fenced = scope.spawn(|| {
                let is_fenced = |view: &crate::admin::View| !view.brokers.contains_key(&leader);
                await_view(&survivors[0], TOPIC, is_fenced)
            });
            let led = scope.spawn(|| {
                let is_led =
                    |view: &crate::admin::View| view.leader(0).is_some_and(|(id, _)| id != leader);
                await_view(&survivors[0], TOPIC, is_led)
            });
            let read = scope.spawn(|| until_done(|| read_first(&survivors, leader, topic)));
            let written = until_done(|| producer.produce())?;
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<(_, Instant)>>| {
                let seen: Result<(crate::admin::View, Instant)> = thread
                    .join()
                    .unwrap_or_else(|_panic| bail!("a client failed"));
                seen.map(|(_, at)| at)
            };
            let read = read
                .join()
                .unwrap_or_else(|_panic| bail!("a client failed"))?;
            Ok([join(fenced)?, join(led)?, written, read])
        })?;
        let [fenced, led, written, read] = times.map(|at| (at - killed).as_secs_f64());
        let session = cluster.system.session().as_secs_f64();
        let figures = [
            ("kill to fenced s", fenced),
            ("kill to led elsewhere s", led),
            ("kill to first ack s", written),
            ("kill to first fetch s", read),
            ("first ack less session s", written - session),
        ];
        lab.note_all("kills", cluster.system, &figures)?;
        cluster.start_again(leader)?;
    }
    // the broker that the former connection led to was killed
    Admin::open(&cluster.addresses()[0])?.delete_topic(TOPIC)
}

/// Reads the partition's first record from a leader that lives.
fn read_first(brokers: &[String], dead: i32, topic: highwater_types::Uuid) -> Result<()> {
    let view = Admin::open(&brokers[0])?.view(TOPIC)?;
    let (_, address) = view
        .leader(0)
        .filter(|(id, _)| *id != dead)
        .context("no leader lives")?;
    let (mut connection, _) = connect(address)?;
    let partition = FetchPartition {
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let request = FetchRequest {
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic_id: topic,
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = done(connection.call(&request, FETCH))?;
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let has_records = partitions.into_iter().any(|one| {
        one.error_code == 0
            && one
                .records
                .as_ref()
                .is_some_and(|records| !records.is_empty())
    });
    has_records.then_some(()).context("no records")
}
