//! The behaviour of classic groups, step by step.

use bytes::Bytes;

use super::*;
use highwater_types::Uuid;

use crate::OffsetCommit;

const TOPIC: TopicId = Uuid([1; 16]);

const START: Now = Now {
    monotonic_ms: 1000,
    wall_ms: 1_700_000_000_000,
};

fn at(ms: u64) -> Now {
    Now {
        monotonic_ms: START.monotonic_ms + ms,
        wall_ms: START.wall_ms + i64::try_from(ms).expect("small"),
    }
}

fn config() -> GroupConfig {
    GroupConfig {
        initial_rebalance_delay_ms: 3000,
        session_timeout_min_ms: 6000,
        session_timeout_max_ms: 1_800_000,
        members_max: 10,
        metadata_units_max: 16,
        offsets_retention_ms: 10_000,
    }
}

struct World {
    shard: GroupShard,
    effects: GroupEffects,
    log: Vec<CoordinatorRecord>,
    next: u64,
}

impl World {
    fn new() -> Self {
        Self {
            shard: GroupShard::new(config()),
            effects: GroupEffects::default(),
            log: Vec::new(),
            next: 0,
        }
    }

    fn ticket<T>(&mut self) -> Ticket<T> {
        self.next += 1;
        Ticket::new(self.next)
    }

    fn join(&mut self, member: &str, now: Now) -> Ticket<JoinReply> {
        let ticket = self.ticket();
        let join = Join {
            group: "g".to_owned(),
            member: member.to_owned(),
            fresh_member: format!("fresh-{}", self.next),
            requires_id: true,
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), subscription("t"))],
        };
        self.shard.join(ticket, &join, now, &mut self.effects);
        ticket
    }

    fn sync(&mut self, member: &str, generation: i32, all: &[&str], now: Now) -> Ticket<SyncReply> {
        let ticket = self.ticket();
        let assignment = |member: &&str| {
            let bytes = Bytes::from(format!("for {member}"));
            ((*member).to_owned(), bytes)
        };
        let sync = Sync {
            group: "g".to_owned(),
            member: member.to_owned(),
            generation,
            protocol_type: None,
            protocol: None,
            assignments: all.iter().map(assignment).collect(),
        };
        self.shard.sync(ticket, sync, now, &mut self.effects);
        ticket
    }

    fn answered<T: 'static>(&mut self, ticket: Ticket<T>) -> Option<T> {
        self.log.append(&mut self.effects.records);
        let answers = &mut self.effects.answers;
        let found = answers
            .iter()
            .position(|answer| Ticket::new(answer.ticket()) == ticket)?;
        Some(answers.remove(found).value())
    }

    fn tick(&mut self, now: Now) {
        self.shard.tick(now, &mut self.effects);
    }

    /// Joins with a new member until it has its id, and returns the ticket of its unanswered join.
    fn enter(&mut self, now: Now) -> (String, Ticket<JoinReply>) {
        let first = self.join("", now);
        let reply = self.answered(first).expect("answered at once");
        assert_eq!(reply.error, ErrorCode::MemberIdRequired);
        let ticket = self.join(&reply.member, now);
        (reply.member, ticket)
    }

    /// A stable group of one member.
    fn alone(&mut self) -> String {
        let (member, ticket) = self.enter(START);
        assert_eq!(self.answered(ticket), None, "the group waits for more");
        self.tick(at(3000));
        let reply = self.answered(ticket).expect("the delay is over");
        assert_eq!((reply.error, reply.generation), (ErrorCode::None, 1));
        assert_eq!(reply.leader, member);
        let ticket = self.sync(&member, 1, &[&member], at(3000));
        let reply = self.answered(ticket).expect("the leader brought it");
        assert_eq!(reply.assignment, format!("for {member}"));
        member
    }
}

fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0];
    bytes.push(u8::try_from(topic.len()).expect("short"));
    bytes.extend_from_slice(topic.as_bytes());
    Bytes::from(bytes)
}

#[test]
fn two_members_share_a_group() {
    let mut world = World::new();
    let (first, one) = world.enter(START);
    let (second, two) = world.enter(at(1000));
    world.tick(at(3000));
    assert_eq!(
        world.answered(one),
        None,
        "a group that grows waits again (KIP-134)"
    );
    world.tick(at(6000));
    let lead = world.answered(one).expect("joined");
    let follow = world.answered(two).expect("joined");
    assert_eq!((lead.generation, follow.generation), (1, 1));
    assert_eq!(
        (lead.leader.as_str(), follow.leader.as_str()),
        (first.as_str(), first.as_str())
    );
    assert_eq!((lead.members.len(), follow.members.len()), (2, 0));
    let waits = world.sync(&second, 1, &[], at(6001));
    assert_eq!(world.answered(waits), None);
    let leads = world.sync(&first, 1, &[&first, &second], at(6002));
    let reply = world.answered(leads).expect("synced");
    assert_eq!(reply.assignment, format!("for {first}"));
    let reply = world.answered(waits).expect("synced");
    assert_eq!(reply.assignment, format!("for {second}"));
    assert_eq!(world.shard.heartbeat("g", &second, 1, at(6003)), Ok(()));
    assert_eq!(world.shard.describe("g").expect("there").state, "Stable");
}

