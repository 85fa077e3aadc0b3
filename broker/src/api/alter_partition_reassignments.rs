//! AlterPartitionReassignments (key 45), versions 0..=1.
//! Source: schema/alter_partition_reassignments_request.kmsg; KIP-455, KIP-860;
//! `ReplicationControlManager.alterPartitionReassignments`.
//! Behaviour: a new list of replicas holds at once, because no data moves. If the leader is not in it, the first live broker
//! of the list is to lead (C1), and the reassignment is under way until the leader has handed the partition over. A list
//! without a live broker leaves the leader where it is. The balancer leaves the list alone (E4).
//! Deviations from Apache Kafka: none.

use highwater_kraft_meta::command::{PartitionMove, Replicas};
use highwater_kraft_meta::{MetadataImage, NodeImage, PartitionImage};
use highwater_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use highwater_protocol::{ErrorCode, StrBytes};
use highwater_types::NodeId;
use tokio::time::Instant;

use super::context::RequestContext;
use super::error::Refusal;
use super::handler::{Handler, Reply, deadline_of};
use crate::auth::{Operation, Resource};
use crate::placement;
use crate::reassignment::Reassignment;

/// Serves AlterPartitionReassignments.
#[derive(Debug)]
pub(crate) struct AlterPartitionReassignments;

/// How often a partition is looked at that others change at the same time.
const ATTEMPTS: usize = 2;

/// A partition of the request, with its answer once there is one.
struct Asked {
    topic: StrBytes,
    partition: ReassignablePartition,
    answer: Option<Result<(), Refusal>>,
}

impl Handler for AlterPartitionReassignments {
    type Request = AlterPartitionReassignmentsRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=1;

    async fn handle(
        ctx: RequestContext,
        request: AlterPartitionReassignmentsRequest,
    ) -> Reply<AlterPartitionReassignmentsResponse> {
        let is_allowed = ctx.authorize(Operation::Alter, Resource::Cluster);
        if is_allowed && request.topics.is_empty() {
            return Reply::Ready(AlterPartitionReassignmentsResponse::default());
        }
        let code = match is_allowed {
            true => ErrorCode::None,
            false => ErrorCode::ClusterAuthorizationFailed,
        };
        let mut response = AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: !is_allowed || request.allow_replication_factor_change,
            error_code: code.code(),
            error_message: None,
            ..Default::default()
        };
        let deadline = deadline_of(request.timeout_ms);
        let (mut names, mut asked) = (Vec::new(), Vec::new());
        for topic in request.topics {
            ctx.give_way().await;
            names.push((topic.name.clone(), topic.partitions.len()));
            asked.extend(topic.partitions.into_iter().map(|partition| Asked {
                topic: topic.name.clone(),
                partition,
                answer: (!is_allowed).then(|| Err(code.into())),
            }));
        }
        for _ in 0..ATTEMPTS {
            let may_change = request.allow_replication_factor_change;
            alter(&ctx, &mut asked, may_change, deadline).await;
        }
        let mut answers = asked.into_iter().map(answered);
        let topics = names.into_iter().map(|(name, partitions)| {
            let partitions = answers.by_ref().take(partitions).collect();
            ReassignableTopicResponse { name, partitions }
        });
        response.responses = topics.collect();
        Reply::Ready(response)
    }
}

/// Reassigns the partitions that have no answer yet. One that was changed since this node looked stays without an answer.
async fn alter(ctx: &RequestContext, asked: &mut [Asked], may_change: bool, deadline: Instant) {
    let image = ctx.broker.metadata.image();
    let (mut moves, mut moved) = (Vec::new(), Vec::new());
    for one in asked.iter_mut().filter(|one| one.answer.is_none()) {
        ctx.give_way().await;
        match decide(&image, &one.topic, &one.partition, may_change) {
            Ok(change) => {
                moves.push(change);
                moved.push(one);
            }
            Err(refusal) => one.answer = Some(Err(refusal)),
        }
    }
    if moves.is_empty() {
        return;
    }
    let answers = ctx.broker.move_partitions(&moves, deadline).await;
    let partitions = answers.iter().flatten().filter(|one| one.is_ok()).count();
    let asked = moves.len();
    tracing::info!(partitions, asked, "partitions reassigned by a client");
    for (one, answer) in moved.into_iter().zip(answers) {
        one.answer = answer;
    }
}

