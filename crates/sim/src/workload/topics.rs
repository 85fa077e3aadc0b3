//! Topics that are made and deleted, and records that are deleted: what was answered is so for ever.

use std::collections::BTreeSet;

use highwater_protocol::messages::create_topics_request::CreatableTopic;
use highwater_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use highwater_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, MetadataRequest,
};
use highwater_protocol::{ErrorCode, StrBytes};

use super::{Again, Clients, Connection, TOPIC};

/// Makes the topic that all clients use.
pub(super) async fn create_main(clients: &Clients) {
    loop {
        let created = async {
            let mut connection = Connection::open(clients).await?;
            let partitions = clients.scenario.slow_partition() + 1;
            create(clients, &mut connection, TOPIC, partitions).await
        };
        match created.await {
            Ok(()) | Err(Again::Violation) => return,
            Err(Again::Later) => clients.rest(100).await,
        }
    }
}

/// Makes and deletes topics, and looks after every break which there are.
pub(super) async fn run(clients: &Clients) {
    let mut next = 0;
    while !clients.is_calm() {
        let changed = async {
            let mut connection = Connection::open(clients).await?;
            check(clients, &mut connection).await?;
            while !clients.is_calm() {
                next += 1;
                let name = format!("other-{next}");
                create(clients, &mut connection, &name, 1).await?;
                clients.rest(1000).await;
                if clients.rng.below(3) == 0 {
                    delete(clients, &mut connection, &name).await?;
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

/// Looks once which topics there are.
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

async fn create(
    clients: &Clients,
    connection: &mut Connection,
    name: &str,
    partitions: i32,
) -> Result<(), Again> {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: StrBytes::from(name),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        }],
        timeout_ms: 5000,
        ..Default::default()
    };
    let answer = connection.ask(&request, 7).await?;
    let code = answer.topics.first().map_or(-1, |topic| topic.error_code);
    // an attempt that broke may have made it
    if code != ErrorCode::TopicAlreadyExists.code() {
        clients.expect("CreateTopics", code)?;
    }
    let mut history = clients.checker.lock();
    history.topics.made.insert(name.to_owned());
    Ok(())
}

async fn delete(clients: &Clients, connection: &mut Connection, name: &str) -> Result<(), Again> {
    {
        // until it is answered it may be there or not
        let mut history = clients.checker.lock();
        history.topics.made.remove(name);
    }
    let request = DeleteTopicsRequest {
        topic_names: vec![StrBytes::from(name)],
        timeout_ms: 5000,
        ..Default::default()
    };
    let answer = connection.ask(&request, 5).await?;
    let code = answer
        .responses
        .first()
        .map_or(-1, |topic| topic.error_code);
    clients.expect("DeleteTopics", code)?;
    let mut history = clients.checker.lock();
    history.topics.removed.insert(name.to_owned());
    Ok(())
}

async fn check(clients: &Clients, connection: &mut Connection) -> Result<(), Again> {
    let request = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let answer = connection.ask(&request, 12).await?;
    let names = answer.topics.iter().filter_map(|topic| topic.name.as_ref());
    let told: BTreeSet<String> = names.map(ToString::to_string).collect();
    let found = clients.checker.lock().topics.check(&told);
    clients.checker.check(found);
    Ok(())
}

/// Deletes records now and then, up to somewhere below the high watermark or all that are known.
pub(super) async fn delete_records(clients: &Clients, partition: i32) {
    let rest_ms = match partition == clients.scenario.slow_partition() {
        true => 1500,
        false => 4000,
    };
    while !clients.is_calm() {
        clients.rest(rest_ms).await;
        let deleted = async {
            let mut connection = Connection::open(clients).await?;
            delete_some(clients, &mut connection, partition).await
        };
        if matches!(deleted.await, Err(Again::Violation)) {
            return;
        }
    }
}

async fn delete_some(
    clients: &Clients,
    connection: &mut Connection,
    partition: i32,
) -> Result<(), Again> {
    let checker = &clients.checker;
    let known = checker.partition(partition, |history| history.known());
    let visible = known.high_watermark - known.log_start;
    let visible = u64::try_from(visible).unwrap_or(0);
    let part = match clients.rng.below(3) {
        0 => visible,
        _ => clients.rng.below(visible / 2 + 1),
    };
    let offset = known.log_start + i64::try_from(part).unwrap_or(0);
    checker.partition(partition, |history| history.asks_trim(offset));
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: StrBytes::from(TOPIC),
            partitions: vec![DeleteRecordsPartition {
                partition_index: partition,
                offset,
            }],
        }],
        timeout_ms: 5000,
    };
    let answer = connection.ask(&request, 2).await?;
    let found = answer.topics.first().and_then(|t| t.partitions.first());
    let (code, low) = found.map_or((-1, -1), |found| (found.error_code, found.low_watermark));
    clients.expect("DeleteRecords", code)?;
    checker.check_partition(partition, |history| history.trimmed(offset, low));
    Ok(())
}
