//! Objects that are lost or changed. Reads of their records end with an error that names them, and everything else goes
//! on (I9).

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use highwater_client::Connection;
use highwater_object_format::{FOOTER_BYTES, Footer, HEADER_BYTES, StreamDirectory};
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::produce_response::PartitionProduceResponse;
use highwater_tests::{
    LogLines, TestNode, fetch, files_below, produce_request, producer_fields, records, until,
};
use tempfile::TempDir;

use super::starts::start;
use super::{T0, batch, producer_batch};

/// Captures the log of this thread until the guard is dropped.
pub(super) fn listen(lines: &LogLines) -> tracing::subscriber::DefaultGuard {
    // While there is one subscriber, tracing asks only the first thread that reaches an event whether it has
    // interest, and caches the answer. A thread of another test, which has no subscriber, would silence the event
    // here. With a global subscriber every answer is yes.
    static FOR_ALL_THREADS: Once = Once::new();
    FOR_ALL_THREADS.call_once(|| {
        let subscriber = tracing_subscriber::fmt().with_writer(std::io::sink);
        tracing::subscriber::set_global_default(subscriber.finish()).expect("it is the only one");
    });
    let lines = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || lines.clone());
    tracing::subscriber::set_default(subscriber.finish())
}

/// Whether a line of a level contains a text, among those that were logged since the last call.
fn names(lines: &LogLines, level: &str, text: &str) -> bool {
    let lines = lines.take();
    let mut lines = lines.lines();
    lines.any(|line| line.contains(level) && line.contains(text))
}

/// Produces ten records to each of some topics and stops the node, so that all records are in one object.
async fn write(node: TestNode, topics: &[(&str, i64)]) -> Result<TempDir> {
    let mut client = node.client().await?;
    for (topic, base) in topics {
        let answer = client.produce(topic, 0, batch(10, T0 + base)).await?;
        ensure!(answer.error_code == 0, "{answer:?}");
    }
    node.stop().await
}

/// Makes a node whose partition was written by a producer with an id, in the node's first life and in a later one. The
/// producer state is in the last object.
async fn two_objects_of_a_producer() -> Result<TempDir> {
    let node = start(TempDir::new()?).await?;
    node.create_topic("t", 1, &[]).await?;
    node.create_topic("u", 1, &[]).await?;
    let mut dir = write(node, &[("u", 1000)]).await?;
    for base_sequence in [0, 10] {
        let node = start(dir).await?;
        let batch = producer_batch(10, T0, producer_fields(7, base_sequence));
        let answer = node.client().await?.produce("t", 0, batch).await?;
        ensure!(answer.error_code == 0, "{answer:?}");
        dir = node.stop().await?;
    }
    Ok(dir)
}

/// Makes two objects of `t`, which hold offsets 0 to 9 and 10 to 19, then one of `u`.
async fn three_objects() -> Result<TempDir> {
    let node = start(TempDir::new()?).await?;
    node.create_topic("t", 1, &[]).await?;
    node.create_topic("u", 1, &[]).await?;
    let dir = write(node, &[("t", 0)]).await?;
    let dir = write(start(dir).await?, &[("t", 100)]).await?;
    write(start(dir).await?, &[("u", 1000)]).await
}

/// The data objects of a store, oldest first, each with its file and its key.
pub(super) fn objects(dir: &TempDir) -> Result<Vec<(PathBuf, String)>> {
    let root = dir.path().join("data/objects");
    let mut found = Vec::new();
    for path in files_below(&root)? {
        // The form of a key is highwater-<cluster>/data/<hash>/<node>/<epoch>/u/<number>.
        let parts: Vec<_> = path.strip_prefix(&root)?.iter().skip(1).collect();
        let key: PathBuf = parts.iter().collect();
        let key = key.to_str().context("keys are text")?.to_owned();
        let numbers: Vec<u64> = key
            .split('/')
            .filter_map(|part| part.parse().ok())
            .collect();
        if key.starts_with("data/") {
            found.push((numbers, path, key));
        }
    }
    found.sort_by_key(|(numbers, ..)| numbers[numbers.len() - 2..].to_vec());
    Ok(found
        .into_iter()
        .map(|(_, path, key)| (path, key))
        .collect())
}