fn answered(asked: Asked) -> ReassignablePartitionResponse {
    let changed = || {
        let why = "The partition is being changed concurrently; try again.";
        Err(Refusal::new(ErrorCode::RequestTimedOut, why))
    };
    let refusal = asked.answer.unwrap_or_else(changed).err();
    ReassignablePartitionResponse {
        partition_index: asked.partition.partition_index,
        error_code: refusal.as_ref().map_or(0, |refusal| refusal.code.code()),
        error_message: refusal.and_then(|refusal| refusal.text()),
    }
}

/// The change of a partition that a client asks for.
fn decide(
    image: &MetadataImage,
    topic: &str,
    asked: &ReassignablePartition,
    may_change_factor: bool,
) -> Result<PartitionMove, Refusal> {
    let index = asked.partition_index;
    let unknown = |why| Refusal::new(ErrorCode::UnknownTopicOrPartition, why);
    let found = image.topic(topic);
    let found = found.ok_or_else(|| unknown(format!("Unable to find a topic named {topic}.")))?;
    let partition = found.partition(index);
    let partition =
        partition.ok_or_else(|| unknown(format!("Unable to find partition {topic}:{index}.")))?;
    match &asked.replicas {
        None => cancel(partition),
        Some(replicas) => change(image, partition, replicas, may_change_factor),
    }
}

/// Gives a partition its former list back; the leader goes on.
fn cancel(partition: &PartitionImage) -> Result<PartitionMove, Refusal> {
    let is_under_way = Reassignment::of(partition).is_some();
    let moving = partition.moving.as_ref().filter(|_| is_under_way);
    let before = moving.and_then(|moving| moving.before.as_ref());
    let before = before.ok_or(ErrorCode::NoReassignmentInProgress)?;
    let nodes = before.iter().map(|node| node.0).collect();
    Ok(reassigned(partition, nodes, None))
}

fn change(
    image: &MetadataImage,
    partition: &PartitionImage,
    replicas: &[i32],
    may_change_factor: bool,
) -> Result<PartitionMove, Refusal> {
    placement::check_assignment(image, replicas, None)?;
    let (now, then) = (partition.replicas.len(), replicas.len());
    if !may_change_factor && now != then {
        let why = format!("The replication factor is changed from {now} to {then}");
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, why));
    }
    let leader = partition.leader.map(|(node, _)| node.0);
    let stays = leader.is_some_and(|leader| replicas.contains(&leader));
    // one that is cordoned or drained would not keep it
    let may_lead = NodeImage::may_lead;
    let mut nodes = replicas.iter().copied();
    let to = nodes.find(|id| image.node(NodeId(*id)).is_some_and(may_lead));
    Ok(reassigned(
        partition,
        replicas.to_vec(),
        to.filter(|_| !stays),
    ))
}

fn reassigned(partition: &PartitionImage, nodes: Vec<i32>, to: Option<i32>) -> PartitionMove {
    PartitionMove {
        replicas: Some(Replicas { nodes }),
        by_operator: true,
        to,
        ..PartitionMove::of(partition)
    }
}

#[cfg(test)]
mod tests {
    use highwater_kraft_meta::command::Duty;

    use super::*;
    use crate::fixture::ImageBuilder;

    fn four() -> ImageBuilder {
        let mut images = ImageBuilder::default();
        for node in 1..=4 {
            images.register(node, &[("PLAINTEXT", "host", 9092)]);
        }
        images.create("t", &[&[1, 2, 3]]);
        images
    }

