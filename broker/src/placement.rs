//! Chooses the replicas of new partitions, and checks those that a client chose (pure). The first replica that serves
//! becomes the leader (E4); the others are only listed, because the log is in the object store. Source:
//! `StripedReplicaPlacer`, `ReplicationControlManager`, KIP-1066.

use std::collections::BTreeMap;

use highwater_kraft_meta::command::{Duty, Replicas};
use highwater_kraft_meta::{MetadataImage, NodeImage};
use highwater_protocol::ErrorCode;
use highwater_types::NodeId;

use crate::api::error::Refusal;

/// The replicas of some new partitions: as many registered brokers for each as `factor` says. Brokers that are cordoned or
/// drained get none. Partitions begin with the racks in turn and, in each rack, with its live brokers in turn, also over
/// several topics (Kafka begins each topic with a random broker). The replicas of a partition are in as many racks as
/// possible, and those of a rack are live ones first. Brokers without a rack are in one rack together.
///
/// # Errors
/// `INVALID_REPLICATION_FACTOR` if no such broker is live or fewer are registered.
pub(crate) fn place(
    image: &MetadataImage,
    partitions: usize,
    factor: i32,
) -> Result<Vec<Replicas>, Refusal> {
    let refuse = |why: String| Err(Refusal::new(ErrorCode::InvalidReplicationFactor, why));
    if factor <= 0 {
        return refuse(format!(
            "Invalid replication factor {factor}: the replication factor must be positive."
        ));
    }
    let mut racks: BTreeMap<&str, Rack> = BTreeMap::new();
    let usable = image.nodes().filter(|(_, node)| node.duty == Duty::Full);
    for (id, node) in usable {
        let rack = racks.entry(&node.rack).or_default();
        match node.is_live() {
            true => rack.live.push(id.0),
            false => rack.fenced.push(id.0),
        }
    }
    let racks: Vec<Rack> = racks.into_values().collect();
    if racks.iter().all(|rack| rack.live.is_empty()) {
        return refuse(
            "All brokers are currently fenced, or have all their log directories cordoned."
                .to_owned(),
        );
    }
    let usable: usize = racks.iter().map(Rack::len).sum();
    let count = usize::try_from(factor).unwrap_or(usize::MAX);
    if count > usable {
        return refuse(format!(
            "The target replication factor of {factor} cannot be reached because only {usable} broker(s) are registered \
             or some brokers have all their log directories cordoned."
        ));
    }
    let first = usize::try_from(image.next_stream().0).unwrap_or_default();
    let placed = (0..partitions).map(|partition| Replicas {
        nodes: replicas(&racks, first.wrapping_add(partition), count),
    });
    Ok(placed.collect())
}

/// The brokers of one rack that may get replicas.
#[derive(Debug, Default)]
struct Rack {
    live: Vec<i32>,
    fenced: Vec<i32>,
}

impl Rack {
    fn len(&self) -> usize {
        self.live.len().saturating_add(self.fenced.len())
    }

    /// All its brokers, live ones first, beginning with the one whose turn it is.
    fn in_turn(&self, turn: usize) -> impl Iterator<Item = i32> {
        in_turn(&self.live, turn).chain(in_turn(&self.fenced, turn))
    }
}

/// The replicas of one partition: of each rack one, in turn, until there are enough. Racks with a live broker come first.
fn replicas(racks: &[Rack], turn: usize, count: usize) -> Vec<i32> {
    let (live, fenced): (Vec<&Rack>, Vec<&Rack>) =
        racks.iter().partition(|rack| !rack.live.is_empty());
    // a rack leads once in as many turns as there are racks, and then by its next broker
    let in_rack = turn.checked_div(live.len()).unwrap_or_default();
    let ordered = in_turn(&live, turn).chain(in_turn(&fenced, turn));
    let mut queues: Vec<_> = ordered.map(|rack| rack.in_turn(in_rack)).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let before = chosen.len();
        chosen.extend(queues.iter_mut().filter_map(Iterator::next));
        if chosen.len() == before {
            break;
        }
    }
    chosen.truncate(count);
    chosen
}

/// All of these, beginning with the one whose turn it is.
fn in_turn<T: Copy>(all: &[T], turn: usize) -> impl Iterator<Item = T> {
    let from = turn.checked_rem(all.len()).unwrap_or_default();
    let (before, after) = all.split_at(from);
    after.iter().chain(before).copied()
}