/// Fetches the error and the records of a topic from an offset on, however long the reads of objects take.
async fn read(client: &mut Connection, topic: &str, offset: i64) -> Result<(i16, Bytes)> {
    let mut request = fetch(topic, offset, 1 << 20);
    (request.max_wait_ms, request.min_bytes) = (20_000, 1);
    let answer = client.call(&request, 12).await?;
    let code = answer.responses[0].partitions[0].error_code;
    Ok((code, records(&answer, 0, 0)))
}

/// All records of the undamaged node: those of `t`, those in its second object, and those of `u`.
async fn sound(node: &TestNode) -> Result<[Bytes; 3]> {
    let mut client = node.client().await?;
    let mut found = Vec::new();
    for (topic, offset) in [("t", 0), ("t", 10), ("u", 0)] {
        let (code, records) = read(&mut client, topic, offset).await?;
        ensure!(code == 0 && !records.is_empty(), "{topic} {offset}: {code}");
        found.push(records);
    }
    found.try_into().ok().context("three")
}

/// Fetches `t` and `u` together until one has an error and the other has records.
async fn error_beside_records(client: &mut Connection, u: &Bytes) -> Result<i16> {
    let mut request = fetch("t", 0, 1 << 20);
    (request.max_wait_ms, request.min_bytes) = (1000, 1);
    request.topics.extend(fetch("u", 0, 1 << 20).topics);
    for _ in 0..100 {
        let answer = client.call(&request, 12).await?;
        let (t, served) = (&answer.responses[0].partitions[0], records(&answer, 1, 0));
        assert!(records(&answer, 0, 0).is_empty(), "nothing wrong is served");
        assert_eq!(answer.responses[1].partitions[0].error_code, 0);
        if t.error_code != 0 && !served.is_empty() {
            assert_eq!(served, *u);
            return Ok(t.error_code);
        }
    }
    anyhow::bail!("they are never answered together")
}

