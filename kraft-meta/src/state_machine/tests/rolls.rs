//! The rolls of a stream (F6).

use super::*;

impl Log {
    fn rolled(&mut self, first: i64, next: i64, rolls: Vec<RollRecord>) {
        let mut commit = self.commit(first, next);
        let claim = commit.claims[0].claim.as_mut().expect("it has one");
        let times = rolls.iter().map(|roll| roll.max_timestamp);
        claim.max_timestamp = times.max().unwrap_or(-1);
        commit.claims[0].rolls = rolls;
        let dropped = Vec::new();
        assert_eq!(self.committed(commit), Ok(Outcome::Committed { dropped }));
        self.image.check().expect("is sound");
    }

    /// Base, end, bytes and largest timestamp of each roll.
    fn rolls(&self) -> Vec<(i64, i64, u64, i64)> {
        let rolls = self.image.streams[&StreamId(0)].rolls();
        let rolls = rolls.map(|(roll, end)| (roll.base, end, roll.bytes, roll.max_timestamp));
        rolls.collect()
    }

    fn starts(&mut self, start: i64) {
        let (stream, node) = (0, 0);
        let trimmed = self.ask(Ask::Trim {
            stream,
            start,
            node,
        });
        assert_eq!(trimmed, Ok(Outcome::Done));
        self.image.check().expect("is sound");
    }
}

#[test]
fn a_roll_that_begins_with_its_claim_is_a_roll_of_its_own() {
    let (mut log, _) = Log::opened();
    log.rolled(0, 10, vec![roll(0, true, 100)]);
    log.rolled(10, 20, vec![roll(10, true, 200)]);
    log.rolled(20, 30, vec![roll(20, false, 150)]);
    assert_eq!(log.rolls(), [(0, 10, 1000, 100), (10, 30, 2000, 200)]);
    let stream = &log.image.streams[&StreamId(0)];
    let active = stream.rolls.get_max().expect("there is one").1;
    let times = (
        active.first_timestamp,
        active.first_append,
        active.last_append,
    );
    assert_eq!(times, (200, 700, 650));
}

#[test]
fn a_claim_of_many_rolls_says_the_bytes_and_times_of_each() {
    let (mut log, _) = Log::opened();
    log.rolled(0, 10, vec![roll(0, true, 100)]);
    let parts = vec![roll(10, false, 300), roll(30, true, 50), roll(40, true, 40)];
    log.rolled(10, 50, parts);
    let expected = [(0, 30, 2000, 300), (30, 40, 1000, 50), (40, 50, 1000, 40)];
    assert_eq!(log.rolls(), expected);
}

// U3: after a repeat a claim begins at the committed end, but its object begins before it
#[test]
fn what_was_clipped_counts_once() {
    let (mut log, _) = Log::opened();
    log.rolled(0, 20, vec![roll(0, true, 100), roll(10, true, 200)]);
    log.rolled(10, 30, vec![roll(10, true, 200), roll(20, true, 300)]);
    let expected = [(0, 10, 1000, 100), (10, 20, 1000, 200), (20, 30, 1000, 300)];
    assert_eq!(log.rolls(), expected);
}

// U3: the claim before ends within a roll, and the object that is clipped has all of that roll
#[test]
fn a_roll_within_which_the_claim_before_ended_counts_once() {
    let (mut log, _) = Log::opened();
    log.rolled(0, 15, vec![roll(0, true, 100), roll(10, true, 200)]);
    log.rolled(10, 30, vec![roll(10, true, 250), roll(20, true, 300)]);
    let expected = [(0, 10, 1000, 100), (10, 20, 1000, 250), (20, 30, 1000, 300)];
    assert_eq!(log.rolls(), expected);
}

#[test]
fn a_roll_counts_whole_until_all_of_it_is_deleted_and_the_active_one_until_the_next() {
    let (mut log, _) = Log::opened();
    log.rolled(0, 10, vec![roll(0, true, 100)]);
    log.rolled(10, 20, vec![roll(10, true, 300)]);
    log.rolled(20, 30, vec![roll(20, false, 200)]);
    log.starts(9);
    assert_eq!(log.rolls().len(), 2, "one record of the first is left");
    log.starts(15);
    assert_eq!(log.rolls(), [(10, 30, 2000, 300)]);
    log.starts(30);
    assert_eq!(log.rolls(), [(10, 30, 2000, 300)]);
    log.rolled(30, 40, vec![roll(30, false, 50)]);
    assert_eq!(log.rolls(), [(10, 40, 3000, 300)]);
    log.starts(40);
    log.rolled(40, 50, vec![roll(40, true, 60)]);
    assert_eq!(log.rolls(), [(40, 50, 1000, 60)]);
}

// F4: an opening reads one roll for each thousand claims, and the claims after the checkpoint
#[test]
fn what_a_stream_is_opened_from_does_not_grow_with_its_claims() {
    let (mut log, _) = Log::opened();
    for first in 0..2000 {
        let mut commit = log.commit(first, first + 1);
        let claim = commit.claims[0].claim.as_mut().expect("it has one");
        claim.checkpoint_bytes = (first % 100 == 97).then_some(0);
        commit.claims[0].rolls = vec![roll(first, first % 1000 == 0, first)];
        log.committed(commit).expect("is taken");
    }
    log.image.check().expect("is sound");
    let stream = &log.image.streams[&StreamId(0)];
    assert_eq!(stream.claims.len(), 2000);
    let after = stream.claims_after_checkpoint();
    let after: Vec<i64> = after.map(|claim| claim.first).collect();
    assert_eq!(after, [1998, 1999]);
    let expected = [(0, 1000, 1_000_000, 999), (1000, 2000, 1_000_000, 1999)];
    assert_eq!(log.rolls(), expected);
}

#[test]
fn a_claim_is_found_by_time_in_the_first_roll_that_reaches_it_and_has_it_still() {
    let (mut log, _) = Log::opened();
    log.rolled(0, 10, vec![roll(0, true, 400)]);
    log.rolled(10, 20, vec![roll(10, false, 100)]);
    log.rolled(20, 40, vec![roll(20, false, 50), roll(30, true, 300)]);
    log.rolled(40, 50, vec![roll(40, true, 200)]);
    let stream = Arc::clone(&log.image.streams[&StreamId(0)]);
    let found = |start, at| {
        let claim = stream.first_claim_at(start..50, at);
        claim.map(|claim| claim.first)
    };
    for (start, at, first) in [
        (0, 400, Some(0)),
        (0, 401, None),
        // the record with the largest timestamp of its roll lies below the range
        (10, 101, Some(20)),
        (10, 100, Some(10)),
        (35, 300, Some(20)),
        (40, 150, Some(40)),
        (40, 201, None),
    ] {
        assert_eq!(found(start, at), first, "{at} from {start} on");
    }
}
