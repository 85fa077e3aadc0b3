//! The answer to a fetch: for each partition the batches that were read, or an error.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_partition_log::ReadOutcome;
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::FetchResponse;
use highwater_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, PartitionData,
};

use highwater_types::NodeId;

use super::outcome::Outcome;
use super::request::Target;
use crate::api::context::RequestContext;
use crate::api::error::Refusal;
use crate::cluster::NO_BROKER;
use crate::partitions::{FetchKey, FetchPlan, Partition, SessionError, Watermarks};

/// The error code of a refused session, for the whole answer.
pub(super) fn session_error(error: SessionError) -> ErrorCode {
    match error {
        SessionError::UnknownId => ErrorCode::FetchSessionIdNotFound,
        SessionError::WrongEpoch => ErrorCode::InvalidFetchSessionEpoch,
        SessionError::OtherNaming => ErrorCode::FetchSessionTopicIdError,
    }
}

/// An answer that is an error as a whole.
pub(super) fn failed(code: ErrorCode) -> FetchResponse {
    FetchResponse {
        error_code: code.code(),
        ..Default::default()
    }
}

/// Makes the answer, which has those partitions that its session must include.
pub(super) async fn answer(
    ctx: &RequestContext,
    plan: &FetchPlan,
    targets: Vec<Target>,
    results: Vec<Outcome>,
) -> FetchResponse {
    let mut response = FetchResponse {
        session_id: plan.session_id,
        ..Default::default()
    };
    let mut leaders = BTreeSet::new();
    for (((key, _), target), result) in plan.partitions.iter().zip(targets).zip(results) {
        ctx.give_way().await;
        let (data, answered, served) = partition_data(ctx, key, &target, result);
        let is_told = data.error_code != 0 || data.preferred_read_replica >= 0;
        if !plan.record_answer(key, answered, served, is_told) {
            continue;
        }
        leaders.insert(NodeId(data.current_leader.leader_id));
        match response.responses.last_mut() {
            Some(last) if last.topic == key.name && last.topic_id == key.id => {
                last.partitions.push(data);
            }
            _ => response.responses.push(FetchableTopicResponse {
                topic: key.name.clone(),
                topic_id: key.id,
                partitions: vec![data],
            }),
        }
    }
    leaders.remove(&NO_BROKER);
    if !leaders.is_empty() {
        let cluster = ctx.broker.cluster();
        let endpoints = cluster.live_among(&leaders, &ctx.connection.listener);
        response.node_endpoints = endpoints.map(Into::into).collect();
    }
    response
}

fn partition_data(
    ctx: &RequestContext,
    key: &FetchKey,
    target: &Target,
    result: Outcome,
) -> (PartitionData, Watermarks, bool) {
    let mut data = PartitionData {
        partition_index: key.partition,
        ..Default::default()
    };
    match result {
        Outcome::Read(read) => of_read(data, read),
        Outcome::Elsewhere(replica, read) => {
            data.preferred_read_replica = replica.0;
            if let Ok(partition) = &target.partition {
                let key = (partition.topic.id, partition.index);
                ctx.connection.sent_on(key, target.wanted.offset);
            }
            of_read(data, read)
        }
        Outcome::Failed(_) | Outcome::Cold => {
            let refusal = match result {
                Outcome::Failed(refusal) => unless_cut_off(ctx, target, refusal),
                _ => ErrorCode::UnknownServerError.into(),
            };
            data.error_code = refusal.code.code();
            data.high_watermark = -1;
            // As in Kafka, a partition that the metadata does not have gets an empty list, and one that the log refuses
            // gets none.
            let by_log = matches!(
                refusal.code,
                ErrorCode::UnknownLeaderEpoch | ErrorCode::FencedLeaderEpoch
            );
            if by_log || target.partition.is_ok() {
                data.aborted_transactions = None;
            }
            data.records = Some(Vec::new().into());
            let leader_moved = matches!(
                refusal.code,
                ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
            );
            if leader_moved && ctx.version >= 16 {
                let id = target
                    .partition
                    .as_ref()
                    .map_or(key.id, |partition| partition.topic.id);
                let (leader, epoch) = ctx.broker.cluster().leader_of(id, &key.name, key.partition);
                data.current_leader.leader_id = leader.0;
                data.current_leader.leader_epoch = epoch.0;
            }
            let answered = Watermarks {
                high_watermark: -1,
                last_stable_offset: -1,
                log_start_offset: -1,
            };
            (data, answered, false)
        }
    }
}

fn of_read(mut data: PartitionData, read: ReadOutcome) -> (PartitionData, Watermarks, bool) {
    data.high_watermark = read.high_watermark;
    data.last_stable_offset = read.last_stable_offset;
    data.log_start_offset = read.log_start_offset;
    data.aborted_transactions = read.aborted.map(|aborted| {
        let one = |(producer_id, first_offset)| AbortedTransaction {
            producer_id,
            first_offset,
        };
        aborted.into_iter().map(one).collect()
    });
    let served = !read.batches.is_empty();
    data.records = Some(read.batches.into());
    let answered = Watermarks {
        high_watermark: data.high_watermark,
        last_stable_offset: data.last_stable_offset,
        log_start_offset: data.log_start_offset,
    };
    (data, answered, served)
}

/// The refusal of a partition. If this broker is cut off, records above its end may exist elsewhere, so the client is told
/// to look for the leader, and does not reset its position.
fn unless_cut_off(ctx: &RequestContext, target: &Target, refusal: Refusal) -> Refusal {
    let is_above = |partition: &Arc<Partition>| {
        let bounds = partition.log.bounds();
        target.wanted.offset > bounds.next
    };
    let may_exist = refusal.code == ErrorCode::OffsetOutOfRange
        && ctx.broker.is_cut_off()
        && target.partition.as_ref().is_ok_and(is_above);
    match may_exist {
        true => ErrorCode::NotLeaderOrFollower.into(),
        false => refusal,
    }
}
