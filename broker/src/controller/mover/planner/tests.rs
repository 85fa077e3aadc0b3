use highwater_kraft_meta::{HEAVIEST_MAX, Load, Standing, StreamLoad, Told};

use super::*;
use crate::fixture::ImageBuilder;

const SESSION: Duration = Duration::from_secs(3);
const BALANCE: Balance = Balance {
    is_on: true,
    interval: Duration::from_secs(5),
    percentage: 10,
};

/// A cluster, its planner, and the clock.
struct World {
    images: ImageBuilder,
    planner: Planner,
    now: Instant,
    standings: BTreeMap<i32, Standing>,
    /// What each stream weighs, in MiB per second.
    weights: BTreeMap<u64, u64>,
    /// How long ago the loads were told.
    age: Duration,
    /// The brokers that don't tell their load.
    silent: BTreeSet<i32>,
}

impl World {
    /// So many live brokers, which have served for long.
    fn new(brokers: i32) -> Self {
        let mut images = ImageBuilder::default();
        for node in 1..=brokers {
            images.register(node, &[("PLAINTEXT", "host", 9092)]);
        }
        let now = Instant::now();
        let mut world = Self {
            images,
            planner: Planner::new(BALANCE, now + SESSION),
            now,
            standings: BTreeMap::new(),
            weights: BTreeMap::new(),
            silent: BTreeSet::new(),
            age: Duration::ZERO,
        };
        assert!(world.moves().is_empty(), "there are no partitions");
        world.now += PROBATION;
        world
    }

    fn plan(&mut self) -> Vec<PartitionMove> {
        let image = self.images.image();
        let told = |node: NodeId| Told {
            standing: *self.standings.get(&node.0).unwrap_or(&Standing::Serving),
            load: (!self.silent.contains(&node.0)).then(|| Arc::new(self.load(&image, node))),
            store: None,
        };
        let told = image.live().map(|(node, epoch)| (epoch, told(node)));
        let heard = Heard::told_at(self.now - self.age, told);
        self.planner.plan(&image, &heard, self.now)
    }

    fn load(&self, image: &MetadataImage, node: NodeId) -> Load {
        let leads = |one: &PartitionImage| one.leader.is_some_and(|(leader, _)| leader == node);
        let weight = |stream: u64| self.weights.get(&stream).copied().unwrap_or(0) << 20;
        let led = partitions(image).filter(|(_, one)| leads(one));
        let load = led.map(|(_, one)| StreamLoad {
            stream: one.stream.0,
            weight: weight(one.stream.0),
        });
        let mut heaviest: Vec<_> = load.filter(|one| one.weight > 0).collect();
        let total = heaviest.iter().map(|one| one.weight).sum();
        heaviest.truncate(HEAVIEST_MAX);
        Load { total, heaviest }
    }

    /// What each broker's partitions weigh, in MiB per second.
    fn weighed(&self) -> BTreeMap<i32, u64> {
        let image = self.images.image();
        let nodes = image.live().map(|(node, _)| node);
        nodes
            .map(|node| (node.0, self.load(&image, node).total >> 20))
            .collect()
    }

    /// Lets leaders tell what they lead by the time when the load may be spread again.
    fn wait(&mut self) {
        self.now += BALANCE.interval * MEAN_OVER;
    }

    /// The moves that are planned: stream and target, -1 for a cancellation. They are not carried out.
    fn moves(&mut self) -> Vec<(u64, i32)> {
        let moves = self.plan().into_iter();
        moves
            .map(|one| (one.stream, one.to.unwrap_or(-1)))
            .collect()
    }

    /// Plans, asks for the moves, and lets the leaders carry them out, until nothing is planned any more.
    fn settle(&mut self) {
        for _ in 0..100 {
            self.now += BALANCE.interval;
            let moves = self.plan();
            if moves.is_empty() {
                return;
            }
            self.images.carry_out(moves);
        }
        panic!("it never settles");
    }

    /// How many partitions each broker leads.
    fn led(&self) -> BTreeMap<i32, usize> {
        let image = self.images.image();
        let mut led = BTreeMap::new();
        for (_, partition) in partitions(&image) {
            *led.entry(partition.leader.map_or(-1, |(node, _)| node.0))
                .or_default() += 1;
        }
        led
    }

