//! A whole node on a device whose disk fills up, hangs or fails.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use highwater_broker::node::Machine;
use highwater_client::Connection;
use highwater_io::Faults;
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::produce_response::PartitionProduceResponse;
use highwater_protocol::records::split_batches;
use highwater_tests::{LogLines, TestNode, large_batch, produce_request, producer_fields, until};
use tempfile::TempDir;

use super::damage::listen;
use super::{T0, batch, producer_batch};

async fn produce_within(
    client: &mut Connection,
    batch: Bytes,
    timeout_ms: i32,
) -> Result<PartitionProduceResponse> {
    let mut request = produce_request("t", 0, batch, -1);
    request.timeout_ms = timeout_ms;
    let mut answer = client.call(&request, 12).await?;
    Ok(answer.responses.remove(0).partition_responses.remove(0))
}

async fn high_watermark(client: &mut Connection) -> Result<i64> {
    let answer = client.call(&highwater_tests::latest("t"), 10).await?;
    Ok(answer.topics[0].partitions[0].offset)
}

// KAFKA-BEHAVIOUR 12, 14, 17; A2, I1, I2
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_durable_in_time_is_told_and_not_shown_and_its_repeat_waits() -> Result<()> {
    let (node, faults) = TestNode::start_faulty(TempDir::new()?, &[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let id = highwater_tests::producer_id(&mut client).await?;
    faults.syncs_hang.store(true, Ordering::SeqCst);
    // The first request is the batch itself, the second its repeat, which finds it appended and not durable.
    for _ in 0..2 {
        let answer = produce_within(
            &mut client,
            producer_batch(10, T0, producer_fields(id, 0)),
            200,
        )
        .await?;
        assert_eq!(answer.error_code, ErrorCode::RequestTimedOut.code());
        assert_eq!(answer.base_offset, -1);
        let message = answer.error_message.unwrap_or_default();
        assert!(message.contains("was written and not synced"), "{message}");
    }
    assert_eq!(high_watermark(&mut client).await?, 0, "I2");
    for offset in [0, 5, 10] {
        let (code, records) = highwater_tests::read(&mut client, "t", offset).await?;
        assert_eq!(
            (code, records.len()),
            (0, 0),
            "from {offset} to the log end there is nothing yet"
        );
    }
    let (code, _) = highwater_tests::read(&mut client, "t", 11).await?;
    assert_eq!(
        code,
        ErrorCode::OffsetOutOfRange.code(),
        "above the log end"
    );
    faults.syncs_hang.store(false, Ordering::SeqCst);
    let answer = produce_within(
        &mut client,
        producer_batch(10, T0, producer_fields(id, 0)),
        10_000,
    )
    .await?;
    assert_eq!(
        (answer.error_code, answer.base_offset),
        (0, 0),
        "the append stayed"
    );
    assert_eq!(high_watermark(&mut client).await?, 10, "once");
    Ok(())
}

// A5: what was not durable is not acknowledged, and nothing else may open files to which a thread still writes
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_while_the_disk_hangs_and_keeps_the_data_directory_locked() -> Result<()> {
    let (node, faults) = TestNode::start_faulty(TempDir::new()?, &[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let syncs = faults.syncs.load(Ordering::SeqCst);
    faults.syncs_hang.store(true, Ordering::SeqCst);
    let request = produce_request("t", 0, batch(10, T0), -1);
    let sent = client.send(&request, 12).await?;
    until("a sync hangs", async || {
        Ok(faults.syncs.load(Ordering::SeqCst) > syncs)
    })
    .await?;
    let dir = tokio::time::timeout(Duration::from_secs(60), node.stop()).await??;
    assert!(client.receive(sent).await.is_err(), "I1");
    let store = TestNode::local_store(&dir);
    let settings = [("highwater.object.storage", &*store)];
    let refused = TestNode::start_in(dir, &settings, Machine::real()).await;
    let refused = refused
        .expect_err("a thread still writes there")
        .to_string();
    assert!(
        refused.contains("is in use by another process"),
        "{refused}"
    );
    faults.syncs_hang.store(false, Ordering::SeqCst);
    Ok(())
}

// KAFKA-BEHAVIOUR 13; D3: a failed fsync ends the process, and is never tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_sync_ends_the_node_and_acknowledges_nothing() -> Result<()> {
    let (node, faults) = TestNode::start_faulty(TempDir::new()?, &[]).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    assert_eq!(client.produce("t", 0, batch(1, T0)).await?.error_code, 0);
    faults.syncs_fail.store(true, Ordering::SeqCst);
    let request = produce_request("t", 0, batch(1, T0), -1);
    let answer = client.call(&request, 12).await?;
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, ErrorCode::NotLeaderOrFollower.code());
    assert_eq!(partition.base_offset, -1);
    assert_eq!(partition.current_leader.leader_id, 1);
    assert_eq!(
        answer.node_endpoints[0].node_id, 1,
        "v10: where the leader is"
    );
    let older = client.call(&request, 9).await?;
    assert_eq!(older.node_endpoints.len(), 0);
    let why = tokio::time::timeout(Duration::from_secs(10), node.failed()).await?;
    assert!(why.contains("write-ahead log"), "{why}");
    faults.syncs_fail.store(false, Ordering::SeqCst);
    let again = client.produce("t", 0, batch(1, T0)).await?;
    assert_ne!(again.error_code, 0, "it stays ended");
    Ok(())
}

// D3: the same is true of the metadata's log.
#[tokio::test(flavor = "multi_thread")]
async fn a_metadata_log_that_cannot_sync_ends_the_node_with_the_file() -> Result<()> {
    let (node, faults) = TestNode::start_faulty(TempDir::new()?, &[]).await?;
    faults.syncs_fail.store(true, Ordering::SeqCst);
    assert!(node.create_topic("t", 1, &[]).await.is_err());
    let why = tokio::time::timeout(Duration::from_secs(10), node.failed()).await?;
    let log = node.dir.path().join("data").join("metadata").join("log");
    assert!(why.contains(&log.display().to_string()), "{why}");
    Ok(())
}

fn mebibyte() -> Bytes {
    large_batch(1_000_000, T0)
}

/// Produces until a batch is refused, and returns how many batches were acknowledged before.
pub(super) async fn fill(client: &mut Connection) -> Result<i64> {
    for acknowledged in 0..200 {
        let answer = produce_within(client, mebibyte(), 20_000).await?;
        if answer.error_code != 0 {
            assert_eq!(answer.error_code, ErrorCode::KafkaStorageError.code());
            return Ok(acknowledged);
        }
        assert_eq!(answer.base_offset, acknowledged);
    }
    anyhow::bail!("a full disk refuses nothing")
}

/// Reads every record up to `end`; each fetch goes on where the previous one ended.
async fn read_all(client: &mut Connection, end: i64) -> Result<()> {
    let mut offset = 0;
    while offset < end {
        let (code, records) = highwater_tests::read(client, "t", offset).await?;
        ensure!(code == 0, "{code} at {offset}");
        for (header, batch) in split_batches(&records)? {
            header.check_crc(&batch)?;
            ensure!(
                header.base_offset == offset,
                "{} at {offset}",
                header.base_offset
            );
            offset = header.next_offset();
        }
    }
    Ok(())
}

/// Takes a node's object store away until the node ends: no object can be put, for another reason than a full disk.
pub(super) struct Away(PathBuf);

impl Away {
    pub(super) fn begin(node: &TestNode) -> Result<Self> {
        let objects = node.objects();
        std::fs::rename(&objects, objects.with_extension("away"))?;
        std::fs::write(&objects, "no directory")?;
        Ok(Self(objects))
    }

    pub(super) fn end(self) -> Result<()> {
        std::fs::remove_file(&self.0)?;
        Ok(std::fs::rename(self.0.with_extension("away"), &self.0)?)
    }
}

/// Produces batches of one size one after the other, until each waits for room and is given up. Returns how many were
/// acknowledged before.
pub(super) async fn fill_until_late(client: &mut Connection, sizes: &[usize]) -> Result<i64> {
    let mut acknowledged = 0;
    for bytes in sizes {
        loop {
            let answer = produce_within(client, large_batch(*bytes, T0), 1_500).await?;
            if answer.error_code != 0 {
                assert_eq!(answer.error_code, ErrorCode::RequestTimedOut.code());
                break;
            }
            acknowledged += 1;
            ensure!(acknowledged < 300, "memory has no end");
        }
    }
    Ok(acknowledged)
}

/// Produces until a batch is acknowledged again, within a time limit.
async fn resumes(client: &mut Connection, at: i64) -> Result<()> {
    until("writes resume", async || {
        let answer = produce_within(client, mebibyte(), 1_000).await?;
        ensure!(
            answer.error_code != 0 || answer.base_offset == at,
            "something was appended meanwhile: {answer:?}"
        );
        Ok(answer.error_code == 0)
    })
    .await
}

// D3
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_alone_until_it_has_room_again() -> Result<()> {
    let settings = [
        ("highwater.memory.limit", "512MiB"),
        ("highwater.upload.interval.ms", "100"),
    ];
    let (node, faults) = TestNode::start_faulty(TempDir::new()?, &settings).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    faults.is_full.store(true, Ordering::SeqCst);
    let end = fill(&mut client).await?;
    assert!(end > 8, "the ring's files take {end} batches more");
    read_all(&mut client, end).await?;
    faults.is_full.store(false, Ordering::SeqCst);
    resumes(&mut client, end).await?;
    read_all(&mut client, end + 1).await
}

/// The settings of a log of 1 GiB, which uploads nothing before a quarter of the log, or of the memory, is in use.
const ROOMY: [(&str, &str); 3] = [
    ("highwater.memory.limit", "512MiB"),
    ("highwater.wal.size", "1GiB"),
    ("highwater.upload.interval.ms", "600000"),
];

fn wal(dir: &TempDir) -> PathBuf {
    dir.path().join("data").join("wal")
}

/// The number of the log's complete files of 16 MiB. The next file, which may be created in part, does not count.
fn wal_files(dir: &TempDir) -> Result<usize> {
    let files = highwater_tests::files_below(&wal(dir))?;
    let is_whole = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "log");
    Ok(files.iter().filter(is_whole).count())
}

// D3: room that an earlier process freed and did not use again is available at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_on_a_full_disk_writes_over_what_is_uploaded() -> Result<()> {
    let (node, _faults) = TestNode::start_faulty(TempDir::new()?, &ROOMY).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    for _ in 0..40 {
        let answer = produce_within(&mut client, mebibyte(), 20_000).await?;
        assert_eq!(answer.error_code, 0);
    }
    // The node is killed, so the next start uploads everything.
    let dir = super::starts::left_by(&node)?;
    drop((client, node));
    let before = wal_files(&dir)?;
    let faults = Arc::new(Faults::default());
    faults.fill_below(Some(wal(&dir)));
    let node = TestNode::start_with_faults(dir, &ROOMY, &faults).await?;
    // From now on nothing is uploaded, so that nothing else makes room.
    faults.is_full.store(true, Ordering::SeqCst);
    let mut client = node.client().await?;
    // The three or four files of 16 MiB have room for 9 or 25 batches after the first 40, and for 32 more in place of
    // those.
    for at in 0..36 {
        let answer = produce_within(&mut client, mebibyte(), 20_000).await?;
        assert_eq!((answer.error_code, answer.base_offset), (0, 40 + at));
    }
    assert_eq!(wal_files(&node.dir)?, before, "none was made");
    Ok(())
}

