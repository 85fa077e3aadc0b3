//! A broker dies with its disk, and the others serve every record that it acknowledged (rules E4, E7, W7 to W9).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use highwater_object_storage::{Failure, Plan, RequestKind};
use highwater_tests::{Cluster, producer_id, until};

use crate::served::{PARTITIONS, holds, led_by, send};
use crate::stores::Stores;

#[tokio::test(flavor = "multi_thread")]
async fn the_survivors_serve_every_record_of_a_broker_that_died_with_its_disk() -> Result<()> {
    let mut cluster = Cluster::start(3, &[]).await?;
    cluster.create_topic(1, "t", PARTITIONS).await?;
    let before = led_by(&cluster, &[1, 2, 3]).await?;
    let spread: BTreeSet<_> = before.values().map(|(leader, _)| leader).collect();
    assert_eq!(
        spread.len(),
        3,
        "leaders are spread at creation: {before:?}"
    );
    let id = producer_id(&mut cluster.client(1).await?).await?;
    for (partition, (leader, _)) in &before {
        let mut client = cluster.client(*leader).await?;
        for sequence in 0..20 {
            let offset = send(&mut client, *partition, id, sequence).await?;
            assert_eq!(offset, i64::from(sequence));
        }
    }

    cluster.kill(2).await;
    let after = led_by(&cluster, &[1, 3]).await?;
    for (partition, (leader, _)) in &after {
        let moved = before[partition].0 == 2;
        assert!(
            moved || before[partition].0 == *leader,
            "only the dead broker's partitions move"
        );
        let mut client = cluster.client(*leader).await?;
        // I6: what the producer repeats is known, and it goes on
        assert_eq!(send(&mut client, *partition, id, 19).await?, 19);
        assert_eq!(send(&mut client, *partition, id, 20).await?, 20);
        holds(&mut client, *partition, id, 0..21).await?;
    }

    // the node comes back with an empty disk, as a new epoch, and is useful again
    cluster.start_broker(2).await?;
    cluster.kill(1).await;
    let last = led_by(&cluster, &[2, 3]).await?;
    assert!(last.values().any(|(leader, _)| *leader == 2), "{last:?}");
    for (partition, (leader, _)) in &last {
        let mut client = cluster.client(*leader).await?;
        assert_eq!(send(&mut client, *partition, id, 21).await?, 21);
        holds(&mut client, *partition, id, 0..22).await?;
    }
    cluster.stop().await
}

// E2, E7: a clean stop says that it ends, so that nobody waits for a session
#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_a_broker_that_stops_go_to_others_and_an_epoch_that_never_wrote_is_sealed()
-> Result<()> {
    // no session ends by itself in this test
    let session = [("broker.session.timeout.ms", "600000")];
    let mut cluster = Cluster::start(2, &session).await?;
    cluster.create_topic(1, "t", PARTITIONS).await?;
    led_by(&cluster, &[1, 2]).await?;
    cluster.stop_broker(2).await?;
    let after = led_by(&cluster, &[1]).await?;
    assert!(after.values().all(|(leader, _)| *leader == 1));
    let mut client = cluster.client(1).await?;
    let id = producer_id(&mut client).await?;
    for partition in 0..PARTITIONS {
        assert_eq!(send(&mut client, partition, id, 0).await?, 0);
    }
    let index = std::fs::read_dir(cluster.objects())?.next();
    index.context("there are objects")??;
    cluster.stop().await
}

// W11, E6: a start that is slower than its session, because of the store and of a cut link, is fenced like any other epoch
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_fenced_in_its_first_start_starts_again_by_itself() -> Result<()> {
    let stores = Stores::new(2);
    let settings = [("highwater.object.storage", "memory:")];
    let mut cluster = Cluster::start_on(2, &settings, stores.machines()).await?;
    cluster.create_topic(1, "t", PARTITIONS).await?;
    let before = led_by(&cluster, &[1, 2]).await?;
    let id = producer_id(&mut cluster.client(1).await?).await?;
    for (partition, (leader, _)) in &before {
        send(&mut cluster.client(*leader).await?, *partition, id, 0).await?;
    }
    cluster.kill(2).await;

    let is_sealing = Arc::new(AtomicBool::new(false));
    // the other broker does not seal the former epoch before the start does
    let may_seal = Arc::clone(&is_sealing);
    stores.of(1).set_hook(move |request| {
        let is_of_log = request.key.as_str().starts_with("wal/2/");
        match is_of_log && !may_seal.load(Ordering::SeqCst) {
            true => Plan::fail(Failure::Failed("503")),
            false => Plan::pass(),
        }
    });
    // a start reads the log of its former epoch before it registers, and again after that, to seal it
    let store = stores.of(2);
    let told = Arc::clone(&is_sealing);
    store.set_hook(move |request| {
        let is_again = request.nth > 0 && request.key.as_str().starts_with("wal/2/");
        match is_again && request.operation.kind() == RequestKind::Get {
            true => {
                told.store(true, Ordering::SeqCst);
                Plan::hang()
            }
            false => Plan::pass(),
        }
    });
    let meanwhile = async |cluster: &Cluster| {
        until("the start seals its former epoch", async || {
            Ok(is_sealing.load(Ordering::SeqCst))
        })
        .await?;
        cluster.set_cut(2, true);
        until(
            "the other broker seals the epoch of the start",
            async || {
                let keys = stores.keys("wal/2").await?;
                let epochs = keys.iter().filter_map(|key| key.as_str().split('/').nth(2));
                Ok(epochs.collect::<BTreeSet<_>>().len() == 2)
            },
        )
        .await?;
        store.set_hook(|_| Plan::pass());
        cluster.set_cut(2, false);
        Ok(())
    };
    cluster.start_broker_while(2, meanwhile).await?;

    cluster.kill(1).await;
    for (partition, (leader, _)) in &led_by(&cluster, &[2]).await? {
        let mut client = cluster.client(*leader).await?;
        // I6: nothing is lost, and what is sent again is known
        assert_eq!(send(&mut client, *partition, id, 0).await?, 0);
        assert_eq!(send(&mut client, *partition, id, 1).await?, 1);
        holds(&mut client, *partition, id, 0..2).await?;
    }
    cluster.stop().await
}