    fn replicas(&self) -> Vec<Vec<i32>> {
        let image = self.images.image();
        let ids = |one: &PartitionImage| one.replicas.iter().map(|id| id.0).collect();
        partitions(&image).map(|(_, one)| ids(one)).collect()
    }
}

#[test]
fn what_a_broker_that_stops_leads_goes_to_its_replicas_else_to_the_one_that_leads_least() {
    let mut world = World::new(3);
    world
        .images
        .create("t", &[&[2, 3], &[2, 1], &[2], &[2], &[1]]);
    world.standings.insert(2, Standing::Leaving);
    // the last two have no replica that serves
    assert_eq!(world.moves(), [(0, 3), (1, 1), (2, 3), (3, 1)]);
    world.settle();
    assert_eq!(world.led(), BTreeMap::from([(1, 3), (3, 2)]));
    assert_eq!(world.replicas()[2], [2], "it may be back soon");
}

#[test]
fn nothing_moves_from_the_last_broker() {
    let mut world = World::new(1);
    world.images.create("t", &[&[1], &[1]]);
    world.standings.insert(1, Standing::Leaving);
    assert_eq!(world.moves(), []);
}

#[test]
fn a_drained_broker_is_left_and_a_cordoned_one_keeps_what_it_leads_and_gets_nothing() {
    let mut world = World::new(3);
    world
        .images
        .create("t", &[&[1], &[1], &[1], &[1], &[2], &[3]]);
    world.images.set_duty(3, Duty::Draining);
    world.images.set_duty(2, Duty::Cordoned);
    world.settle();
    assert_eq!(world.led(), BTreeMap::from([(1, 5), (2, 1)]));
    world.images.set_duty(2, Duty::Full);
    world.images.set_duty(3, Duty::Full);
    world.now += PROBATION;
    world.settle();
    // the first look at a broker that may serve again begins its probation
    world.now += PROBATION;
    world.settle();
    assert_eq!(world.led(), BTreeMap::from([(1, 2), (2, 2), (3, 2)]));
}

#[test]
fn a_new_broker_gets_its_share_once_it_has_served_for_a_while() {
    let mut world = World::new(2);
    world
        .images
        .create("t", &[&[1, 2], &[2, 1], &[1, 2], &[2, 1], &[1, 2], &[2, 1]]);
    assert_eq!(world.moves(), []);
    world.images.register(3, &[("PLAINTEXT", "host", 9092)]);
    assert_eq!(world.moves(), [], "it may die at once");
    world.now += PROBATION;
    assert_eq!(world.moves().len(), 2);
    world.settle();
    assert_eq!(world.led(), BTreeMap::from([(1, 2), (2, 2), (3, 2)]));
    let replicas = world.replicas();
    let preferred = replicas.iter().filter(|one| one[0] == 3).count();
    assert_eq!(preferred, 2, "{replicas:?}");
    assert!(replicas.iter().all(|one| one.len() == 2), "{replicas:?}");
}

#[test]
fn what_is_spread_well_enough_stays() {
    let mut world = World::new(2);
    world.images.create("t", &[[1].as_slice(); 11]);
    world.images.create("u", &[[2].as_slice(); 9]);
    assert_eq!(world.moves(), [], "11 is no more than a tenth above 10");
    world.images.create("v", &[[1].as_slice(); 2]);
    world.now += BALANCE.interval;
    assert_eq!(world.moves().len(), 2);
}

#[test]
fn a_topic_is_spread_and_partitions_go_home_first() {
    let mut world = World::new(2);
    world.images.create("t", &[[1].as_slice(); 4]);
    world.images.create("u", &[&[1]]);
    world.images.create("v", &[&[2]]);
    assert_eq!(world.moves().len(), 2);
    let of_t = |moves: Vec<(u64, i32)>| moves.iter().filter(|(stream, _)| *stream < 4).count();
    world.now += BALANCE.interval;
    assert_eq!(of_t(world.moves()), 2);
    // u's first replica is the other broker
    let mut world = World::new(2);
    world.images.create("t", &[[1].as_slice(); 4]);
    world.images.add("u", &[&[2, 1]]);
    world.images.lead(1, "u", 0);
    let moves = world.moves();
    assert_eq!((moves[0], moves.len()), ((4, 2), 2));
}

