//! A topic that is deleted and created again repeatedly. No record, offset or producer state of an earlier topic comes
//! back, and a request that names an earlier topic by its id is refused.

use std::future::Future;

use highwater_protocol::messages::OffsetCommitRequest;
use highwater_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use highwater_protocol::{ErrorCode, StrBytes};
use highwater_types::Uuid;

use super::producer::{Pace, Producer, Target};
use super::{Again, Clients, Connection, consumer, group, topics};
use crate::checker::TopicPartition;

const TOPIC: &str = "again";
const GROUP: &str = "again";
/// The first number of this topic's producers, which is above the numbers of all other producers.
const NUMBERS_FROM: u32 = 10_000;

/// Runs one topic of the name after the other, until all is calm.
pub(super) async fn run(clients: &Clients) {
    let mut before: Option<Producer<'_>> = None;
    let mut former = 0;
    while !clients.is_calm() {
        let at = TopicPartition {
            topic: TOPIC,
            former,
            index: 0,
        };
        before = lives(clients, at, before).await;
        if before.is_none() {
            return;
        }
        former += 1;
    }
}

/// Repeats an attempt until it is answered; returns `None` after a violation.
async fn insist<T, F>(clients: &Clients, attempt: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T, Again>>,
{
    loop {
        match attempt().await {
            Ok(done) => return Some(done),
            Err(Again::Violation) => return None,
            Err(Again::Later) => clients.rest(100).await,
        }
    }
}

/// Runs the life of one topic of the name. Its producer follows the former topic's. Returns `None` after a violation.
async fn lives<'a>(
    clients: &'a Clients,
    at: TopicPartition,
    before: Option<Producer<'a>>,
) -> Option<Producer<'a>> {
    let topic_id = create(clients, at).await?;
    let bounds = insist(clients, || consumer::look(clients, at)).await?;
    if bounds != (0, 0) {
        clients.violation(&format!("{at} is new, and has records: {bounds:?}"));
        return None;
    }
    let committed = async || {
        let mut connection = coordinator(clients, at).await?;
        group::check(clients, &mut connection, GROUP, &[at]).await
    };
    insist(clients, committed).await?;
    let producer_id = match before {
        Some(mut before) => {
            is_refused(clients, at, &mut before).await?;
            before.id()
        }
        None => None,
    };
    let pace = Pace {
        in_flight_max: 1,
        think_ms: 20,
        batches: Some(1 + usize::try_from(clients.rng.below(3)).unwrap_or(0)),
        repeats: true,
        records_max: 3,
        value_bytes_max: 100,
    };
    let target = Target {
        at,
        topic_id: Some(topic_id),
    };
    let producer = Producer::new(clients, target, NUMBERS_FROM + at.former, pace);
    // The same producer goes on from sequence 0, as librdkafka's does (A4).
    let mut producer = producer.with_id(producer_id);
    producer.run().await;
    consumer::read_all(clients, at).await;
    clients
        .checker
        .check_partition(at, |history| history.is_complete());
    insist(clients, async || {
        let mut connection = coordinator(clients, at).await?;
        group::commit(clients, &mut connection, GROUP, &[at]).await
    })
    .await?;
    insist(clients, committed).await?;
    clients.rest(300).await;
    let late = late_batch(clients, at, &mut producer).await;
    delete(clients).await?;
    drop(late);
    Some(producer)
}

/// Creates the topic and returns its id.
async fn create(clients: &Clients, at: TopicPartition) -> Option<Uuid> {
    let id = match clients.is_cluster() {
        true => insist(clients, || create_after_all(clients)).await?,
        false => {
            if insist(clients, || id(clients)).await?.is_some() {
                clients.violation(&format!("{at} is deleted, and is there"));
                return None;
            }
            insist(clients, async || {
                let mut connection = Connection::open(clients).await?;
                topics::create(clients, &mut connection, TOPIC, 1, &[]).await
            })
            .await?;
            insist(clients, async || id(clients).await?.ok_or(Again::Later)).await?
        }
    };
    if is_former(clients, id) {
        clients.violation(&format!("{at} has the id of a former topic"));
        return None;
    }
    clients.checker.lock().topic_ids.insert(at.of_topic(), id);
    Some(id)
}