    fn decided(
        images: &ImageBuilder,
        replicas: Option<&[i32]>,
    ) -> Result<(Vec<i32>, Option<i32>), Refusal> {
        let asked = ReassignablePartition {
            partition_index: 0,
            replicas: replicas.map(<[i32]>::to_vec),
        };
        let decided = decide(&images.image(), "t", &asked, true)?;
        assert!(decided.by_operator);
        let replicas = decided.replicas.expect("are named");
        Ok((replicas.nodes, decided.to))
    }

    /// Carries a change out.
    fn reassign(images: &mut ImageBuilder, replicas: Option<&[i32]>) {
        let asked = ReassignablePartition {
            partition_index: 0,
            replicas: replicas.map(<[i32]>::to_vec),
        };
        let decided = decide(&images.image(), "t", &asked, true).expect("is sound");
        images.move_partition(decided);
    }

    fn list(images: &ImageBuilder) -> Vec<i32> {
        let topic = images.topic("t");
        let replicas = topic.partitions[0].replicas.iter();
        replicas.map(|node| node.0).collect()
    }

    #[test]
    fn the_leader_stays_if_it_is_in_the_list_and_else_the_first_live_one_follows() {
        let mut images = four();
        let keeps = decided(&images, Some(&[4, 1]));
        assert_eq!(keeps, Ok((vec![4, 1], None)));
        let leaves = decided(&images, Some(&[3, 4]));
        assert_eq!(leaves, Ok((vec![3, 4], Some(3))));
        images.fence(3);
        let leaves = decided(&images, Some(&[3, 4]));
        assert_eq!(leaves, Ok((vec![3, 4], Some(4))));
        images.set_duty(4, Duty::Cordoned);
        let none = decided(&images, Some(&[3, 4]));
        assert_eq!(none, Ok((vec![3, 4], None)), "nobody there may lead");
    }

    #[test]
    fn a_cancelled_reassignment_gives_the_former_list_back() {
        let mut images = four();
        let none = Err(ErrorCode::NoReassignmentInProgress.into());
        assert_eq!(decided(&images, None), none);
        reassign(&mut images, Some(&[3, 4]));
        assert_eq!(list(&images), [3, 4]);
        reassign(&mut images, Some(&[4, 2]));
        assert_eq!(decided(&images, None), Ok((vec![1, 2, 3], None)));
        reassign(&mut images, None);
        assert_eq!(list(&images), [1, 2, 3]);
        assert_eq!(images.topic("t").partitions[0].moving, None);
        assert_eq!(decided(&images, None), none);
        // a reassignment that is over at once can't be cancelled
        reassign(&mut images, Some(&[2, 1]));
        assert_eq!(decided(&images, None), none);
    }

    // KIP-860
    #[test]
    fn what_kafka_refuses_is_refused() {
        let images = four();
        let code = |topic, index, replicas: &[i32], may_change| {
            let asked = ReassignablePartition {
                partition_index: index,
                replicas: Some(replicas.to_vec()),
            };
            let decided = decide(&images.image(), topic, &asked, may_change);
            decided.err().map(|refusal| refusal.code)
        };
        let unknown = Some(ErrorCode::UnknownTopicOrPartition);
        assert_eq!(code("u", 0, &[1], true), unknown);
        assert_eq!(code("t", 1, &[1], true), unknown);
        assert_eq!(code("t", -1, &[1], true), unknown);
        let invalid = Some(ErrorCode::InvalidReplicaAssignment);
        for wrong in [&[][..], &[1, 1], &[9], &[-1]] {
            assert_eq!(code("t", 0, wrong, true), invalid);
        }
        let factor = Some(ErrorCode::InvalidReplicationFactor);
        assert_eq!(code("t", 0, &[1, 2], false), factor);
        assert_eq!(code("t", 0, &[1, 2], true), None);
        assert_eq!(code("t", 0, &[1, 2, 4], false), None);
    }
}