/// Checks the replicas that a client chose for some partitions, by their indexes. Every partition has as many as `factor`,
/// or as the first one.
///
/// # Errors
/// `INVALID_REPLICA_ASSIGNMENT`.
pub(crate) fn check_assignments<'a>(
    image: &MetadataImage,
    assignments: impl Iterator<Item = (i32, &'a [i32])>,
    mut factor: Option<usize>,
) -> Result<(), Refusal> {
    for (partition, nodes) in assignments {
        check_assignment(image, nodes, factor)?;
        let mut ids = nodes.iter().map(|id| NodeId(*id));
        if !ids.any(|id| image.node(id).is_some_and(NodeImage::is_live)) {
            let why = format!(
                "All brokers specified in the manual partition assignment for partition {partition} are fenced or in \
                 controlled shutdown."
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, why));
        }
        factor = Some(nodes.len());
    }
    Ok(())
}

/// Checks the replicas that a client chose for one partition.
///
/// # Errors
/// `INVALID_REPLICA_ASSIGNMENT`.
pub(crate) fn check_assignment(
    image: &MetadataImage,
    nodes: &[i32],
    factor: Option<usize>,
) -> Result<(), Refusal> {
    wrong_with(image, nodes, factor).map_err(|why| {
        let why = format!("The manual partition assignment includes {why}.");
        Refusal::new(ErrorCode::InvalidReplicaAssignment, why)
    })
}