#[test]
fn a_member_that_is_silent_makes_the_others_join_again() {
    let mut world = World::new();
    let first = world.alone();
    let (second, two) = world.enter(at(4000));
    assert_eq!(
        world.shard.heartbeat("g", &first, 1, at(4001)),
        Err(ErrorCode::RebalanceInProgress)
    );
    let one = world.join(&first, at(4002));
    assert_eq!(world.answered(one).expect("all are there").generation, 2);
    assert_eq!(world.answered(two).expect("all are there").generation, 2);
    let sync = world.sync(&first, 2, &[&first, &second], at(4003));
    assert!(world.answered(sync).is_some());
    let sync = world.sync(&second, 2, &[], at(4003));
    assert!(world.answered(sync).is_some());
    assert_eq!(world.shard.heartbeat("g", &second, 2, at(12_000)), Ok(()));
    world.tick(at(14_500));
    assert_eq!(
        world.shard.heartbeat("g", &first, 2, at(14_501)),
        Err(ErrorCode::UnknownMemberId)
    );
    assert_eq!(
        world.shard.heartbeat("g", &second, 2, at(14_501)),
        Err(ErrorCode::RebalanceInProgress)
    );
    let two = world.join(&second, at(14_502));
    let reply = world.answered(two).expect("it is the only one");
    assert_eq!((reply.generation, reply.leader), (3, second));
}

#[test]
fn the_last_member_that_leaves_empties_the_group() {
    let mut world = World::new();
    let member = world.alone();
    let left = world.shard.leave(
        "g",
        &[member, "other".to_owned()],
        at(5000),
        &mut world.effects,
    );
    assert_eq!(left, Ok(vec![ErrorCode::None, ErrorCode::UnknownMemberId]));
    let described = world.shard.describe("g").expect("there");
    assert_eq!(
        (described.state, described.protocol_type.as_str()),
        ("Empty", "consumer")
    );
    assert_eq!(world.shard.delete("g", &mut world.effects), Ok(()));
    assert_eq!(world.shard.describe("g"), None);
}

