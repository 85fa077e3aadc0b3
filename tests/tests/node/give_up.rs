//! What only a lost data directory held is given up, and the partitions go on 2^30 offsets above it (D4, D5).

use std::path::Path;

use anyhow::{Context, Result};
use highwater_broker::node::{GivingUp, Machine};
use highwater_client::{Connection, EARLIEST};
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::UnregisterBrokerRequest;
use highwater_protocol::records::BatchHeader;
use highwater_tests::{
    TestNode, commit, fetch, offset_at, producer_fields, producer_id, records, until,
};
use tempfile::TempDir;

use super::admin::delete_records;
use super::directories::{broker, end, kill, lent, produce};
use super::roles::{broker_settings, controller, store};
use super::starts::refusal;
use super::{T0, producer_batch};

/// Asks for the first record of the largest timestamp (KIP-734).
const MAX_TIMESTAMP: i64 = -3;
/// What a partition skips when its last records are given up.
const LOST: i64 = 1 << 30;
/// The settings of sessions that are short.
const SESSIONS: [(&str, &str); 2] = [
    ("broker.session.timeout.ms", "600"),
    ("broker.heartbeat.interval.ms", "100"),
];

/// The node epoch that a refused start names in the command that gives it up.
fn epoch_in(why: &str) -> Result<u64> {
    let named = why
        .split("--epoch ")
        .nth(1)
        .context("the command is named")?;
    let digits: String = named.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

/// The base offset of the first batch that a fetch from an offset finds, if any.
async fn first_from(client: &mut Connection, offset: i64) -> Result<Option<i64>> {
    let answer = client.call(&fetch("t", offset, 1), 12).await?;
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0, "at {offset}");
    let batch = records(&answer, 0, 0);
    let base = batch.first_chunk().map(|base| i64::from_be_bytes(*base));
    Ok(base)
}

/// The offset after a batch without records that a fetch gets, although it would wait.
async fn passes(client: &mut Connection, offset: i64) -> Result<i64> {
    let mut waits = fetch("t", offset, 1);
    (waits.max_wait_ms, waits.min_bytes) = (60_000, 1);
    let answer = client.call(&waits, 12).await?;
    let batch = records(&answer, 0, 0);
    let header = BatchHeader::read(&batch).context("there is a batch")?;
    header.check_crc(&batch)?;
    assert_eq!((header.base_offset, header.count), (offset, 0));
    Ok(header.next_offset())
}

/// Commits an offset of a group once its coordinator is loaded.
async fn commits(node: &TestNode, offset: i64) -> Result<()> {
    until("the offset is committed", async || {
        let mut client = node.client().await?;
        client
            .call(&highwater_client::find_coordinator("g"), 6)
            .await?;
        let answer = client.call(&commit("g", "t", offset), 8).await?;
        Ok(answer.topics[0].partitions[0].error_code == 0)
    })
    .await
}

/// Starts a controller with short sessions.
async fn quick_controller(store: &str) -> Result<TestNode> {
    let own = [
        ("process.roles", "controller"),
        ("node.id", "1"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", "1@127.0.0.1:1"),
        ("listeners", "CONTROLLER://127.0.0.1:0"),
        ("highwater.object.storage", store),
    ];
    let settings = [&own[..], &SESSIONS].concat();
    TestNode::start_in(TempDir::new()?, &settings, Machine::real()).await
}

// D4, D5
#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_directory_held_is_given_up_and_the_partition_goes_on_above_it() -> Result<()> {
    let objects = TempDir::new()?;
    let store = store(&objects);
    let controller = quick_controller(&store).await?;
    let address = controller.address;
    let node = broker(2, "disk", TempDir::new()?, &store, address).await?;
    node.create_topic("t", 1, &[]).await?;
    produce(&node, 0).await?;
    produce(&node, 0).await?;
    // a stop uploads everything
    let dir = node.stop().await?;
    let node = broker(2, "disk", dir, &store, address).await?;
    for _ in 0..3 {
        produce(&node, 0).await?;
    }
    commits(&node, 3).await?;
    let other = TempDir::new()?;
    let settings = broker_settings(2, "disk", &store, address);
    let settings = settings.each_ref().map(|(key, value)| (*key, &**value));
    let settings = [&settings[..], &SESSIONS].concat();
    let why = refusal(&other, &settings).await?;
    let epoch = epoch_in(&why)?;
    let config = TestNode::config(&other, &settings)?;
    let open = async |epoch| GivingUp::open(&config, &Machine::real(), (2, epoch)).await;
    let wrong = open(epoch + 1).await.expect_err("there is no such epoch");
    assert!(
        wrong.to_string().contains(&format!("is {epoch}")),
        "{wrong}"
    );
    let giving_up = open(epoch).await?;
    let refused = giving_up.carry_out().await;
    let refused = refused.expect_err("lives").to_string();
    assert!(refused.contains("the epoch was not fenced"), "{refused}");
    produce(&node, 0).await?;
    drop(kill(node));
    assert_eq!(epoch_in(&refusal(&other, &settings).await?)?, epoch);
    let loss = giving_up.loss().to_string();
    let goes_on = 2 + LOST;
    let named = format!("t-0: all from offset 2 on; it goes on at offset {goes_on}");
    assert!(loss.contains(&named), "{loss}");
    giving_up.carry_out().await?;
    giving_up.close().await?;

    let mut node = broker(2, "disk", other, &store, address).await?;
    assert_eq!(end(&node, 0).await?, goes_on);
    let mut client = node.client().await?;
    assert_eq!(first_from(&mut client, 0).await?, Some(0));
    // a consumer in the lost range goes on at its end, also before a record follows
    for offset in [2, 3, goes_on - 1] {
        assert_eq!(passes(&mut client, offset).await?, goes_on, "{offset}");
    }
    // and waits for the next record there
    let mut waits = fetch("t", goes_on, 1);
    (waits.max_wait_ms, waits.min_bytes) = (60_000, 1);
    let mut waiting = node.client().await?;
    let (found, done) = tokio::join!(waiting.call(&waits, 12), produce(&node, 0));
    done?;
    let batch = records(&found?, 0, 0);
    assert_eq!(batch.first_chunk(), Some(&goes_on.to_be_bytes()));
    for start in 0..2 {
        // a consumer that has read some of what is lost goes on behind it, from the cache and from objects
        for offset in [2, 5, goes_on] {
            let found = first_from(&mut client, offset).await?;
            assert_eq!(found, Some(goes_on), "{start} {offset}");
        }
        // the coordinators of groups load their partitions over the lost range
        commits(&node, 4).await?;
        let dir = node.stop().await?;
        node = broker(2, "disk", dir, &store, address).await?;
        assert_eq!(end(&node, 0).await?, goes_on + 1);
        client = node.client().await?;
    }
    drop(node.stop().await?);
    drop(controller.stop().await?);
    Ok(())
}