/// What is wrong with the replicas of one partition, in the order in which Kafka looks.
fn wrong_with(image: &MetadataImage, nodes: &[i32], factor: Option<usize>) -> Result<(), String> {
    if nodes.is_empty() {
        return Err("an empty replica list".to_owned());
    }
    let mut sorted = nodes.to_vec();
    sorted.sort_unstable();
    let mut before = None;
    for id in sorted {
        if image.node(NodeId(id)).is_none() {
            return Err(format!("broker {id}, but no such broker is registered"));
        }
        if before == Some(id) {
            return Err(format!("the broker {id} more than once"));
        }
        before = Some(id);
    }
    match factor {
        Some(factor) if factor != nodes.len() => Err(format!(
            "a partition with {} replica(s), but this is not consistent with previous partitions, which have {factor} \
             replica(s)",
            nodes.len()
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::ImageBuilder;

    /// Brokers with these ids.
    fn brokers(ids: &[i32]) -> ImageBuilder {
        let mut images = ImageBuilder::default();
        for id in ids {
            images.register(*id, &[("PLAINTEXT", "host", 9092)]);
        }
        images
    }

    fn placed(images: &ImageBuilder, partitions: usize, factor: i32) -> Vec<Vec<i32>> {
        let placed = place(&images.image(), partitions, factor).expect("is placed");
        placed.into_iter().map(|replicas| replicas.nodes).collect()
    }

    fn refused(images: &ImageBuilder, factor: i32) -> String {
        let refusal = place(&images.image(), 1, factor).expect_err("is refused");
        assert_eq!(refusal.code, ErrorCode::InvalidReplicationFactor);
        refusal.message.expect("is told")
    }

    #[test]
    fn partitions_are_spread_over_all_brokers() {
        let images = brokers(&[1, 2, 5]);
        assert_eq!(placed(&images, 4, 1), [[1], [2], [5], [1]]);
        assert_eq!(placed(&images, 2, 2), [[1, 2], [2, 5]]);
        assert_eq!(placed(&images, 3, 3), [[1, 2, 5], [2, 5, 1], [5, 1, 2]]);
    }

    #[test]
    fn topics_of_one_partition_are_not_all_led_by_one_broker() {
        let mut images = brokers(&[1, 2, 3]);
        for (name, leader) in [("a", 1), ("b", 2), ("c", 3), ("d", 1)] {
            let replicas = placed(&images, 1, 1);
            assert_eq!(replicas, [[leader]]);
            images.create(name, &[&replicas[0]]);
        }
    }

    #[test]
    fn live_brokers_lead_and_fenced_ones_only_fill_up() {
        let mut images = brokers(&[1, 2, 3, 4]);
        images.fence(1);
        images.fence(3);
        assert_eq!(placed(&images, 3, 1), [[2], [4], [2]]);
        assert_eq!(placed(&images, 2, 3), [[2, 4, 1], [4, 2, 3]]);
        images.restart(1);
        assert_eq!(placed(&images, 1, 3), [[1, 2, 4]]);
    }

    // KIP-36
    #[test]
    fn replicas_are_in_as_many_racks_as_possible_and_leaders_alternate_over_racks() {
        let mut images = ImageBuilder::default();
        for (rack, node) in [("a", 1), ("a", 2), ("b", 3), ("b", 4), ("c", 5)] {
            images.register_in(rack, node);
        }
        let all = placed(&images, 6, 3);
        assert_eq!(all[..3], [[1, 3, 5], [3, 5, 1], [5, 1, 3]]);
        assert_eq!(all[3..], [[2, 4, 5], [4, 5, 2], [5, 2, 4]]);
        assert_eq!(placed(&images, 1, 5), [[1, 3, 5, 2, 4]]);
        // a rack without a live broker comes last and leads nothing, and the others still alternate
        images.fence(5);
        let all = placed(&images, 4, 3);
        assert_eq!(all, [[1, 3, 5], [3, 1, 5], [2, 4, 5], [4, 2, 5]]);
        // of a rack the live ones come first
        images.fence(1);
        assert_eq!(placed(&images, 1, 2), [[2, 3]]);
        // brokers without a rack are together in one
        images.register(9, &[("PLAINTEXT", "host", 9092)]);
        images.register(8, &[("PLAINTEXT", "host", 9092)]);
        assert_eq!(placed(&images, 2, 3), [[8, 2, 3], [2, 3, 8]]);
    }

    // KIP-1066
    #[test]
    fn brokers_that_are_cordoned_or_drained_get_no_new_partitions() {
        let mut images = brokers(&[1, 2, 3]);
        images.set_duty(1, Duty::Cordoned);
        images.set_duty(3, Duty::Draining);
        assert_eq!(placed(&images, 2, 1), [[2], [2]]);
        assert!(refused(&images, 2).contains("only 1 broker(s) are registered or some"));
        images.set_duty(2, Duty::Cordoned);
        assert!(refused(&images, 1).starts_with("All brokers are currently fenced, or have all"));
        images.set_duty(3, Duty::Full);
        assert_eq!(placed(&images, 1, 1), [[3]]);
    }

    #[test]
    fn a_factor_that_cannot_be_met_is_refused_with_the_reason() {
        let mut images = brokers(&[1, 2]);
        images.fence(1);
        assert_eq!(placed(&images, 1, 2), [[2, 1]], "registered is enough");
        assert!(refused(&images, 3).contains("only 2 broker(s) are registered"));
        assert!(refused(&images, 0).contains("must be positive"));
        images.fence(2);
        let fenced =
            "All brokers are currently fenced, or have all their log directories cordoned.";
        assert_eq!(refused(&images, 1), fenced);
        assert_eq!(refused(&images, 3), fenced, "Kafka looks at that first");
    }

    #[test]
    fn a_chosen_assignment_needs_registered_brokers_of_which_one_is_live() {
        let mut images = brokers(&[1, 2, 3]);
        images.fence(2);
        images.fence(3);
        let check = |assignments: &[&[i32]], factor| {
            let indexed = (4..).zip(assignments.iter().copied());
            let checked = check_assignments(&images.image(), indexed, factor);
            checked.map_err(|refusal| {
                assert_eq!(refusal.code, ErrorCode::InvalidReplicaAssignment);
                refusal.message.expect("is told")
            })
        };
        assert_eq!(check(&[&[2, 1], &[1, 3]], None), Ok(()));
        for (assignments, factor, why) in [
            (
                &[&[1_i32] as &[i32], &[]][..],
                None,
                "an empty replica list.",
            ),
            (
                &[&[1, 9]],
                None,
                "broker 9, but no such broker is registered.",
            ),
            (&[&[1, 2, 1]], None, "the broker 1 more than once."),
            (
                &[&[1, 2], &[1]],
                None,
                "with 1 replica(s), but this is not consistent",
            ),
            (
                &[&[1, 2]],
                Some(1),
                "previous partitions, which have 1 replica(s).",
            ),
            (
                &[&[1, 2], &[3, 2]],
                None,
                "assignment for partition 5 are fenced or in controlled shutdown.",
            ),
        ] {
            let told = check(assignments, factor).expect_err(why);
            assert!(told.contains(why), "{told}");
        }
    }
}
