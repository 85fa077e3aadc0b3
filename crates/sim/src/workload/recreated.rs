//! A topic that is deleted and created again and again: of the one before nothing comes back, no record, no offset, no
//! producer's state, and a request that names it by its id is refused.

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
/// Its producers' numbers are above all others'.
const NUMBERS_FROM: u32 = 10_000;

/// One topic of the name after the other, until all is calm.
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

/// Tries until it is answered; nothing where that is a violation.
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

/// The life of one topic of the name, after that of the former one's producer; nothing after a violation.
async fn lives<'a>(
    clients: &'a Clients,
    at: TopicPartition,
    before: Option<Producer<'a>>,
) -> Option<Producer<'a>> {
    if insist(clients, || id(clients)).await?.is_some() {
        clients.violation(&format!("{at} is deleted, and is there"));
        return None;
    }
    insist(clients, async || {
        let mut connection = Connection::open(clients).await?;
        topics::create(clients, &mut connection, TOPIC, 1, &[]).await
    })
    .await?;
    let topic_id = insist(clients, async || id(clients).await?.ok_or(Again::Later)).await?;
    if !clients.checker.lock().topic_ids.insert(topic_id) {
        clients.violation(&format!("{at} has the id of a former topic"));
        return None;
    }
    let bounds = insist(clients, || consumer::look(clients, at)).await?;
    if bounds != (0, 0) {
        clients.violation(&format!("{at} is new, and has records: {bounds:?}"));
        return None;
    }
    let committed = async || {
        let mut connection = group::open(clients, GROUP).await?;
        group::check(clients, &mut connection, GROUP, &[at]).await
    };
    insist(clients, committed).await?;
    let producer_id = match before {
        Some(mut before) => {
            is_refused(clients, &mut before).await?;
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
    // the same producer goes on, from the sequence 0 on, as librdkafka's does (A4)
    let mut producer = producer.with_id(producer_id);
    producer.run().await;
    consumer::read_all(clients, at).await;
    clients
        .checker
        .check_partition(at, |history| history.is_complete());
    insist(clients, async || {
        let mut connection = group::open(clients, GROUP).await?;
        group::commit(clients, &mut connection, GROUP, &[at]).await
    })
    .await?;
    insist(clients, committed).await?;
    clients.rest(300).await;
    let late = late_batch(clients, &mut producer).await;
    delete(clients).await?;
    drop(late);
    Some(producer)
}

/// The id of the topic, if it is there.
async fn id(clients: &Clients) -> Result<Option<Uuid>, Again> {
    let mut connection = Connection::open(clients).await?;
    let request = highwater_client::describe_topic(TOPIC);
    let answer = connection.call(&request, 12).await?;
    let topic = answer.topics.first().ok_or(Again::Later)?;
    if topic.error_code == ErrorCode::UnknownTopicOrPartition.code() {
        return Ok(None);
    }
    clients.expect("Metadata", topic.error_code)?;
    Ok(Some(topic.topic_id))
}

/// A batch that is on its way when the topic is deleted; it is in that topic or nowhere.
async fn late_batch(clients: &Clients, producer: &mut Producer<'_>) -> Option<Connection> {
    let mut connection = Connection::open(clients).await.ok()?;
    let batch = producer.make();
    producer.send(&mut connection, &batch).await.ok()?;
    Some(connection)
}

async fn delete(clients: &Clients) -> Option<()> {
    insist(clients, async || {
        let mut connection = Connection::open(clients).await?;
        match topics::delete(clients, &mut connection, TOPIC).await {
            // an attempt that broke may have deleted it
            Err(Again::Later) if id(clients).await?.is_none() => Ok(()),
            deleted => deleted,
        }
    })
    .await
}

/// What is produced and committed to the id of a topic that was deleted is refused, though there is one of its name.
async fn is_refused(clients: &Clients, before: &mut Producer<'_>) -> Option<()> {
    let batch = before.make();
    let before = &*before;
    let code = insist(clients, async || {
        let mut connection = Connection::open(clients).await?;
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
        let mut connection = group::open(clients, GROUP).await?;
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

/// An answer, unless it is that of a node that is not ready for one.
fn unless_later(code: i16) -> Result<i16, Again> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::UnknownTopicId) => Ok(code),
        Some(known) if known.is_retriable() => Err(Again::Later),
        _ => Ok(code),
    }
}
