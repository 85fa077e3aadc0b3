//! A voter that was absent for so long that the others have purged what it lacks.

use super::*;
use crate::raft::log_store::LogStore;

/// A quorum in which the log of two voters begins after all that the third one has; the third one does not run.
async fn behind(world: &World) -> (BTreeMap<NodeId, RaftMetadata>, NodeId, NodeId) {
    let mut voters = world.form().await;
    let leads = leader(&voters).await;
    voters[&leads]
        .propose(topic(100, 1))
        .await
        .expect("is taken");
    let away = NODES.into_iter().find(|node| *node != leads).expect("two");
    until_topic(&voters[&away], "topic-100").await;
    let dead = voters.remove(&away).expect("is there");
    world.kill(away, dead).await;
    for id in 1..=9 {
        voters[&leads]
            .propose(large_topic(id))
            .await
            .expect("is taken");
    }
    until_purged(&voters[&leads]).await;
    (voters, leads, away)
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_was_absent_for_long_gets_a_snapshot_in_bounded_parts() {
    let world = World::new();
    let (voters, leads, away) = behind(&world).await;
    let again = world.open(away).await;
    let parts = world.reachable.parts.load(Ordering::SeqCst);
    assert!(parts > 4, "{parts}");
    assert_eq!(again.image().topics().count(), 10);
    let left = world.dir(away).join("snapshot.received");
    assert!(!left.exists());

    // it goes on by the log, and starts again from what it has
    voters[&leads]
        .propose(topic(101, 1))
        .await
        .expect("is taken");
    until_topic(&again, "topic-101").await;
    let image = again.image();
    world.kill(away, again).await;
    let again = world.open(away).await;
    assert_eq!(again.image().topics().count(), image.topics().count());
    world.kill(away, again).await;
    world.kill_all(voters).await;
}

#[tokio::test(start_paused = true)]
async fn a_damaged_snapshot_replaces_nothing() {
    let world = World::new();
    let (voters, _, away) = behind(&world).await;
    let snapshot = world.dir(away).join("snapshot");
    let before = std::fs::read(&snapshot).ok();
    world
        .reachable
        .damages_snapshots
        .store(true, Ordering::SeqCst);
    let opening = tokio::time::timeout(PATIENCE, world.open(away));
    assert!(opening.await.is_err(), "it waits for the metadata");
    assert!(world.reachable.parts.load(Ordering::SeqCst) > 4);
    assert_eq!(std::fs::read(&snapshot).ok(), before);

    let again = world.reachable.voter(away).expect("is there");
    world
        .reachable
        .damages_snapshots
        .store(false, Ordering::SeqCst);
    let mut image = again.image.clone();
    let has = image.wait_for(|image| image.topics().count() == 10);
    let has = tokio::time::timeout(PATIENCE, has).await;
    drop(has.expect("comes").expect("is followed"));
    drop(again.raft.shutdown().await);
    world.kill_all(voters).await;
}

// D2: a process that dies between the new snapshot and the purge of its log leaves a log that ends before the snapshot
#[tokio::test(start_paused = true)]
async fn a_voter_that_dies_while_it_installs_a_snapshot_starts_again() {
    let world = World::new();
    let (voters, leads, away) = behind(&world).await;
    let (from, to) = (world.dir(leads), world.dir(away));
    let (purged, _) = voters[&leads].voter.log.ends();
    std::fs::copy(from.join("snapshot"), to.join("snapshot")).expect("is there");
    let refused = world.try_open(away, &NODES, directory(away)).await;
    assert!(
        matches!(refused, Err(OpenError::Lost { .. })),
        "nobody has installed it"
    );

    let device: Arc<dyn Device> = Arc::new(RealDevice);
    let log = LogStore::open(device, &AsTasks, &to.join("log"), [9; 16]).await;
    let log = log.expect("opens");
    log.note_install(purged.expect("is purged"))
        .await
        .expect("is noted");
    log.shutdown().await.expect("closes");
    for _ in 0..2 {
        let again = world.open(away).await;
        assert_eq!(again.image().topics().count(), 10);
        world.kill(away, again).await;
    }
    world.kill_all(voters).await;
}

// D2: the library applies what the other voters have committed, which may be before the own log has it. If the power of
// the voter failed then, its log would end before its snapshot does, and no start would take it
#[tokio::test(start_paused = true)]
async fn a_snapshot_waits_until_the_log_has_what_it_covers() {
    let world = World::new();
    let mut voters = world.form().await;
    let leads = leader(&voters).await;
    let metadata = voters.remove(&leads).expect("is there");
    let (faults, dir) = (&world.faults[&leads], world.dir(leads));
    faults.hang_syncs_below(Some(dir.join("log")));
    let committed = metadata.propose(topic(1, 1)).await;
    committed.expect("the others have it");
    let raft = &metadata.voter.raft;
    raft.trigger().snapshot().await.expect("asks");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let is_begun = dir.join("snapshot.new").exists() || dir.join("snapshot").exists();
    assert!(!is_begun, "the log does not have the entry");

    faults.hang_syncs_below(None);
    let taken = raft.wait(Some(PATIENCE));
    let taken = taken.metrics(|metrics| metrics.snapshot.is_some(), "is taken");
    taken.await.expect("is taken");
    world.kill(leads, metadata).await;
    let again = world.open(leads).await;
    assert!(again.image().topic("topic-1").is_some());
    world.kill(leads, again).await;
    world.kill_all(voters).await;
}
