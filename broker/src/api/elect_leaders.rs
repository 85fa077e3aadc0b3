//! ElectLeaders (key 43), versions 0..=2.
//! Source: schema/elect_leaders_request.kmsg; KIP-183, KIP-460; `ReplicationControlManager.electLeaders`.
//! Behaviour: a preferred leader that lives and is neither cordoned nor drained gets its partition from the present leader
//! (C1), and the request is answered once this node's image says that it leads.
//! Deviations from Apache Kafka: there is no unclean election, because a new leader has all that was acknowledged. The answer
//! waits for the leaders at most 30 s, and then tells REQUEST_TIMED_OUT; Kafka does not wait.

use std::time::Duration;

use highwater_kraft_meta::command::PartitionMove;
use highwater_kraft_meta::{MetadataImage, NodeImage, PartitionImage};
use highwater_protocol::messages::elect_leaders_response::{
    PartitionResult, ReplicaElectionResult,
};
use highwater_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use highwater_protocol::{ErrorCode, StrBytes};
use tokio::time::{Instant, sleep, timeout_at};

use super::context::RequestContext;
use super::error::Refusal;
use super::handler::{Handler, Reply, deadline_of, unknown_size};
use crate::auth::{Operation, Resource};

/// Serves ElectLeaders.
#[derive(Debug)]
pub(crate) struct ElectLeaders;

/// How long an answer waits, at most.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The wait before another look: moves end in groups, and each of them changes the image.
const LOOK: Duration = Duration::from_millis(20);
/// How often a move is asked for: another change of the partition may undo the first one.
const ATTEMPTS: u8 = 2;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// The election of one partition.
#[derive(Debug)]
struct Election {
    topic: StrBytes,
    index: i32,
    /// How often a move was asked for.
    asked: u8,
    result: Option<Result<(), Refusal>>,
}

/// What an election of a preferred leader needs next.
#[derive(Debug, PartialEq)]
enum Step {
    End(Result<(), Refusal>),
    Ask(PartitionMove),
    Wait,
}

impl Handler for ElectLeaders {
    type Request = ElectLeadersRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=2;

    fn answer_bytes(ctx: &RequestContext, request: &Self::Request, _elements: usize) -> u64 {
        match request.topic_partitions {
            // the answer may name every partition
            None => unknown_size(ctx),
            Some(_) => 0,
        }
    }

    async fn handle(
        ctx: RequestContext,
        request: ElectLeadersRequest,
    ) -> Reply<ElectLeadersResponse> {
        let is_allowed = ctx.authorize(Operation::Alter, Resource::Cluster);
        let code = match request.election_type {
            _ if !is_allowed => ErrorCode::ClusterAuthorizationFailed,
            PREFERRED | UNCLEAN => ErrorCode::None,
            _ if request.topic_partitions.as_ref().is_some_and(Vec::is_empty) => ErrorCode::None,
            _ => ErrorCode::InvalidRequest,
        };
        let is_preferred = request.election_type == PREFERRED;
        let unknown_type = format!("Unknown election type {}", request.election_type);
        let deadline = deadline_of(request.timeout_ms).min(Instant::now() + WAIT_MAX);
        let is_for_all = request.topic_partitions.is_none();
        let (names, mut elections) = match code {
            ErrorCode::None => asked(&ctx, request).await,
            _ => {
                let (names, mut elections) = named(request);
                let message = (code == ErrorCode::InvalidRequest).then_some(unknown_type);
                for election in &mut elections {
                    election.result = Some(Err(Refusal {
                        message: message.clone(),
                        ..code.into()
                    }));
                }
                (names, elections)
            }
        };
        for election in elections.iter_mut().filter(|one| one.result.is_none()) {
            ctx.give_way().await;
            let image = ctx.broker.metadata.image();
            election.result = begin(&image, election, is_preferred).err().map(Err);
        }
        elect(&ctx, &mut elections, deadline).await;
        let mut results = elections.into_iter();
        let topics = names.into_iter().map(|(topic, partitions)| {
            let results = results.by_ref().take(partitions).map(told);
            // as in Kafka, a request for all is not told of those that are led as they should be
            let not_needed = ErrorCode::ElectionNotNeeded.code();
            let results = results.filter(|one| !is_for_all || one.error_code != not_needed);
            ReplicaElectionResult {
                topic,
                partition_result: results.collect(),
            }
        });
        Reply::Ready(ElectLeadersResponse {
            error_code: code.code(),
            replica_election_results: topics.collect(),
            ..Default::default()
        })
    }
}

