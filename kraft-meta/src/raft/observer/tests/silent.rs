//! The host of the active controller is gone without a word: nothing answers, and nothing resets a connection.

use super::message::NotLeader;
use super::*;
use crate::Standing;
use crate::raft::message::{Answer, encode};

/// Long enough for an election, and less than a call waits for a controller that gives no answer.
const SOON: Duration = Duration::from_secs(9);

async fn soon<F: Future>(what: F) -> F::Output {
    let done = tokio::time::timeout(SOON, what).await;
    done.expect("it does not wait for the deadline of a call to the silent controller")
}

fn is_unknown<T>(lost: &Result<T, ProposeError>) -> bool {
    matches!(lost, Err(ProposeError::Unavailable(_)))
}

// No heartbeat is sent here, as before a broker has registered.
#[tokio::test(start_paused = true)]
async fn a_proposal_to_a_silent_controller_ends_once_another_voter_leads() {
    let world = World::new();
    let mut voters = world.three_voters().await;
    let observer = world.observe().await;
    observer.propose(topic("a")).await.expect("creates");
    let silent = leader(&voters);
    world.net.silence(silent);
    let silent = voters.remove(&silent).expect("is there");
    let lost = soon(observer.propose(topic("b"))).await;
    assert!(is_unknown(&lost), "{lost:?}");
    // the next one finds the voter that leads, and a command that may have been decided is not repeated
    soon(observer.propose(topic("c"))).await.expect("creates");
    let image = voters[&leader(&voters)].image();
    assert!(image.topic("b").is_none() && image.topic("c").is_some());
    drop(silent);
}

// One of the two leads afterwards.
#[tokio::test(start_paused = true)]
async fn a_proposal_of_a_voter_to_a_silent_controller_ends_once_any_voter_leads() {
    let world = World::new();
    let mut voters = world.three_voters().await;
    let silent = leader(&voters);
    world.net.silence(silent);
    let silent = voters.remove(&silent).expect("is there");
    let proposing = voters.values().map(|voter| voter.propose(topic("b")));
    for lost in soon(join_all(proposing)).await {
        assert!(is_unknown(&lost), "{lost:?}");
    }
    for (voter, name) in voters.values().zip(["c", "d"]) {
        soon(voter.propose(topic(name))).await.expect("creates");
        assert!(voter.image().topic("b").is_none());
    }
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn an_observer_follows_the_voter_that_a_heartbeat_has_found() {
    let world = World::new();
    let mut voters = world.three_voters().await;
    let observer = world.observe().await;
    let (at, _) = observer.propose(register(4, 0)).await.expect("registers");
    let silent = leader(&voters);
    world.net.silence(silent);
    let silent = voters.remove(&silent).expect("is there");
    let cut_off = observer.followed.cut_off.subscribe();
    let heartbeats = async {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            let beat = observer.heartbeat(NodeId(4), NodeEpoch(at.0), Standing::Serving.into());
            drop(beat.await);
        }
    };
    let changes = async {
        let creating = voters.values().map(|voter| async {
            while voter.propose(topic("b")).await.is_err() && voter.image().topic("b").is_none() {
                tokio::task::yield_now().await;
            }
        });
        join_all(creating).await;
        let mut images = observer.watch();
        let has = images.wait_for(|image| image.topic("b").is_some());
        drop(has.await.expect("lives"));
    };
    let seen = async {
        tokio::select! {
            () = changes => {}
            () = heartbeats => {}
        }
    };
    soon(seen).await;
    let is_quiet = !cut_off.has_changed().expect("lives") || cut_off.borrow().is_none();
    assert!(is_quiet, "it has turned before the call failed");
    drop(silent);
}

/// Two voters, each of which says that the other one leads.
#[derive(Debug, Default)]
struct NamesTheOther(AtomicUsize);

#[async_trait]
impl Calls for NamesTheOther {
    async fn call(&self, to: NodeId, _request: Bytes, _within: Duration) -> io::Result<Bytes> {
        let calls = self.0.fetch_add(1, Ordering::SeqCst);
        assert!(calls < 1000, "it asks without a rest");
        let other = match to == VOTERS[0] {
            true => 2,
            false => 1,
        };
        encode(&Answer {
            reply: Some(Reply::NotLeader(NotLeader::new(Some(other)))),
            ..Answer::default()
        })
    }
}

// The active controller names the voter to which it hands over, and that one names the controller until it is elected.
#[tokio::test(start_paused = true)]
async fn a_proposal_rests_while_two_voters_name_each_other() {
    let observer = Observer {
        voters: VOTERS[..2].into(),
        calls: Arc::new(NamesTheOther::default()),
        cluster: None,
        rng: SeededRng::from_seed(1),
    };
    let propose = Propose {
        command: Some(topic("a")),
        cluster: Vec::new(),
    };
    let until = Instant::now() + PROPOSAL_DEADLINE;
    let refused = in_time(Voters::new(observer).propose(propose, until)).await;
    let why = refused.expect_err("no voter leads");
    assert!(why.contains("is not the active controller"), "{why}");
}