// DESIGN 6
#[test]
fn replicas_that_an_operator_chose_stay_and_their_first_one_leads() {
    let mut world = World::new(2);
    world.images.create("t", &[[1].as_slice(); 4]);
    world.images.choose("t");
    assert_eq!(world.moves(), []);
    let mut world = World::new(2);
    world.images.add("t", &[&[2, 1]]);
    world.images.lead(1, "t", 0);
    world.images.choose("t");
    assert_eq!(world.moves(), [(0, 2)]);
    world.settle();
    assert_eq!(world.replicas(), [[2, 1]]);
}

#[test]
fn a_move_to_a_broker_that_has_died_is_cancelled_and_one_from_a_broker_that_stops_goes_elsewhere() {
    let mut world = World::new(3);
    world.images.create("t", &[&[1], &[1]]);
    let moves = |world: &World| {
        let image = world.images.image();
        let all = partitions(&image).map(|(_, one)| of(one, Some(NodeId(3)), None));
        all.collect::<Vec<_>>()
    };
    let asked = moves(&world);
    world.images.ask(asked);
    assert_eq!(world.moves(), [], "they are under way");
    world.images.fence(3);
    assert_eq!(world.moves(), [(0, -1), (1, -1)]);
    world.standings.insert(1, Standing::Leaving);
    assert_eq!(world.moves(), [(0, 2), (1, 2)]);
}

#[test]
fn a_thousand_moves_come_in_parts() {
    let mut world = World::new(2);
    world.images.create("t", &[[2].as_slice(); 1200]);
    world.standings.insert(2, Standing::Leaving);
    let first = world.plan();
    assert_eq!(first.len(), UNDER_WAY_MAX);
    world.images.ask(first);
    assert_eq!(world.moves(), [], "none has ended");
    world.settle();
    world.images.end_moves();
    world.settle();
    assert_eq!(world.led(), BTreeMap::from([(1, 1200)]));
}

// A controller that has just started has heard nobody.
#[test]
fn nothing_moves_before_the_live_brokers_are_heard() {
    let mut world = World::new(2);
    world.images.create("t", &[[1].as_slice(); 4]);
    let image = world.images.image();
    world.planner = Planner::new(BALANCE, world.now + SESSION);
    let none = Heard::default();
    assert!(world.planner.plan(&image, &none, world.now).is_empty());
    assert_eq!(world.moves().len(), 2);
}

#[test]
fn replicas_keep_to_their_racks() {
    let mut images = ImageBuilder::default();
    for (node, rack) in [(1, "a"), (2, "b"), (3, "a"), (4, "b")] {
        images.register_in(rack, node);
    }
    images.create("t", &[&[1, 2]]);
    let image = images.image();
    let partition = &image.topic("t").expect("is there").partitions[0];
    let moved = |to| replaced(&image, partition, NodeId(1), NodeId(to));
    let ids = |ids: [i32; 2]| ids.map(NodeId).to_vec();
    assert_eq!(moved(3), ids([3, 2]));
    assert_eq!(moved(4), ids([4, 1]), "the one in its rack goes");
    assert_eq!(moved(2), ids([2, 1]));
}

// The leader is on a disk WAL: its epoch is not closed until it is back.
#[test]
fn moves_whose_leader_is_gone_hold_up_nothing() {
    let mut world = World::new(3);
    world.images.create("t", &[[3].as_slice(); 600]);
    world.standings.insert(3, Standing::Leaving);
    let asked = world.plan();
    world.images.ask(asked);
    world.images.fence(3);
    let off = world.plan();
    assert!(off.iter().all(|one| one.to.is_none()) && off.len() == UNDER_WAY_MAX);
    world.images.ask(off);
    world.images.create("u", &[[1].as_slice(); 4]);
    world.standings.insert(1, Standing::Leaving);
    let moves = world.moves();
    assert_eq!(moves.iter().filter(|(_, to)| *to == 2).count(), 4);
}

// A broker that restarts gets its own back, and no others are moved about meanwhile.
#[test]
fn a_restart_is_not_followed_by_other_moves() {
    let mut world = World::new(3);
    world.images.create("t", &[[1].as_slice(); 4]);
    world.images.create("u", &[[2].as_slice(); 4]);
    world.images.create("v", &[[3].as_slice(); 4]);
    world.settle();
    world.standings.insert(3, Standing::Leaving);
    let moves = world.plan();
    world.images.carry_out(moves);
    world.images.fence(3);
    world.now += BALANCE.interval;
    assert_eq!(world.moves(), []);
    world.images.restart(3);
    world.standings.remove(&3);
    world.now += BALANCE.interval;
    assert_eq!(world.moves(), [], "it has just begun to serve");
    world.now += 2 * PROBATION;
    let back = world.moves();
    assert_eq!(
        back.iter()
            .map(|(stream, to)| (*stream / 4, *to))
            .collect::<Vec<_>>(),
        [(2, 3); 4]
    );
}

