//! The active controller has no room on its disk, and the other voters have.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_active_controller_without_room_hands_over_to_a_voter_that_has_room() {
    let world = World::new();
    let mut voters = world.form().await;
    let leads = leader(&voters).await;
    voters.values().for_each(RaftMetadata::admit_observers);
    let full = voters.get_mut(&leads).expect("is there");
    let lacking = watch::Sender::new(Some("no space left on device".to_owned()));
    full.voter.waiting = Arc::new(Waiting::new(lacking.subscribe()));
    full.voter.snapshot_bytes = 0;
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    let refused = voters[&leads].propose(topic(1, 1)).await;
    let why = refused.expect_err("has no room").to_string();
    assert!(why.contains("waits for a snapshot"), "{why}");
    let deciding = async {
        while voters[&leads].propose(topic(1, 1)).await.is_err() {
            ticks.tick().await;
        }
    };
    let decided = tokio::time::timeout(PATIENCE, deciding).await;
    decided.expect("another voter decides");
    assert_ne!(leader(&voters).await, leads);
    world.kill_all(voters).await;
}
