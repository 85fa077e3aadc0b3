//! Topics that are created and deleted, and records that are deleted: a change that was answered stays.

use std::collections::BTreeSet;

use highwater_client::{create_topics, delete_topic, describe_all_topics, new_topic};
use highwater_protocol::messages::DeleteRecordsRequest;
use highwater_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use highwater_protocol::{ErrorCode, StrBytes};

use super::{Again, Clients, Connection};
use crate::checker::TopicPartition;

/// The timeout of a request, which is less than that of a connection.
const TIMEOUT_MS: i32 = 5000;

/// Creates a topic that stays.
pub(super) async fn create_one(
    clients: &Clients,
    name: &str,
    partitions: i32,
    configs: &[(&str, i64)],
) {
    loop {
        let created = async {
            let mut connection = Connection::open(clients).await?;
            create(clients, &mut connection, name, partitions, configs).await
        };
        match created.await {
            Ok(()) => return note(clients, name, true),
            Err(Again::Violation) => return,
            Err(Again::Later) => clients.rest(100).await,
        }
    }
}

/// Creates and deletes topics, and lists them after every broken connection.
pub(super) async fn run(clients: &Clients) {
    let mut next = 0;
    while !clients.is_calm() {
        let changed = async {
            let mut connection = Connection::open(clients).await?;
            check(clients, &mut connection).await?;
            while !clients.is_calm() {
                next += 1;
                let name = format!("other-{next}");
                create(clients, &mut connection, &name, 1, &[]).await?;
                note(clients, &name, true);
                clients.rest(1000).await;
                if clients.rng.below(3) == 0 {
                    // Until the request is answered, the topic may or may not exist.
                    clients.checker.lock().topics.made.remove(&name);
                    delete(clients, &mut connection, &name).await?;
                    note(clients, &name, false);
                }
            }
            Ok(())
        };
        match changed.await {
            Err(Again::Violation) => return,
            Err(Again::Later) => clients.rest(200).await,
            Ok(()) => {}
        }
    }
    verify(clients).await;
}

/// Notes an answered creation or deletion.
fn note(clients: &Clients, name: &str, is_there: bool) {
    let topics = &mut clients.checker.lock().topics;
    let names = match is_there {
        true => &mut topics.made,
        false => &mut topics.removed,
    };
    names.insert(name.to_owned());
}

/// Lists the topics once.
pub(super) async fn verify(clients: &Clients) {
    loop {
        let checked = async {
            let mut connection = Connection::open(clients).await?;
            check(clients, &mut connection).await
        };
        match checked.await {
            Ok(()) | Err(Again::Violation) => return,
            Err(Again::Later) => clients.rest(200).await,
        }
    }
}

pub(super) async fn create(
    clients: &Clients,
    connection: &mut Connection,
    name: &str,
    partitions: i32,
    configs: &[(&str, i64)],
) -> Result<(), Again> {
    let values: Vec<String> = configs.iter().map(|(_, value)| value.to_string()).collect();
    let names = configs.iter().map(|(name, _)| *name);
    let configs: Vec<_> = names.zip(values.iter().map(String::as_str)).collect();
    let mut request = create_topics(vec![new_topic(name, partitions, &configs)]);
    request.timeout_ms = TIMEOUT_MS;
    let answer = connection.call(&request, 7).await?;
    let code = answer.topics.first().map_or(-1, |topic| topic.error_code);
    // An attempt that failed may have created the topic.
    if code != ErrorCode::TopicAlreadyExists.code() {
        clients.expect("CreateTopics", code)?;
    }
    Ok(())
}

pub(super) async fn delete(
    clients: &Clients,
    connection: &mut Connection,
    name: &str,
) -> Result<(), Again> {
    let mut request = delete_topic(name);
    request.timeout_ms = TIMEOUT_MS;
    let answer = connection.call(&request, 5).await?;
    let code = answer
        .responses
        .first()
        .map_or(-1, |topic| topic.error_code);
    clients.expect("DeleteTopics", code)
}

async fn check(clients: &Clients, connection: &mut Connection) -> Result<(), Again> {
    let request = describe_all_topics();
    let answer = connection.call(&request, 12).await?;
    let names = answer.topics.iter().filter_map(|topic| topic.name.as_ref());
    let told: BTreeSet<String> = names.map(ToString::to_string).collect();
    let found = clients.checker.lock().topics.check(&told);
    if found.is_err() && clients.is_cluster() {
        // the broker may not know yet what another one has answered; all must know it in the end
        return Err(Again::Later);
    }
    clients.checker.check(found);
    Ok(())
}

/// Deletes records now and then, either up to an offset below the high watermark or all records that are known.
pub(super) async fn delete_records(clients: &Clients, at: TopicPartition) {
    let rest_ms = match at.index == clients.scenario.slow_partition() {
        true => 1500,
        false => 4000,
    };
    while !clients.is_calm() {
        clients.rest(rest_ms).await;
        let deleted = async {
            let mut connection = Connection::open_to_leader(clients, at).await?;
            delete_some(clients, &mut connection, at).await
        };
        if matches!(deleted.await, Err(Again::Violation)) {
            return;
        }
    }
}

pub(super) async fn delete_some(
    clients: &Clients,
    connection: &mut Connection,
    at: TopicPartition,
) -> Result<(), Again> {
    let checker = &clients.checker;
    let epoch = connection.epoch();
    let known = checker.partition(at, |history| history.known(epoch));
    let visible = known.high_watermark - known.log_start;
    let visible = u64::try_from(visible).unwrap_or(0);
    let part = match clients.rng.below(3) {
        0 => visible,
        _ => clients.rng.below(visible / 2 + 1),
    };
    let offset = known.log_start + i64::try_from(part).unwrap_or(0);
    checker.partition(at, |history| history.asks_trim(offset));
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: StrBytes::from(at.topic),
            partitions: vec![DeleteRecordsPartition {
                partition_index: at.index,
                offset,
            }],
        }],
        timeout_ms: TIMEOUT_MS,
    };
    let answer = connection.call(&request, 2).await?;
    let found = answer.topics.first().and_then(|t| t.partitions.first());
    let (code, low) = found.map_or((-1, -1), |found| (found.error_code, found.low_watermark));
    clients.expect("DeleteRecords", code)?;
    checker.check_partition(at, |history| history.trimmed(epoch, offset, low));
    Ok(())
}
