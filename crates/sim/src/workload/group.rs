//! Committed offsets: what was answered is there for ever.

use highwater_protocol::StrBytes;
use highwater_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use highwater_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use highwater_protocol::messages::{
    FindCoordinatorRequest, OffsetCommitRequest, OffsetFetchRequest,
};

use super::{Again, Clients, Connection, TOPIC};

const GROUP: &str = "g";

/// Commits now and then, and looks after every break what is committed.
pub(super) async fn run(clients: &Clients) {
    while !clients.is_calm() {
        let committed = async {
            let mut connection = open(clients).await?;
            check(clients, &mut connection).await?;
            while !clients.is_calm() {
                commit(clients, &mut connection).await?;
                clients.rest(400).await;
            }
            Ok(())
        };
        match committed.await {
            Err(Again::Violation) => return,
            Err(Again::Later) => clients.rest(200).await,
            Ok(()) => {}
        }
    }
    verify(clients).await;
}

/// Looks once what is committed.
pub(super) async fn verify(clients: &Clients) {
    loop {
        let checked = async {
            let mut connection = open(clients).await?;
            check(clients, &mut connection).await
        };
        match checked.await {
            Ok(()) | Err(Again::Violation) => return,
            Err(Again::Later) => clients.rest(200).await,
        }
    }
}

async fn open(clients: &Clients) -> Result<Connection, Again> {
    let mut connection = Connection::open(clients).await?;
    let request = FindCoordinatorRequest {
        coordinator_keys: vec![StrBytes::from(GROUP)],
        ..Default::default()
    };
    let answer = connection.ask(&request, 4).await?;
    let code = answer.coordinators.first().map_or(-1, |c| c.error_code);
    clients.expect("FindCoordinator", code)?;
    Ok(connection)
}

async fn commit(clients: &Clients, connection: &mut Connection) -> Result<(), Again> {
    let offset = {
        let mut history = clients.checker.lock();
        history.commit_asked += 1;
        history.commit_asked
    };
    let request = OffsetCommitRequest {
        group_id: StrBytes::from(GROUP),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: StrBytes::from(TOPIC),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                committed_leader_epoch: -1,
                committed_metadata: None,
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = connection.ask(&request, 8).await?;
    let topic = answer.topics.first();
    let partition = topic.and_then(|topic| topic.partitions.first());
    clients.expect("OffsetCommit", partition.map_or(-1, |p| p.error_code))?;
    clients.checker.lock().commit_answered = offset;
    Ok(())
}

async fn check(clients: &Clients, connection: &mut Connection) -> Result<(), Again> {
    let request = OffsetFetchRequest {
        group_id: StrBytes::from(GROUP),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: StrBytes::from(TOPIC),
            partition_indexes: vec![0],
        }]),
        ..Default::default()
    };
    let answer = connection.ask(&request, 7).await?;
    clients.expect("OffsetFetch", answer.error_code)?;
    let topic = answer.topics.first();
    let partition = topic.and_then(|topic| topic.partitions.first());
    let Some(partition) = partition else {
        let what = "OffsetFetch is answered without its partition".to_owned();
        clients.checker.check(Err(what));
        return Err(Again::Violation);
    };
    clients.expect("OffsetFetch", partition.error_code)?;
    let found = partition.committed_offset.max(0);
    let (answered, asked) = {
        let mut history = clients.checker.lock();
        let known = (history.commit_answered, history.commit_asked);
        // what is seen once is there for ever too
        history.commit_answered = history.commit_answered.max(found);
        known
    };
    if found < answered || found > asked {
        let what = format!("offset {found} is committed, and {answered} to {asked} were");
        clients.checker.check(Err(what));
        return Err(Again::Violation);
    }
    Ok(())
}