/// Topics with the number of their partitions in the request, and these partitions.
type Partitions = (Vec<(StrBytes, usize)>, Vec<Election>);

/// The partitions that a request is for; all that exist if it names none.
async fn asked(ctx: &RequestContext, request: ElectLeadersRequest) -> Partitions {
    if request.topic_partitions.is_some() {
        return named(request);
    }
    let image = ctx.broker.metadata.image();
    let (mut names, mut elections) = (Vec::new(), Vec::new());
    for topic in image.topics() {
        ctx.give_way().await;
        let name = StrBytes::from(&*topic.name);
        names.push((name.clone(), topic.partitions.len()));
        let all = topic.partition_indexes();
        elections.extend(all.map(|index| Election::new(name.clone(), index)));
    }
    (names, elections)
}

fn named(request: ElectLeadersRequest) -> Partitions {
    let (mut names, mut elections) = (Vec::new(), Vec::new());
    for topic in request.topic_partitions.into_iter().flatten() {
        names.push((topic.topic.clone(), topic.partitions.len()));
        let indexes = topic.partitions.into_iter();
        elections.extend(indexes.map(|index| Election::new(topic.topic.clone(), index)));
    }
    (names, elections)
}

fn told(election: Election) -> PartitionResult {
    let late = || Err(ErrorCode::RequestTimedOut.into());
    let refusal = election.result.unwrap_or_else(late).err();
    PartitionResult {
        partition_id: election.index,
        error_code: refusal.as_ref().map_or(0, |refusal| refusal.code.code()),
        error_message: refusal.and_then(|refusal| refusal.text()),
    }
}

impl Election {
    fn new(topic: StrBytes, index: i32) -> Self {
        Self {
            topic,
            index,
            asked: 0,
            result: None,
        }
    }
}

/// Waits until all elections that have no result have one, at most until the deadline.
async fn elect(ctx: &RequestContext, elections: &mut [Election], deadline: Instant) {
    let mut images = ctx.broker.metadata.watch();
    loop {
        let image = images.borrow_and_update().clone();
        let (mut moves, mut moved) = (Vec::new(), Vec::new());
        let mut is_waiting = false;
        for election in elections.iter_mut().filter(|one| one.result.is_none()) {
            ctx.give_way().await;
            match next(&image, election) {
                Step::End(result) => election.result = Some(result),
                Step::Wait => is_waiting = true,
                Step::Ask(change) => {
                    is_waiting = true;
                    election.asked = election.asked.saturating_add(1);
                    moves.push(change);
                    moved.push(election);
                }
            }
        }
        if !is_waiting {
            return;
        }
        if moves.is_empty() {
            let changed = timeout_at(deadline, images.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return;
            }
            sleep(LOOK).await;
            continue;
        }
        let answers = ctx.broker.move_partitions(&moves, deadline).await;
        for (election, answer) in moved.into_iter().zip(answers) {
            election.result = answer.and_then(Result::err).map(Err);
        }
    }
}

/// Whether there is anything to elect, in the order in which Kafka looks.
fn begin(image: &MetadataImage, election: &Election, is_preferred: bool) -> Result<(), Refusal> {
    let partition = find(image, election)?;
    let leader = image.live_leader(partition).map(|(id, _)| id);
    let is_led = match is_preferred {
        true => leader.is_some() && leader == partition.replicas.first().copied(),
        false => leader.is_some(),
    };
    match is_led {
        true => Err(refusal(
            ErrorCode::ElectionNotNeeded,
            "Leader election not needed for topic partition.",
        )),
        false if is_preferred => Ok(()),
        false => Err(refusal(
            ErrorCode::EligibleLeadersNotAvailable,
            "Eligible topic partition leaders are not available.",
        )),
    }
}

/// The next step to the preferred leader.
fn next(image: &MetadataImage, election: &Election) -> Step {
    let partition = match find(image, election) {
        Ok(partition) => partition,
        Err(refusal) => return Step::End(Err(refusal)),
    };
    let not_available = refusal(
        ErrorCode::PreferredLeaderNotAvailable,
        "The preferred leader was not available.",
    );
    let Some(preferred) = partition.replicas.first().copied() else {
        return Step::End(Err(not_available));
    };
    let leader = image.live_leader(partition).map(|(id, _)| id);
    if leader == Some(preferred) {
        return Step::End(Ok(()));
    }
    if !image.node(preferred).is_some_and(NodeImage::may_lead) {
        return Step::End(Err(not_available));
    }
    let is_moving = partition.moving.as_ref().map(|moving| moving.to) == Some(preferred);
    match leader {
        Some(_) if is_moving => Step::Wait,
        // the move was cancelled, because that broker stops
        Some(_) if election.asked >= ATTEMPTS => Step::End(Err(not_available)),
        Some(_) => Step::Ask(PartitionMove {
            to: Some(preferred.0),
            ..PartitionMove::of(partition)
        }),
        // it gets a leader from the active controller first (E4)
        None => Step::Wait,
    }
}