// D3, M1: no batch is refused because room was reserved for another, and uploads make room for all.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_at_once_more_than_its_files_do_as_it_is_uploaded() -> Result<()> {
    let (node, faults) = TestNode::start_faulty(TempDir::new()?, &ROOMY).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    for _ in 0..40 {
        let answer = produce_within(&mut client, mebibyte(), 20_000).await?;
        assert_eq!(answer.error_code, 0);
    }
    faults.fill_below(Some(wal(&node.dir)));
    for _ in 0..2 {
        let all = (0..96).map(|_| async {
            let mut client = node.client().await?;
            produce_within(&mut client, mebibyte(), 60_000).await
        });
        for answer in futures::future::try_join_all(all).await? {
            assert_eq!(answer.error_code, 0, "{answer:?}");
        }
    }
    assert_eq!(high_watermark(&mut client).await?, 40 + 192);
    Ok(())
}

// D3, M2: a full store below the data objects causes no refusal while ring and memory have room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_object_store_refuses_writes_once_memory_is_full_too() -> Result<()> {
    let settings = [
        ("highwater.memory.limit", "64MiB"),
        ("highwater.upload.interval.ms", "100"),
    ];
    let (node, faults) = TestNode::start_faulty(TempDir::new()?, &settings).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    faults.fill_below(Some(node.objects()));
    let end = fill(&mut client).await?;
    assert!(end > 16, "memory takes {end} batches more");
    read_all(&mut client, end).await?;
    assert_eq!(
        high_watermark(&mut client).await?,
        end,
        "reads and lookups go on"
    );
    faults.fill_below(None);
    resumes(&mut client, end).await?;
    read_all(&mut client, end + 1).await
}