/// Kills a node that is its own controller, and gives up the log on its disk, which is lost.
async fn lose(node: TestNode, settings: &[(&str, &str)]) -> Result<TempDir> {
    let dir = kill(node);
    let log = dir.path().join("data").join("wal");
    until("the killed node has ended", async || {
        Ok(std::fs::remove_dir_all(&log).is_ok() || !log.exists())
    })
    .await?;
    let why = refusal(&dir, settings).await?;
    let config = TestNode::config(&dir, settings)?;
    let named = (1, epoch_in(&why)?);
    let giving_up = GivingUp::open(&config, &Machine::real(), named).await?;
    giving_up.carry_out().await?;
    giving_up.close().await?;
    Ok(dir)
}

/// The settings of a node that is its own controller and uploads nothing by itself.
fn combined(store: &str) -> Vec<(&str, &str)> {
    let own = [
        ("highwater.object.storage", store),
        ("highwater.upload.interval.ms", "600000"),
    ];
    [&own[..], &SESSIONS].concat()
}

// D4: the metadata is in the same data directory
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_log_of_a_node_that_is_its_own_controller_is_given_up() -> Result<()> {
    let dir = TempDir::new()?;
    let store = TestNode::local_store(&dir);
    let settings = combined(&store);
    let mut node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    node.create_topic("t", 1, &[]).await?;
    // ranges that are lost behind each other
    for count in 1..=3 {
        produce(&node, 0).await?;
        let dir = lose(node, &settings).await?;
        node = TestNode::start_in(dir, &settings, Machine::real()).await?;
        assert_eq!(end(&node, 0).await?, count * LOST);
    }
    let mut client = node.client().await?;
    let passed = passes(&mut client, 0).await?;
    assert_eq!(passed, 1 << 31, "the offsets of a batch have 31 bits");
    assert_eq!(passes(&mut client, passed).await?, 3 * LOST);
    produce(&node, 0).await?;
    assert_eq!(first_from(&mut client, passed).await?, Some(3 * LOST));
    drop(node.stop().await?);
    Ok(())
}

/// Sends a record of a producer; returns its offset, or the error.
async fn send(client: &mut Connection, id: i64, sequence: i32) -> Result<Result<i64, i16>> {
    let batch = producer_batch(1, T0, producer_fields(id, sequence));
    let answer = client.produce("t", 0, batch).await?;
    Ok(match answer.error_code {
        0 => Ok(answer.base_offset),
        code => Err(code),
    })
}

/// The offset that a client gets for a timestamp.
async fn offset_for(client: &mut Connection, timestamp: i64) -> Result<i64> {
    let answer = client.call(&offset_at("t", timestamp), 7).await?;
    let partition = &answer.topics[0].partitions[0];
    assert_eq!(partition.error_code, 0, "{timestamp}");
    Ok(partition.offset)
}

