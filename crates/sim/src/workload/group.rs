//! Committed offsets: an offset whose commit was answered stays committed.

use highwater_protocol::StrBytes;
use highwater_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use highwater_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use highwater_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest};
use highwater_types::NodeId;

use super::{Again, Clients, Connection, main};
use crate::checker::TopicPartition;
use crate::options::OFFSETS_PARTITIONS;

/// The number of groups, which are in more than one partition of `__consumer_offsets`.
pub(super) const GROUPS: u64 = 3;

fn name(group: u64) -> String {
    format!("g{group}")
}

fn partitions(clients: &Clients) -> Vec<TopicPartition> {
    (0..=clients.scenario.slow_partition()).map(main).collect()
}

/// Commits all the time, the later groups less often, and reads the committed offsets after every broken connection.
pub(super) async fn run(clients: &Clients, group: u64) {
    let think_ms = clients.scenario.think_ms * (1 + 10 * group);
    let (group, all) = (name(group), partitions(clients));
    while !clients.is_calm() {
        let committed = async {
            let mut connection = open(clients, &group).await?;
            check(clients, &mut connection, &group, &all).await?;
            while !clients.is_calm() {
                commit(clients, &mut connection, &group, &all).await?;
                clients.rest(think_ms).await;
            }
            Ok(())
        };
        match committed.await {
            Err(Again::Violation) => return,
            Err(Again::Later) => clients.rest(200).await,
            Ok(()) => {}
        }
    }
}

/// Reads the offsets that other clients commit, while they commit.
pub(super) async fn watch(clients: &Clients) {
    while !clients.is_calm() {
        if look(clients, clients.rng.below(GROUPS)).await {
            return;
        }
        clients.rest(200).await;
    }
    verify(clients).await;
}

/// Reads all committed offsets once.
pub(super) async fn verify(clients: &Clients) {
    for group in 0..GROUPS {
        while !look(clients, group).await {
            clients.rest(200).await;
        }
    }
}

/// Reads the offsets of a group, and returns whether that is done.
async fn look(clients: &Clients, group: u64) -> bool {
    let (group, all) = (name(group), partitions(clients));
    let checked = async {
        let mut connection = open(clients, &group).await?;
        check(clients, &mut connection, &group, &all).await
    };
    !matches!(checked.await, Err(Again::Later))
}

pub(super) async fn open(clients: &Clients, group: &str) -> Result<Connection, Again> {
    let mut connection = Connection::open(clients).await?;
    let request = highwater_client::find_coordinator(group);
    let answer = connection.call(&request, 4).await?;
    let coordinator = answer.coordinators.first();
    let (code, node) = coordinator.map_or((-1, -1), |c| (c.error_code, c.node_id));
    clients.expect("FindCoordinator", code)?;
    if !clients.is_cluster() {
        return Ok(connection);
    }
    connection.follow(clients, NodeId(node)).await?;
    let at = TopicPartition {
        topic: "__consumer_offsets",
        former: 0,
        index: partition_of(group),
    };
    connection.leads(clients, at).await?;
    Ok(connection)
}

/// Commits the next offset for partitions of one topic.
pub(super) async fn commit(
    clients: &Clients,
    connection: &mut Connection,
    group: &str,
    partitions: &[TopicPartition],
) -> Result<(), Again> {
    let asked: Vec<_> = partitions
        .iter()
        .map(|at| asks(clients, group, *at))
        .collect();
    let of_one = |(at, offset): (&TopicPartition, &i64)| OffsetCommitRequestPartition {
        partition_index: at.index,
        committed_offset: *offset,
        committed_leader_epoch: -1,
        committed_metadata: None,
    };
    let topic = partitions.first().map_or("", |at| at.topic);
    let request = OffsetCommitRequest {
        group_id: StrBytes::from(group),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: StrBytes::from(topic),
            partitions: partitions.iter().zip(&asked).map(of_one).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = connection.call(&request, 8).await?;
    for (at, offset) in partitions.iter().zip(asked) {
        let topic = answer.topics.first();
        let answered = topic.and_then(|topic| {
            let mut partitions = topic.partitions.iter();
            partitions.find(|partition| partition.partition_index == at.index)
        });
        clients.expect("OffsetCommit", answered.map_or(-1, |p| p.error_code))?;
        let mut history = clients.checker.lock();
        let committed = history.committed.entry((group.to_owned(), *at));
        let committed = committed.or_default();
        committed.answered.note(connection.epoch(), offset);
    }
    Ok(())
}

/// The partition of `__consumer_offsets` that holds a group's offsets, as Kafka's brokers choose it.
fn partition_of(group: &str) -> i32 {
    let hash = group.bytes().fold(0i32, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(i32::from(byte))
    });
    hash.checked_abs().unwrap_or(0) % OFFSETS_PARTITIONS
}

fn asks(clients: &Clients, group: &str, at: TopicPartition) -> i64 {
    let mut history = clients.checker.lock();
    let committed = history.committed.entry((group.to_owned(), at)).or_default();
    committed.asked += 1;
    committed.asked
}

/// Reads the committed offsets of partitions of one topic.
pub(super) async fn check(
    clients: &Clients,
    connection: &mut Connection,
    group: &str,
    partitions: &[TopicPartition],
) -> Result<(), Again> {
    let epoch = connection.epoch();
    let known: Vec<i64> = {
        let history = clients.checker.lock();
        let of_one = |at| history.committed.get(&(group.to_owned(), at));
        let all = partitions.iter().copied();
        all.map(|at| of_one(at).map_or(0, |committed| committed.answered.until(epoch)))
            .collect()
    };
    let topic = partitions.first().map_or("", |at| at.topic);
    let request = OffsetFetchRequest {
        group_id: StrBytes::from(group),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: StrBytes::from(topic),
            partition_indexes: partitions.iter().map(|at| at.index).collect(),
        }]),
        ..Default::default()
    };
    let answer = connection.call(&request, 7).await?;
    clients.expect("OffsetFetch", answer.error_code)?;
    for (at, known) in partitions.iter().zip(known) {
        let topic = answer.topics.first();
        let found = topic.and_then(|topic| {
            let mut partitions = topic.partitions.iter();
            partitions.find(|partition| partition.partition_index == at.index)
        });
        let Some(found) = found else {
            let what = "OffsetFetch is answered without its partition".to_owned();
            clients.checker.check(Err(what));
            return Err(Again::Violation);
        };
        clients.expect("OffsetFetch", found.error_code)?;
        let mut history = clients.checker.lock();
        let committed = history.committed.entry((group.to_owned(), *at));
        let told = committed
            .or_default()
            .told(epoch, known, found.committed_offset);
        drop(history);
        if let Err(violation) = told {
            let violation = violation.of(format_args!("group {group}, {at}"));
            clients.checker.check(Err(violation));
            return Err(Again::Violation);
        }
    }
    Ok(())
}