/// Three brokers that lead four partitions each, of which each weighs so much.
fn loaded(weights: [u64; 12]) -> World {
    let mut world = World::new(3);
    for (topic, node) in [("t", 1), ("u", 2), ("v", 3)] {
        world.images.create(topic, &[[node].as_slice(); 4]);
    }
    world.settle();
    world.weights = (0..).zip(weights).collect();
    world
}

#[test]
fn heavy_partitions_spread_and_the_numbers_stay_even() {
    let mut world = loaded([9, 9, 9, 9, 0, 0, 0, 0, 1, 1, 0, 0]);
    world.wait();
    world.settle();
    let weighed = world.weighed();
    assert!(
        weighed.values().all(|it| (9..=18).contains(it)),
        "{weighed:?}"
    );
    assert_eq!(world.led(), BTreeMap::from([(1, 4), (2, 4), (3, 4)]));
    for _ in 0..5 {
        world.wait();
        assert_eq!(world.moves(), [], "it is as even as it can be: {weighed:?}");
    }
}

#[test]
fn one_heavy_partition_stays_where_it_is() {
    let mut world = loaded([50, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    world.wait();
    assert_eq!(world.moves(), []);
    // what shares its broker with it goes
    world.weights.insert(1, 20);
    world.wait();
    let moves = world.moves();
    assert_eq!(moves[0], (1, 2), "{moves:?}");
    assert_eq!(moves.len(), 2, "a light one comes back: {moves:?}");
}

#[test]
fn small_differences_of_load_move_nothing() {
    let mut world = loaded([6, 5, 5, 5, 5, 5, 5, 5, 4, 5, 5, 4]);
    world.wait();
    assert_eq!(world.moves(), []);
    let mut world = loaded([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    world.wait();
    assert_eq!(world.moves(), [], "a MiB a second is no load");
}

#[test]
fn the_load_is_spread_once_all_have_told_theirs_and_then_it_settles() {
    let mut world = loaded([9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    world.silent.insert(3);
    world.wait();
    assert_eq!(world.moves(), [], "a broker has not told its load");
    world.silent.clear();
    let moves = world.plan();
    assert!(!moves.is_empty());
    // the means do not show yet what has moved
    world.images.carry_out(moves);
    world.weights = (4..8).map(|stream| (stream, 99)).collect();
    world.now += BALANCE.interval;
    assert_eq!(world.moves(), []);
    world.wait();
    assert_ne!(world.moves(), []);
}

#[test]
fn replicas_that_an_operator_chose_stay_however_heavy() {
    let mut world = loaded([9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    world.images.choose("t");
    world.wait();
    assert_eq!(world.moves(), []);
}

#[test]
fn a_heavy_partition_that_stays_keeps_no_other_broker_from_being_levelled() {
    let mut world = loaded([90, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 0]);
    world.images.choose("t");
    world.wait();
    let moves = world.moves();
    assert!(moves.contains(&(4, 3)), "{moves:?}");
}

#[test]
fn old_loads_move_nothing() {
    let mut world = loaded([9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    world.age = 3 * BALANCE.interval;
    world.wait();
    assert_eq!(world.moves(), [], "a broker tells its load seldom");
    world.age = BALANCE.interval;
    assert_ne!(world.moves(), []);
}

#[test]
fn partitions_that_are_not_among_the_heaviest_weigh_what_is_left() {
    let mut world = World::new(2);
    world.images.create("t", &[[1].as_slice(); 40]);
    world.images.create("u", &[[2].as_slice(); 40]);
    world.settle();
    // all weigh the same on each broker, and only some of them are told
    world.weights = (0..40).map(|stream| (stream, 4)).collect();
    world.weights.extend((40..80).map(|stream| (stream, 3)));
    world.wait();
    assert_eq!(
        world.moves(),
        [],
        "none is light enough to go the other way"
    );
}