#[test]
fn a_leader_that_never_syncs_is_gone_after_the_rebalance_timeout() {
    let mut world = World::new();
    let (first, one) = world.enter(START);
    let (second, two) = world.enter(START);
    world.tick(at(6000));
    world.tick(at(9000));
    assert!(world.answered(one).is_some() && world.answered(two).is_some());
    let waits = world.sync(&second, 1, &[], at(9001));
    world.tick(at(19_000));
    let reply = world.answered(waits).expect("the leader's session is over");
    assert_eq!(reply.error, ErrorCode::RebalanceInProgress);
    assert_eq!(
        world.shard.heartbeat("g", &first, 1, at(19_001)),
        Err(ErrorCode::UnknownMemberId)
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn commits_are_checked_as_kafka_checks_them() {
    let mut world = World::new();
    let commit = |metadata: &str| {
        vec![OffsetCommit {
            topic: "t".to_owned(),
            topic_id: TOPIC,
            partition: 0,
            offset: 5,
            leader_epoch: -1,
            metadata: metadata.to_owned(),
            retention_ms: -1,
        }]
    };
    let effects = &mut world.effects;
    let shard = &mut world.shard;
    assert_eq!(
        shard.commit(
            Commit {
                group: "g".to_owned(),
                member: "".to_owned(),
                generation: 3,
                offsets: commit("")
            },
            START,
            effects
        ),
        Err(ErrorCode::GroupIdNotFound),
        "there is no group"
    );
    assert_eq!(
        shard.commit(
            Commit {
                group: "g".to_owned(),
                member: "".to_owned(),
                generation: -1,
                offsets: commit("")
            },
            START,
            effects
        ),
        Ok(vec![ErrorCode::None]),
        "a group that only keeps offsets"
    );
    assert_eq!(
        shard.commit(
            Commit {
                group: "g".to_owned(),
                member: "".to_owned(),
                generation: -1,
                offsets: commit("far too long for it")
            },
            START,
            effects
        ),
        Ok(vec![ErrorCode::OffsetMetadataTooLarge])
    );
    assert_eq!(
        shard.commit(
            Commit {
                group: String::new(),
                member: "".to_owned(),
                generation: -1,
                // 16 UTF-16 units, which are 32 bytes
                offsets: commit(&"\u{e9}".repeat(16))
            },
            START,
            effects
        ),
        Ok(vec![ErrorCode::None]),
        "the empty id may commit, and metadata is counted as Java counts"
    );
    assert_eq!(
        shard.offset("g", ("t", TOPIC), 0).map(|found| found.offset),
        Some(5)
    );
    let member = world.alone();
    let effects = &mut world.effects;
    let shard = &mut world.shard;
    assert_eq!(
        shard.commit(
            Commit {
                group: "g".to_owned(),
                member: "".to_owned(),
                generation: -1,
                offsets: commit("")
            },
            at(4000),
            effects
        ),
        Err(ErrorCode::UnknownMemberId),
        "it has members"
    );
    assert_eq!(
        shard.commit(
            Commit {
                group: "g".to_owned(),
                member: member.clone(),
                generation: 7,
                offsets: commit("")
            },
            at(4000),
            effects
        ),
        Err(ErrorCode::IllegalGeneration)
    );
    assert_eq!(
        shard.commit(
            Commit {
                group: "g".to_owned(),
                member,
                generation: 1,
                offsets: commit("")
            },
            at(4000),
            effects
        ),
        Ok(vec![ErrorCode::None])
    );
    assert_eq!(
        shard.delete_offsets("g", &[("t".to_owned(), 0)], effects),
        Ok(vec![ErrorCode::GroupSubscribedToTopic])
    );
    assert_eq!(shard.delete("g", effects), Err(ErrorCode::NonEmptyGroup));
}

#[test]
fn a_replayed_log_is_the_same_group() {
    let mut world = World::new();
    let member = world.alone();
    let commit = OffsetCommit {
        topic: "t".to_owned(),
        topic_id: TOPIC,
        partition: 3,
        offset: 11,
        leader_epoch: 2,
        metadata: "m".to_owned(),
        retention_ms: -1,
    };
    let committed = world.shard.commit(
        Commit {
            group: "g".to_owned(),
            member: member.clone(),
            generation: 1,
            offsets: vec![commit],
        },
        at(4000),
        &mut world.effects,
    );
    assert_eq!(committed, Ok(vec![ErrorCode::None]));
    world.log.append(&mut world.effects.records);
    let mut again = GroupShard::new(config());
    for record in &world.log {
        again.replay(record, at(5000)).expect("our own record");
    }
    again.loaded(at(20_000), &mut world.effects);
    assert_eq!(again.describe("g"), world.shard.describe("g"));
    assert_eq!(again.offsets("g"), world.shard.offsets("g"));
    assert_eq!(
        again.wake_at(),
        Some(START.monotonic_ms + 20_000 + 10_000),
        "a session starts when loading has ended, not when its record was read"
    );
    assert_eq!(again.heartbeat("g", &member, 1, at(20_001)), Ok(()));
}

#[test]
fn offsets_of_an_empty_group_expire_and_the_group_with_them() {
    let mut world = World::new();
    let member = world.alone();
    let commit = OffsetCommit {
        topic: "t".to_owned(),
        topic_id: TOPIC,
        partition: 0,
        offset: 1,
        leader_epoch: -1,
        metadata: String::new(),
        retention_ms: -1,
    };
    let effects = &mut world.effects;
    let committed = world.shard.commit(
        Commit {
            group: "g".to_owned(),
            member: member.clone(),
            generation: 1,
            offsets: vec![commit],
        },
        at(4000),
        effects,
    );
    assert!(committed.is_ok());
    world.shard.expire(at(40_000), effects);
    assert_eq!(world.shard.offsets("g").len(), 1, "a member reads it");
    let left = world.shard.leave("g", &[member], at(40_000), effects);
    assert!(left.is_ok());
    world.shard.expire(at(49_999), effects);
    assert_eq!(world.shard.offsets("g").len(), 1);
    world.shard.expire(at(50_000), effects);
    assert_eq!(world.shard.list(), Vec::new());
}

#[test]
fn a_pending_member_that_never_comes_is_forgotten() {
    let mut world = World::new();
    let member = world.alone();
    let ticket = world.join("", at(4000));
    assert!(world.answered(ticket).is_some());
    let again = world.join(&member, at(4001));
    assert_eq!(world.answered(again), None, "the pending one is waited for");
    world.tick(at(14_000));
    assert_eq!(world.answered(again).expect("it is over").generation, 2);
}

#[test]
fn a_group_that_is_left_and_committed_nothing_goes_at_the_next_check() {
    let mut world = World::new();
    let member = world.alone();
    let effects = &mut world.effects;
    world.shard.expire(at(4000), effects);
    assert_eq!(world.shard.list().len(), 1, "it has a member");
    assert!(world.shard.leave("g", &[member], at(4000), effects).is_ok());
    world.shard.expire(at(4001), effects);
    assert_eq!(world.shard.list(), Vec::new());
}

#[test]
fn members_that_join_at_the_same_moment_get_one_generation_even_without_a_delay() {
    let mut world = World::new();
    world.shard = GroupShard::new(GroupConfig {
        initial_rebalance_delay_ms: 0,
        ..config()
    });
    let (first, one) = world.enter(START);
    // what is due at once is done before the other member joins
    world.tick(START);
    let (_, other) = world.enter(START);
    let mut now = START;
    while let Some(wake) = world
        .shard
        .wake_at()
        .filter(|at| *at < START.monotonic_ms + 100)
    {
        now.monotonic_ms = wake;
        world.tick(now);
    }
    let (one, other) = (world.answered(one), world.answered(other));
    let (one, other) = (one.expect("joined"), other.expect("joined"));
    assert_eq!((one.generation, other.generation), (1, 1));
    assert_eq!((one.leader, one.members.len()), (first, 2));
}

#[test]
fn a_topic_does_not_get_the_offsets_of_an_earlier_one_of_its_name() {
    let mut world = World::new();
    let commit = Commit {
        group: "g".to_owned(),
        member: String::new(),
        generation: -1,
        offsets: vec![OffsetCommit {
            topic: "t".to_owned(),
            topic_id: TOPIC,
            partition: 0,
            offset: 42,
            leader_epoch: -1,
            metadata: String::new(),
            retention_ms: -1,
        }],
    };
    let effects = &mut world.effects;
    assert!(world.shard.commit(commit, START, effects).is_ok());
    let mut again = GroupShard::new(config());
    for record in &effects.records {
        again.replay(record, START).expect("our own record");
    }
    // The topic was deleted and created again while the shard was loading: the image has its name, with another id.
    let later = Uuid([2; 16]);
    assert!(again.offset("g", ("t", TOPIC), 0).is_some());
    assert!(again.offset("g", ("t", TopicId::ZERO), 0).is_some());
    assert!(again.offset("g", ("t", later), 0).is_none());
    let mut dropped = GroupEffects::default();
    again.drop_topics(|_| Some(TOPIC), &mut dropped);
    assert!(dropped.records.is_empty());
    again.drop_topics(|_| Some(later), &mut dropped);
    assert_eq!(dropped.records.len(), 1);
    assert_eq!(again.offsets("g"), Vec::new());
}

// KAFKA-BEHAVIOUR 24: Kafka appends the offsets of a request in one batch, or none of them.
#[test]
fn a_commit_that_no_batch_holds_commits_nothing() {
    let mut world = World::new();
    let commit = |count: i32| Commit {
        group: "g".to_owned(),
        member: String::new(),
        generation: -1,
        offsets: (0..count)
            .map(|partition| OffsetCommit {
                topic: "t".to_owned(),
                topic_id: TOPIC,
                partition,
                offset: 5,
                leader_epoch: -1,
                metadata: "m".to_owned(),
                retention_ms: -1,
            })
            .collect(),
    };
    let (shard, effects) = (&mut world.shard, &mut world.effects);
    let fits = shard.commit(commit(3), START, effects);
    assert_eq!(fits, Ok(vec![ErrorCode::None; 3]));
    effects.batch_bytes_max = crate::batch_bytes(&effects.records);
    effects.records.clear();
    let too_large = shard.commit(commit(4), at(1), effects);
    assert_eq!(too_large, Err(ErrorCode::UnknownServerError));
    assert_eq!(effects.records, []);
    assert_eq!(shard.offset("g", ("t", TOPIC), 3), None);
    let first = shard.offset("g", ("t", TOPIC), 0).expect("is committed");
    assert_eq!(first.commit_timestamp, START.wall_ms, "by the first alone");
    assert!(shard.commit(commit(3), at(1), effects).is_ok());
}

#[test]
fn a_refused_join_leaves_no_group_behind() {
    let mut world = World::new();
    world.shard.config.members_max = 0;
    let refused = world.join("", at(0));
    let reply = world.answered(refused).expect("answered at once");
    assert_eq!(reply.error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(world.shard.list(), []);
    // a client that was given an id is expected to join
    world.shard.config.members_max = 1;
    world.join("", at(0));
    assert_eq!(world.shard.list().len(), 1);
    assert!(world.shard.wake_at().is_some());
}
