//! Checkpoints and deltas, which hold the producer state of a stream (I6, F5).

use super::*;

impl Log {
    /// Commits a claim, with a checkpoint or without; returns the number of its object.
    fn claimed(&mut self, first: i64, next: i64, checkpoint_bytes: Option<u64>) -> u64 {
        let mut commit = self.commit(first, next);
        let number = commit.number;
        let claim = commit.claims[0].claim.as_mut().expect("it has one");
        claim.checkpoint_bytes = checkpoint_bytes;
        let dropped = Vec::new();
        assert_eq!(self.committed(commit), Ok(Outcome::Committed { dropped }));
        number
    }

    fn trim(&mut self, start: i64) {
        let (stream, node) = (0, 0);
        let trimmed = self.ask(Ask::Trim {
            stream,
            start,
            node,
        });
        assert_eq!(trimmed, Ok(Outcome::Done));
        self.image.check().expect("is sound");
    }

    fn objects(&self) -> Vec<u64> {
        self.image.objects.keys().map(|id| id.number).collect()
    }
}

// I6, F5: producer state is in the checkpoint and the deltas after it, however far the stream is trimmed
#[test]
fn claims_after_the_checkpoint_outlive_a_trim_until_the_next_checkpoint() {
    let (mut log, _) = Log::opened();
    let checkpoint = log.claimed(0, 10, Some(9));
    let deltas = [log.claimed(10, 20, None), log.claimed(20, 30, None)];
    log.trim(15);
    log.trim(30);
    assert_eq!(log.objects(), [checkpoint, deltas[0], deltas[1]]);
    // this claim lies below the start when it is committed
    log.trim(40);
    let late = log.claimed(30, 40, None);
    assert_eq!(log.objects().last(), Some(&late));
    let newer = log.claimed(40, 50, Some(9));
    assert_eq!(log.objects(), [newer]);
    log.trim(50);
    assert_eq!(log.objects(), [newer], "F5: data or no data");
    log.image.check().expect("is sound");
}

// F5: one trimmed record must not keep an object of 20 MB
#[test]
fn a_checkpoint_that_is_carried_forward_lets_older_objects_go() {
    let (mut log, _) = Log::opened();
    log.claimed(0, 10, Some(9));
    log.claimed(10, 20, None);
    log.trim(20);
    let carried = log.claimed(20, 20, Some(9));
    assert_eq!(log.objects(), [carried]);
    let mut stale = log.commit(10, 10);
    let claim = stale.claims[0].claim.as_mut().expect("it has one");
    claim.checkpoint_bytes = Some(0);
    let answer = log.committed(stale);
    let dropped = vec![StreamId(0)];
    assert_eq!(answer, Ok(Outcome::Committed { dropped }), "not at the end");
    assert_eq!(log.objects(), [carried]);
    log.claimed(20, 20, Some(0));
    assert!(log.objects().is_empty(), "an empty one needs no object");
    let next = log.claimed(20, 30, Some(0));
    assert_eq!(log.objects(), [next]);
    log.trim(30);
    assert!(log.objects().is_empty());
}