fn refusal(code: ErrorCode, why: &str) -> Refusal {
    Refusal::new(code, why)
}

fn find<'a>(image: &'a MetadataImage, election: &Election) -> Result<&'a PartitionImage, Refusal> {
    let (name, index) = (&*election.topic, election.index);
    let unknown = |why: String| Refusal::new(ErrorCode::UnknownTopicOrPartition, why);
    let topic = image.topic(name);
    let topic = topic.ok_or_else(|| unknown(format!("No such topic as {name}")))?;
    let partition = topic.partition(index);
    partition.ok_or_else(|| unknown(format!("No such partition as {name}-{index}")))
}

#[cfg(test)]
mod tests {
    use highwater_kraft_meta::command::Duty;

    use super::*;
    use crate::fixture::ImageBuilder;

    fn code(result: Result<(), Refusal>) -> Option<ErrorCode> {
        result.err().map(|refusal| refusal.code)
    }

    fn begun(images: &ImageBuilder, index: i32, is_preferred: bool) -> Option<ErrorCode> {
        let election = Election::new("t".into(), index);
        code(begin(&images.image(), &election, is_preferred))
    }

    fn stepped(images: &ImageBuilder, asked: u8) -> Step {
        let mut election = Election::new("t".into(), 0);
        election.asked = asked;
        next(&images.image(), &election)
    }

    /// Two brokers and a partition, of which the second one leads and the first one should.
    fn two() -> ImageBuilder {
        let mut images = ImageBuilder::default();
        for node in [1, 2] {
            images.register(node, &[("PLAINTEXT", "host", 9092)]);
        }
        images.fence(1);
        images.create("t", &[&[1, 2]]);
        images.restart(1);
        images
    }

    #[test]
    fn an_election_begins_only_where_kafka_begins_one() {
        let mut images = two();
        assert_eq!(begun(&images, 0, true), None);
        let not_needed = Some(ErrorCode::ElectionNotNeeded);
        assert_eq!(begun(&images, 0, false), not_needed, "a leader lives");
        let unknown = Some(ErrorCode::UnknownTopicOrPartition);
        assert_eq!(begun(&images, 1, true), unknown);
        assert_eq!(begun(&images, -1, true), unknown);
        images.fence(2);
        let none = Some(ErrorCode::EligibleLeadersNotAvailable);
        assert_eq!(begun(&images, 0, false), none);
        images.create("u", &[&[1]]);
        let election = Election::new("u".into(), 0);
        let led = code(begin(&images.image(), &election, true));
        assert_eq!(led, not_needed);
    }

    #[test]
    fn a_preferred_leader_that_lives_is_asked_for_and_waited_for() {
        let mut images = two();
        let Step::Ask(change) = stepped(&images, 0) else {
            panic!("is not asked for");
        };
        assert_eq!((change.to, change.replicas.clone()), (Some(1), None));
        images.move_partition(change);
        assert_eq!(stepped(&images, 1), Step::Wait);
        images.restart(2);
        images.lead(1, "t", 0);
        assert_eq!(stepped(&images, 1), Step::End(Ok(())));
    }

    #[test]
    fn a_preferred_leader_that_may_not_lead_is_not_available() {
        let not_available = Some(ErrorCode::PreferredLeaderNotAvailable);
        let ended = |images: &ImageBuilder, asked| match stepped(images, asked) {
            Step::End(result) => code(result),
            other => panic!("{other:?}"),
        };
        let mut images = two();
        assert_eq!(ended(&images, ATTEMPTS), not_available, "it was cancelled");
        images.set_duty(1, Duty::Cordoned);
        assert_eq!(ended(&images, 0), not_available);
        images.set_duty(1, Duty::Full);
        images.fence(1);
        assert_eq!(ended(&images, 0), not_available);
    }

    // E4: the assigner gives it away first
    #[test]
    fn a_partition_without_a_leader_is_waited_for() {
        let mut images = two();
        images.fence(2);
        assert_eq!(stepped(&images, 0), Step::Wait);
    }
}