// An outage is logged once when produce waits for it, and once when it is over, however often clients try again.
#[tokio::test]
async fn produce_that_is_held_back_is_said_once_and_that_it_goes_on_too() -> Result<()> {
    let said = LogLines::default();
    let _listening = listen(&said);
    let settings = [
        ("highwater.memory.limit", "64MiB"),
        ("highwater.upload.interval.ms", "100"),
    ];
    let (node, faults) = TestNode::start_faulty(TempDir::new()?, &settings).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    faults.fill_below(Some(node.objects()));
    let end = fill(&mut client).await?;
    for _ in 0..10 {
        let answer = produce_within(&mut client, mebibyte(), 1_000).await?;
        assert_eq!(answer.error_code, ErrorCode::KafkaStorageError.code());
    }
    faults.fill_below(None);
    resumes(&mut client, end).await?;
    for line in [
        "uploads fail, they are tried again",
        "uploads go on",
        "produce is held back",
        "produce is not held back any more",
    ] {
        assert_eq!(said.count(line), 1, "{line}");
    }
    assert_eq!(said.count(" WARN "), 2);
    let away = Away::begin(&node)?;
    let end = end + 1 + fill_until_late(&mut client, &[1_000_000]).await?;
    assert_eq!(
        fill_until_late(&mut client, &[1_000_000]).await?,
        0,
        "another waits in vain"
    );
    away.end()?;
    resumes(&mut client, end).await?;
    for line in ["produce is held back:", "produce is not held back any more"] {
        assert_eq!(said.count(line), 2, "{line}");
    }
    assert_eq!(said.count(" WARN "), 4);
    Ok(())
}

// D3: an object store that accepts nothing delays no stop, and no record is lost by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_stops_without_its_object_store() -> Result<()> {
    let settings = [("highwater.upload.interval.ms", "600000")];
    let (node, faults) = TestNode::start_faulty(TempDir::new()?, &settings).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    assert_eq!(client.produce("t", 0, batch(3, T0)).await?.error_code, 0);
    faults.is_full.store(true, Ordering::SeqCst);
    let dir = tokio::time::timeout(Duration::from_secs(60), node.stop()).await??;
    let (node, _faults) = TestNode::start_faulty(dir, &settings).await?;
    let mut client = node.client().await?;
    let (code, records) = highwater_tests::read(&mut client, "t", 0).await?;
    assert_eq!((code, records.is_empty()), (0, false));
    Ok(())
}
