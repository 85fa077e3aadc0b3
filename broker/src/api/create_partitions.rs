//! CreatePartitions (key 37), versions 0..=3.
//! Source: schema/create_partitions_request.kmsg; KIP-195.
//! Behaviour: the request is answered when this node's image has the partitions with leaders (E4), and those that it leads
//! are open. If no broker serves within the request's timeout, the partitions exist without leaders.
//! Deviations from Apache Kafka: none.

use std::collections::BTreeSet;
use std::ops::Range;

use highwater_kraft_meta::command::{CreatePartitions as Command, Replicas};
use highwater_kraft_meta::{Action, TopicImage};
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use highwater_types::TopicId;
use highwater_types::limits::PARTITIONS_PER_TOPIC_MAX;
use tokio::time::Instant;

use super::context::RequestContext;
use super::error::Refusal;
use super::handler::{Handler, Reply, deadline_of};
use super::topic::{resolve_topic, wait_created};
use crate::auth::Operation;
use crate::placement;
use crate::topics::PARTITIONS_PER_REQUEST_MAX;

/// Serves CreatePartitions.
#[derive(Debug)]
pub(crate) struct CreatePartitions;

impl Handler for CreatePartitions {
    type Request = CreatePartitionsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=3;

    async fn handle(
        ctx: RequestContext,
        request: CreatePartitionsRequest,
    ) -> Reply<CreatePartitionsResponse> {
        let mut response = CreatePartitionsResponse::default();
        let names = request.topics.iter().map(|topic| topic.name.clone());
        let twice = super::alter_configs::twice(names);
        let mut told = BTreeSet::new();
        let deadline = deadline_of(request.timeout_ms);
        let mut grown = Vec::new();
        for topic in request.topics {
            ctx.give_way().await;
            let is_twice = twice.contains(&topic.name);
            if is_twice && !told.insert(topic.name.clone()) {
                continue;
            }
            let done = if is_twice {
                let why = "Duplicate topic name.";
                Err(Refusal::new(ErrorCode::InvalidRequest, why))
            } else {
                create(&ctx, &topic, request.validate_only, deadline).await
            };
            let refusal = done.map(|added| grown.extend(added)).err();
            response.results.push(CreatePartitionsTopicResult {
                name: topic.name,
                error_code: refusal.as_ref().map_or(0, |refusal| refusal.code.code()),
                error_message: refusal.and_then(|refusal| refusal.text()),
            });
        }
        wait_created(&ctx, grown, deadline).await;
        Reply::Ready(response)
    }
}

/// Adds partitions to a topic, unless that is only to be checked; returns their indexes.
async fn create(
    ctx: &RequestContext,
    asked: &CreatePartitionsTopic,
    validate_only: bool,
    deadline: Instant,
) -> Result<Option<(TopicId, Range<i32>)>, Refusal> {
    let found = resolve_topic(ctx, None, &asked.name, Operation::Alter);
    // As in Kafka, whose controller begins nothing after its deadline; authorization is checked before it counts.
    let is_allowed = matches!(found, Ok(_) | Err(ErrorCode::UnknownTopicOrPartition));
    if is_allowed && Instant::now() >= deadline {
        return Err(ErrorCode::RequestTimedOut.into());
    }
    let topic = found?;
    let existing = topic.partitions.len();
    let wanted = usize::try_from(asked.count).unwrap_or(0);
    if wanted <= existing || asked.count > PARTITIONS_PER_TOPIC_MAX {
        let why = if wanted == existing {
            format!("Topic already has {existing} partition(s).")
        } else if wanted < existing {
            format!(
                "The topic {} currently has {existing} partition(s); {} would not be an increase.",
                asked.name, asked.count
            )
        } else {
            format!("A topic has at most {PARTITIONS_PER_TOPIC_MAX} partitions.")
        };
        return Err(Refusal::new(ErrorCode::InvalidPartitions, why));
    }
    let count = wanted.saturating_sub(existing);
    if i32::try_from(count).is_ok_and(|count| count > PARTITIONS_PER_REQUEST_MAX) {
        let why = "Excessively large number of additional partitions per request.";
        return Err(Refusal::new(ErrorCode::PolicyViolation, why));
    }
    let added = added(ctx, asked, &topic, count)?;
    if validate_only {
        return Ok(None);
    }
    let command = Command {
        topic: topic.id.0.to_vec(),
        existing: u32::try_from(existing).unwrap_or(u32::MAX),
        added,
        is_chosen: asked.assignments.is_some(),
    };
    let change = Action::CreatePartitions(command);
    ctx.broker.change(change, deadline).await?;
    let partitions = asked.count;
    tracing::info!(topic = %topic.name, partitions, "partitions added");
    Ok(Some((topic.id, topic.partition_indexes().end..partitions)))
}

fn added(
    ctx: &RequestContext,
    asked: &CreatePartitionsTopic,
    topic: &TopicImage,
    count: usize,
) -> Result<Vec<Replicas>, Refusal> {
    let image = ctx.broker.metadata.image();
    // as many replicas as the topic's first partition has
    let replicas = topic.partitions.first();
    let factor = replicas.map_or(1, |partition| partition.replicas.len());
    let Some(assignments) = &asked.assignments else {
        let factor = i32::try_from(factor).unwrap_or(i32::MAX);
        return placement::place(&image, count, factor);
    };
    if assignments.len() != count {
        let why = format!(
            "Attempted to add {count} additional partition(s), but only {} assignment(s) were specified.",
            assignments.len()
        );
        return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, why));
    }
    let first = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let chosen = assignments.iter().map(|one| one.broker_ids.as_slice());
    placement::check_assignments(&image, (first..).zip(chosen), Some(factor))?;
    Ok(assignments
        .iter()
        .map(|one| Replicas {
            nodes: one.broker_ids.clone(),
        })
        .collect())
}