// D5, A4, I6
#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_stops_no_lookup_no_deletion_and_no_producer() -> Result<()> {
    let dir = TempDir::new()?;
    let store = TestNode::local_store(&dir);
    let settings = combined(&store);
    let node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    node.create_topic("t", 1, &[]).await?;
    let mut client = node.client().await?;
    let id = producer_id(&mut client).await?;
    assert_eq!(send(&mut client, id, 0).await?, Ok(0));
    // a stop uploads everything
    let dir = node.stop().await?;
    let node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    until("the partition is open", async || {
        Ok(end(&node, 0).await? == 1)
    })
    .await?;
    let mut client = node.client().await?;
    for sequence in 1..4 {
        assert_eq!(send(&mut client, id, sequence).await?, Ok(sequence.into()));
    }
    let dir = lose(node, &settings).await?;

    let goes_on = 1 + LOST;
    let mut node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    for deleted_to in [5, goes_on] {
        assert_eq!(end(&node, 0).await?, goes_on);
        let mut client = node.client().await?;
        let found = [EARLIEST, MAX_TIMESTAMP, T0, T0 + 1];
        let expected = match deleted_to {
            5 => [0, 0, 0, -1],
            _ => [5, -1, -1, -1],
        };
        for (timestamp, expected) in found.into_iter().zip(expected) {
            let found = offset_for(&mut client, timestamp).await?;
            assert_eq!(found, expected, "{timestamp} {deleted_to}");
        }
        let deleted = delete_records(&mut client, "t", deleted_to).await?;
        assert_eq!(deleted, (0, deleted_to));
        if deleted_to < goes_on {
            assert_eq!(passes(&mut client, deleted_to).await?, goes_on);
        }
        let dir = node.stop().await?;
        node = TestNode::start_in(dir, &settings, Machine::real()).await?;
    }
    assert_eq!(end(&node, 0).await?, goes_on);
    let mut client = node.client().await?;
    assert_eq!(send(&mut client, id, 0).await?, Ok(0), "a repeat");
    assert_eq!(send(&mut client, id, 4).await?, Ok(goes_on));
    assert_eq!(send(&mut client, id, 5).await?, Ok(goes_on + 1));
    let gap = ErrorCode::OutOfOrderSequenceNumber.code();
    assert_eq!(send(&mut client, id, 7).await?, Err(gap));
    drop(node.stop().await?);
    Ok(())
}

#[tokio::test]
async fn a_directory_that_no_node_has_used_is_refused_and_left_alone() -> Result<()> {
    let dir = TempDir::new()?;
    let store = TestNode::local_store(&dir);
    let config = TestNode::config(&dir, &combined(&store))?;
    for is_there in [false, true] {
        if is_there {
            std::fs::create_dir(dir.path().join("data"))?;
        }
        let refused = GivingUp::open(&config, &Machine::real(), (1, 5)).await;
        let why = refused.map(drop).expect_err("is refused").to_string();
        assert!(why.contains("no node has used"), "{why}");
        let made = walk(dir.path())?;
        assert_eq!(made, usize::from(is_there), "nothing is made");
    }
    Ok(())
}

/// The number of files and directories below a directory.
fn walk(dir: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        count += 1;
        if path.is_dir() {
            count += walk(&path)?;
        }
    }
    Ok(count)
}

// KIP-500's UnregisterBroker: a log on a disk that no partition waits for is given up with its broker
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_on_the_disk_wal_that_has_handed_over_its_partitions_is_unregistered() -> Result<()>
{
    let objects = TempDir::new()?;
    let store = store(&objects);
    let controller = controller(TempDir::new()?, &store, 0).await?;
    let start = async |id, dir| broker(id, "disk", dir, &store, controller.address).await;
    let (second, third) = (
        start(2, TempDir::new()?).await?,
        start(3, TempDir::new()?).await?,
    );
    // the partitions are given to the brokers in turn
    second.create_topic("t", 2, &[]).await?;
    produce(&third, 1).await?;
    let unregister = async || {
        let request = UnregisterBrokerRequest { broker_id: 3 };
        let answer = second.client().await?.call(&request, 0).await?;
        anyhow::Ok(ErrorCode::from_code(answer.error_code))
    };
    let dir = kill(third);
    until("its session is over", async || {
        Ok(unregister().await? != Some(ErrorCode::DuplicateBrokerRegistration))
    })
    .await?;
    // the record is in its log alone
    assert_eq!(unregister().await?, Some(ErrorCode::PolicyViolation));
    let third = start(3, dir).await?;
    produce(&third, 1).await?;
    let dir = third.stop().await?;
    assert_eq!(unregister().await?, Some(ErrorCode::None));
    assert_eq!(unregister().await?, Some(ErrorCode::BrokerIdNotRegistered));
    assert_eq!(end(&second, 1).await?, 2, "nothing is lost, nor skipped");
    // D2: the directory of the other broker is not this one's, though its own log is gone
    produce(&second, 0).await?;
    let of_second = kill(second);
    let refused = start(3, lent(&of_second)?).await;
    let refused = refused.map(drop).expect_err("is refused");
    let told = format!("{refused:#}");
    assert!(told.contains("is the data directory of node 2"), "{told}");
    // it may come back
    let third = start(3, dir).await?;
    let second = start(2, of_second).await?;
    assert_eq!(end(&second, 0).await?, 1);
    drop(third.stop().await?);
    drop(second.stop().await?);
    drop(controller.stop().await?);
    Ok(())
}
