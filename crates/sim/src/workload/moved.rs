//! An operator who moves partitions: each move is a reassignment to another broker, under all that clients do and all that
//! fails. Its answers say nothing; the records are what counts.

use highwater_protocol::StrBytes;
use highwater_protocol::messages::AlterPartitionReassignmentsRequest;
use highwater_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};

use super::{Clients, Connection, TOPIC};

/// The topic of committed offsets, whose coordinators move too.
const OFFSETS: &str = "__consumer_offsets";
/// The longest time between two moves.
const REST_MS: u64 = 1500;

/// Moves partitions until all is calm.
pub(super) async fn run(clients: &Clients) {
    while !clients.is_calm() {
        clients.rest(REST_MS).await;
        let request = drawn(clients);
        let asked = async {
            let mut connection = Connection::open(clients).await?;
            connection.call(&request, 1).await
        };
        // the move may be carried out later, or never
        drop(asked.await);
    }
}

/// Some partitions of one topic, each to a broker.
fn drawn(clients: &Clients) -> AlterPartitionReassignmentsRequest {
    let rng = &clients.rng;
    let (name, count) = match rng.below(4) {
        0 => (OFFSETS, 2),
        _ => (TOPIC, clients.scenario.slow_partition() + 1),
    };
    let one = |index| {
        let brokers = u64::try_from(clients.brokers.len()).unwrap_or(1);
        let at = usize::try_from(rng.below(brokers)).unwrap_or(0);
        ReassignablePartition {
            partition_index: index,
            replicas: Some(vec![clients.brokers[at].id.0]),
        }
    };
    let partitions = (0..count).filter(|_| rng.below(2) == 0).map(one).collect();
    AlterPartitionReassignmentsRequest {
        timeout_ms: 5000,
        topics: vec![ReassignableTopic {
            name: StrBytes::from(name),
            partitions,
        }],
        ..Default::default()
    }
}