/// Produces to `t` until it is open, as a client does.
async fn opened(client: &mut Connection) -> Result<PartitionProduceResponse> {
    for _ in 0..300 {
        let answer = client.produce("t", 0, batch(1, T0)).await?;
        if answer.error_code != ErrorCode::KafkaStorageError.code() {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("it is never opened")
}

#[tokio::test]
async fn a_lost_object_is_an_error_of_what_it_held_alone() -> Result<()> {
    let said = LogLines::default();
    let _listening = listen(&said);
    let dir = three_objects().await?;
    let (lost, key) = objects(&dir)?.swap_remove(0);
    let node = start(dir).await?;
    let [all, second, u] = sound(&node).await?;
    let node = start(node.stop().await?).await?;
    let kept = node.dir.path().join("kept");
    std::fs::rename(&lost, &kept)?;
    let mut client = node.client().await?;
    // The node is running, and has cached the object's directory of the partition.
    let code = error_beside_records(&mut client, &u).await?;
    assert_eq!(code, ErrorCode::KafkaStorageError.code());
    assert!(names(&said, "WARN", &key));
    assert_eq!(read(&mut client, "t", 10).await?, (0, second));
    assert_eq!(client.produce("t", 0, batch(1, T0)).await?.base_offset, 20);
    std::fs::rename(&kept, &lost)?;
    // A failed read is answered with its error for a second before it is tried again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (code, found) = read(&mut client, "t", 0).await?;
    assert_eq!((code, found.slice(..all.len())), (0, all));
    Ok(())
}

#[tokio::test]
async fn a_partition_that_cannot_be_opened_is_opened_again_and_holds_up_no_other() -> Result<()> {
    let said = LogLines::default();
    let _listening = listen(&said);
    let dir = two_objects_of_a_producer().await?;
    let (lost, key) = objects(&dir)?.pop().context("three")?;
    let node = start(dir).await?;
    let [all, _, u] = sound(&node).await?;
    let dir = node.stop().await?;
    let kept = dir.path().join("kept");
    std::fs::rename(&lost, &kept)?;
    let settings = [("highwater.upload.interval.ms", "600000")];
    let (node, faults) = TestNode::start_faulty(dir, &settings).await?;
    assert!(names(&said, "ERROR", &key));
    let mut client = node.client().await?;
    let code = error_beside_records(&mut client, &u).await?;
    assert_eq!(code, ErrorCode::KafkaStorageError.code());
    // Neither a change of the metadata nor another attempt triggers an attempt; each attempt reads the object.
    let before = faults.missing.load(Ordering::SeqCst);
    for i in 0..30 {
        node.create_topic(&format!("other-{i}"), 1, &[]).await?;
    }
    let attempts = faults.missing.load(Ordering::SeqCst) - before;
    assert!(attempts < 15, "{attempts} attempts");
    // An attempt includes a command, which is synced, and a failed read is cached for a second, so attempts are at
    // least a second apart.
    let syncs_before = faults.syncs.load(Ordering::SeqCst);
    let seen = faults.missing.load(Ordering::SeqCst);
    let missing = || faults.missing.load(Ordering::SeqCst);
    until("it is tried again", async || Ok(missing() > seen + 1)).await?;
    let syncs = faults.syncs.load(Ordering::SeqCst) - syncs_before;
    assert!(syncs < 50, "{syncs} syncs for some attempts");
    assert!(!names(&said, "ERROR", &key), "it is said once");
    assert_eq!(client.produce("u", 0, batch(1, T0)).await?.base_offset, 10);
    let mut request = produce_request("t", 0, batch(1, T0), -1);
    request.timeout_ms = 100;
    let refused = client.call(&request, 12).await?;
    let code = refused.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ErrorCode::KafkaStorageError.code());
    std::fs::rename(&kept, &lost)?;
    // Only the object changed.
    let answer = opened(&mut client).await?;
    assert_eq!((answer.error_code, answer.base_offset), (0, 20));
    let (code, found) = read(&mut client, "t", 0).await?;
    assert_eq!((code, found.slice(..all.len())), (0, all));
    Ok(())
}

/// The kinds of damage to the first object of `t`: a name, and the object's bytes then.
fn damaged(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let whole = std::fs::read(path)?;
    let object = Bytes::from(whole.clone());
    let footer = Footer::parse(&object)?;
    let index_at = usize::try_from(footer.position)?;
    let index_end = index_at + usize::try_from(footer.bytes)?;
    let index = object.slice(index_at..index_end);
    let part = Footer::directories(&index)?[0];
    let directory_at = usize::try_from(part.position)?;
    let directory = object.slice(directory_at..directory_at + usize::try_from(part.bytes)?);
    let directory = StreamDirectory::parse(&directory)?;
    let block_at = usize::try_from(directory.blocks[0].position)?;
    ensure!(block_at == HEADER_BYTES, "the block is the first thing");
    let flip = |at: usize| {
        let mut changed = whole.clone();
        changed[at] ^= 0x40;
        changed
    };
    let places = [
        ("the head of a block", block_at + 8),
        ("a block's records", directory_at - 30),
        ("a block's last byte", directory_at - 1),
        ("a directory", directory_at + 12),
        ("an offset in a directory", directory_at + 39),
        ("the index", index_at + 8),
        ("the header at its end", index_end + 30),
        ("the footer", whole.len() - FOOTER_BYTES + 2),
        ("the last byte", whole.len() - 1),
    ];
    let mut all: Vec<_> = places
        .iter()
        .map(|(what, at)| ((*what).to_owned(), flip(*at)))
        .collect();
    for length in [0, 1, directory_at / 2, whole.len() - 1] {
        all.push((format!("cut to {length}"), whole[..length].to_vec()));
    }
    Ok(all)
}

#[tokio::test]
async fn an_object_that_rots_anywhere_serves_nothing_wrong() -> Result<()> {
    let said = LogLines::default();
    let _listening = listen(&said);
    let mut dir = three_objects().await?;
    let (rotten, key) = objects(&dir)?.swap_remove(0);
    let node = start(dir).await?;
    let [.., u] = sound(&node).await?;
    dir = node.stop().await?;
    for (what, bytes) in damaged(&rotten)? {
        std::fs::write(&rotten, bytes)?;
        let node = start(dir).await?;
        let mut client = node.client().await?;
        let code = error_beside_records(&mut client, &u).await;
        let code = code.with_context(|| what.clone())?;
        let told = [ErrorCode::CorruptMessage, ErrorCode::NotLeaderOrFollower];
        assert!(
            told.iter().any(|error| error.code() == code),
            "{what}: {code}"
        );
        assert!(names(&said, "", &key), "{what}: the object is named");
        dir = node.stop().await?;
    }
    Ok(())
}
