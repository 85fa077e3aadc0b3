//! Reads of batches that only objects hold (DESIGN 5.5).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use bytes::Bytes;
use highwater_client::Connection;
use highwater_io::Faults;
use highwater_protocol::messages::{FetchRequest, FetchResponse};
use highwater_protocol::records::{BatchBuilder, split_batches};
use highwater_tests::{TestNode, fetch, records, until};
use tempfile::TempDir;

use super::{T0, batch};

const VALUE_BYTES: usize = 1_000_000;

/// Starts a node again, so that the log cache holds none of the batches of a megabyte in topic `t`.
async fn cold_node(batches: usize) -> Result<(TestNode, Arc<Faults>)> {
    let settings = [("highwater.memory.limit", "512MiB")];
    let (node, _) = TestNode::start_faulty(TempDir::new()?, &settings).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    for i in 0..batches {
        let mut batch = BatchBuilder::default();
        batch.push(T0, None, Some(&vec![u8::try_from(i % 251)?; VALUE_BYTES]));
        let answer = client.produce("t", 0, batch.build()?).await?;
        ensure!(answer.error_code == 0, "{answer:?}");
    }
    let dir = node.stop().await?;
    TestNode::start_faulty(dir, &settings).await
}

fn one(offset: i64, max_wait_ms: i32) -> FetchRequest {
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        ..fetch("t", offset, 1 << 20)
    }
}

fn base(answer: &FetchResponse) -> Result<Option<i64>> {
    let found = split_batches(&records(answer, 0, 0))?;
    Ok(found.first().map(|(header, _)| header.base_offset))
}

/// Reads one batch, so that the object's directory of the stream is cached.
async fn warm_up(client: &mut Connection) -> Result<()> {
    let answer = client.call(&one(0, 10_000), 12).await?;
    assert_eq!(base(&answer)?, Some(0));
    Ok(())
}

async fn until_reads(faults: &Faults, reads: u64) -> Result<()> {
    let enough = || faults.reads.load(Ordering::SeqCst) >= reads;
    until("it is read", async || Ok(enough())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_read_belongs_to_the_cache_and_not_to_the_fetch() -> Result<()> {
    let (node, faults) = cold_node(8).await?;
    let mut client = node.client().await?;
    warm_up(&mut client).await?;
    let before = faults.reads.load(Ordering::SeqCst);
    faults.hang_reads_below(Some(node.objects()));
    let answer = client.call(&one(5, 50), 12).await?;
    let partition = &answer.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (0, 8));
    assert_eq!(base(&answer)?, None, "empty, when it took too long");
    // A client that disconnects ends its fetch, but not the read of the object.
    let mut gone = node.client().await?;
    gone.send(&one(5, 60_000), 12).await?;
    drop(gone);
    faults.hang_reads_below(None);
    let answer = client.call(&one(5, 10_000), 12).await?;
    assert_eq!(base(&answer)?, Some(5));
    let reads = faults.reads.load(Ordering::SeqCst) - before;
    assert_eq!(reads, 1, "what was begun first is what is served");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_the_same_block_share_one_request() -> Result<()> {
    let (node, faults) = cold_node(8).await?;
    warm_up(&mut node.client().await?).await?;
    let before = faults.reads.load(Ordering::SeqCst);
    faults.hang_reads_below(Some(node.objects()));
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let mut client = node.client().await?;
        let id = client.send(&one(5, 30_000), 12).await?;
        waiting.push((client, id));
    }
    until_reads(&faults, before + 1).await?;
    faults.hang_reads_below(None);
    for (mut client, id) in waiting {
        let answer = client.receive(id).await?;
        assert_eq!(base(&answer)?, Some(5));
    }
    assert_eq!(faults.reads.load(Ordering::SeqCst) - before, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_read_ahead_of_in_fewer_requests_than_blocks() -> Result<()> {
    const BATCHES: i64 = 40;
    let (node, faults) = cold_node(usize::try_from(BATCHES)?).await?;
    let mut client = node.client().await?;
    let before = faults.reads.load(Ordering::SeqCst);
    for offset in 0..BATCHES {
        let answer = client.call(&one(offset, 10_000), 12).await?;
        let found = records(&answer, 0, 0);
        let batches = split_batches(&found)?;
        ensure!(batches.len() == 1, "{} at {offset}", batches.len());
        let (header, batch): &(_, Bytes) = &batches[0];
        header.check_crc(batch)?;
        assert_eq!(header.base_offset, offset);
    }
    let reads = faults.reads.load(Ordering::SeqCst) - before;
    assert!(
        reads <= 30,
        "{reads} requests for {BATCHES} blocks of a megabyte"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_partition_does_not_starve_a_cold_one() -> Result<()> {
    let (node, _faults) = cold_node(4).await?;
    node.create_topic("busy", 1, &[]).await?;
    let mut client = node.client().await?;
    client.produce("busy", 0, batch(1, T0)).await?;
    let mut both = one(0, 10_000);
    let cold = both.topics.remove(0);
    both.topics = fetch("busy", 0, 1 << 20).topics;
    both.topics.push(cold);
    both.max_bytes = 10 << 20;
    until("the cold partition is served", async || {
        let answer = client.call(&both, 12).await?;
        ensure!(
            !records(&answer, 0, 0).is_empty(),
            "the busy one is always served"
        );
        Ok(!records(&answer, 1, 0).is_empty())
    })
    .await
}
