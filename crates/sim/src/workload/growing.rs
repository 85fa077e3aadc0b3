//! A topic that gets more partitions. Each of them is written, read, and emptied at times.

use highwater_protocol::messages::CreatePartitionsRequest;
use highwater_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use highwater_protocol::{ErrorCode, StrBytes};

use super::producer::{Pace, Producer};
use super::{Again, Clients, Connection, consumer, topics};
use crate::checker::TopicPartition;

const TOPIC: &str = "grows";
const PARTITIONS_MAX: i32 = 6;
/// The first number of this topic's producers, which is above the numbers of all other producers.
const NUMBERS_FROM: u32 = 20_000;

/// Writes one partition after the other, and adds the next one, until all is calm.
pub(super) async fn run(clients: &Clients) {
    topics::create_one(clients, TOPIC, 1, &[]).await;
    for index in 0..PARTITIONS_MAX {
        let at = TopicPartition {
            topic: TOPIC,
            former: 0,
            index,
        };
        let pace = Pace {
            // a repeat must not be sent among others
            in_flight_max: 1,
            think_ms: 100,
            batches: Some(1 + usize::try_from(clients.rng.below(12)).unwrap_or(0)),
            repeats: true,
            records_max: 3,
            value_bytes_max: 200,
        };
        let number = NUMBERS_FROM + u32::try_from(index).unwrap_or(0);
        Producer::new(clients, at.into(), number, pace).run().await;
        consumer::read_all(clients, at).await;
        let is_last = clients.is_calm() || index + 1 == PARTITIONS_MAX;
        if !is_emptied(clients, at).await || is_last || !is_added(clients, index + 2).await {
            return;
        }
    }
}

/// The partitions that the topic has at the end.
pub(super) fn partitions(clients: &Clients) -> Vec<TopicPartition> {
    let history = clients.checker.lock();
    let all = history.partitions.keys().copied();
    all.filter(|at| at.topic == TOPIC).collect()
}

/// Deletes records, at times all of them, of every second partition. Returns whether the client may go on.
async fn is_emptied(clients: &Clients, at: TopicPartition) -> bool {
    if clients.rng.below(2) == 0 {
        return true;
    }
    loop {
        let deleted = async {
            let mut connection = Connection::open_to_leader(clients, at).await?;
            topics::delete_some(clients, &mut connection, at).await
        };
        match deleted.await {
            Ok(()) => return true,
            Err(Again::Violation) => return false,
            Err(Again::Later) => clients.rest(200).await,
        }
    }
}

/// Adds a partition. Returns whether the client may go on.
async fn is_added(clients: &Clients, count: i32) -> bool {
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: StrBytes::from(TOPIC),
            count,
            assignments: None,
        }],
        timeout_ms: 5000,
        validate_only: false,
    };
    loop {
        let added = async {
            let mut connection = Connection::open(clients).await?;
            let answer = connection.call(&request, 3).await?;
            let code = answer.results.first().map_or(-1, |topic| topic.error_code);
            // an attempt that failed may have added it
            match code == ErrorCode::InvalidPartitions.code() {
                true => Ok(()),
                false => clients.expect("CreatePartitions", code),
            }
        };
        match added.await {
            Ok(()) => return true,
            Err(Again::Violation) => return false,
            Err(Again::Later) => clients.rest(200).await,
        }
    }
}
