//! Controllers of which one runs an older program.

use super::*;
use crate::MetadataVersion;
use crate::command::{Rejection, SetMetadataVersion};
use crate::raft::types::Proposal;

/// A level that is older than any that a cluster may have.
const OLDER: MetadataVersion = MetadataVersion(MetadataVersion::FIRST.0 - 1);

async fn raise(active: &RaftMetadata) -> Result<Outcome, Rejection> {
    let version = MetadataVersion::NEWEST.record();
    let set = Action::SetMetadataVersion(SetMetadataVersion { version });
    match active.propose(set.into()).await {
        Ok((_, outcome)) => Ok(outcome),
        Err(ProposeError::Rejected(rejection)) => Err(rejection),
        Err(undecided) => panic!("{undecided}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_version_is_not_raised_before_every_controller_says_that_it_knows_it() {
    let world = World::new();
    let voters = world.form().await;
    let leads = leader(&voters).await;
    let active = &voters[&leads];
    let mut others = NODES.into_iter().filter(|node| *node != leads);
    let other = others.next().expect("two");
    let tells = |newest: MetadataVersion| {
        let told = i32::from(newest.0);
        world.reachable.tells.store(told, Ordering::SeqCst);
    };
    tells(OLDER);
    let refused = raise(active).await.expect_err("the others are older");
    let newest = Some(OLDER);
    assert!(
        matches!(refused, Rejection::OlderNode { node, newest: told } if node != leads && told == newest),
        "{refused}"
    );
    let away = world.reachable.cut_off(other).expect("is there");
    tells(MetadataVersion::NEWEST);
    let silent = Rejection::OlderNode {
        node: other,
        newest: None,
    };
    assert_eq!(raise(active).await, Err(silent));
    world.reachable.connect(other, away);
    assert_eq!(raise(active).await, Ok(Outcome::Done));
    world.kill_all(voters).await;
}

// a program that is older than the metadata must not decide what commands do
#[tokio::test(start_paused = true)]
async fn a_controller_stops_at_a_version_that_it_does_not_know() {
    let world = World::new();
    let voters = world.form().await;
    let leads = leader(&voters).await;
    let later = MetadataVersion(MetadataVersion::NEWEST.0 + 1);
    let set = Action::SetMetadataVersion(SetMetadataVersion {
        version: later.record(),
    });
    // the active controller of a later program has decided so
    let written = voters[&leads].voter.raft.client_write(Proposal(set.into()));
    let ended = async {
        let (_unanswered, why) = tokio::join!(written, voters[&leads].ended());
        why
    };
    let why = tokio::time::timeout(PATIENCE, ended).await;
    let why = why.expect("it ends");
    assert!(why.contains("start a newer one"), "{why}");
    world.kill_all(voters).await;
}