fn is_former(clients: &Clients, id: Uuid) -> bool {
    let history = clients.checker.lock();
    history.topic_ids.values().any(|former| *former == id)
}

/// Creates the topic at a broker that may not know yet that the former one is deleted. If the deletion did not reach the
/// controller, it is asked for again.
async fn create_after_all(clients: &Clients) -> Result<Uuid, Again> {
    let mut connection = Connection::open(clients).await?;
    topics::create(clients, &mut connection, TOPIC, 1, &[]).await?;
    let id = id_at(clients, &mut connection).await?.ok_or(Again::Later)?;
    if is_former(clients, id) {
        topics::delete(clients, &mut connection, TOPIC).await?;
        return Err(Again::Later);
    }
    Ok(id)
}

/// The coordinator of the group, once it knows the topic.
async fn coordinator(clients: &Clients, at: TopicPartition) -> Result<Connection, Again> {
    let mut connection = group::open(clients, GROUP).await?;
    connection.knows(clients, at).await?;
    Ok(connection)
}

/// The id of the topic, if the topic exists.
async fn id(clients: &Clients) -> Result<Option<Uuid>, Again> {
    let mut connection = Connection::open(clients).await?;
    id_at(clients, &mut connection).await
}

async fn id_at(clients: &Clients, connection: &mut Connection) -> Result<Option<Uuid>, Again> {
    let request = highwater_client::describe_topic(TOPIC);
    let answer = connection.call(&request, 12).await?;
    let topic = answer.topics.first().ok_or(Again::Later)?;
    if topic.error_code == ErrorCode::UnknownTopicOrPartition.code() {
        return Ok(None);
    }
    clients.expect("Metadata", topic.error_code)?;
    Ok(Some(topic.topic_id))
}

/// Sends a batch that is in flight when the topic is deleted. The batch is in that topic or nowhere.
async fn late_batch(
    clients: &Clients,
    at: TopicPartition,
    producer: &mut Producer<'_>,
) -> Option<Connection> {
    let mut connection = Connection::open_to_leader(clients, at).await.ok()?;
    let batch = producer.make();
    producer.send(&mut connection, &batch).await.ok()?;
    Some(connection)
}

async fn delete(clients: &Clients) -> Option<()> {
    insist(clients, async || {
        let mut connection = Connection::open(clients).await?;
        match topics::delete(clients, &mut connection, TOPIC).await {
            // An attempt that failed may have deleted the topic.
            Err(Again::Later) if id(clients).await?.is_none() => Ok(()),
            deleted => deleted,
        }
    })
    .await
}

/// Checks that a produce and a commit to the id of a deleted topic are refused, although a topic of its name exists.
async fn is_refused(
    clients: &Clients,
    at: TopicPartition,
    before: &mut Producer<'_>,
) -> Option<()> {
    let batch = before.make();
    let before = &*before;
    let code = insist(clients, async || {
        let mut connection = Connection::open_knowing(clients, at).await?;
        let sent = before.send(&mut connection, &batch).await?;
        unless_later(before.answer_or_code(&mut connection, sent).await?.0)
    });
    if code.await? != ErrorCode::UnknownTopicId.code() {
        clients.violation("a deleted topic's id takes a batch");
        return None;
    }
    let request = OffsetCommitRequest {
        group_id: StrBytes::from(GROUP),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            topic_id: before.topic_id(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 1_000_000,
                committed_leader_epoch: -1,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let code = insist(clients, async || {
        let mut connection = coordinator(clients, at).await?;
        let answer = connection.call(&request, 10).await?;
        let topic = answer.topics.first();
        let partition = topic.and_then(|topic| topic.partitions.first());
        unless_later(partition.map_or(-1, |partition| partition.error_code))
    });
    if code.await? != ErrorCode::UnknownTopicId.code() {
        clients.violation("a deleted topic's id takes an offset");
        return None;
    }
    Some(())
}

/// Returns the code of an answer, or an error if the node is not ready to give one.
fn unless_later(code: i16) -> Result<i16, Again> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::UnknownTopicId) => Ok(code),
        Some(known) if known.is_retriable() => Err(Again::Later),
        _ => Ok(code),
    }
}
