//! A reader that tails a log in the object store while puts take random times: a record is visible once it is durable,
//! and not before (W2, P9).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::TryStreamExt;
use highwater_broker::node::Machine;
use highwater_client::{Batch, Producer};
use highwater_object_storage::{
    Hooked, IoClass, MemoryStorage, ObjectKey, ObjectStorage, Operation, Plan,
};
use highwater_protocol::records::{BatchBuilder, Codec, split_batches};
use highwater_runtime::SeededRng;
use highwater_tests::{TestNode, read};
use tempfile::TempDir;

const RECORDS: i64 = 400;
const IN_FLIGHT: usize = 5;
const PRODUCERS: i64 = 4;

/// The value of a record, which no other record contains.
fn value(producer: i64, sequence: i64) -> String {
    format!("record {producer} {sequence};")
}

/// The records that the log's objects hold, up to the first number that is absent.
#[derive(Default)]
struct Durable {
    next: u64,
    bytes: Vec<u8>,
}

impl Durable {
    /// Reads the objects that were put since. The node has one epoch.
    async fn look(&mut self, store: &MemoryStorage) -> Result<()> {
        let keys = store.list(&ObjectKey::new("wal"), None);
        let keys: Vec<ObjectKey> = keys.map_ok(|entry| entry.key).try_collect().await?;
        loop {
            let name = format!("/{}", self.next);
            let Some(key) = keys.iter().find(|key| key.as_str().ends_with(&name)) else {
                return Ok(());
            };
            let (object, _) = store.get_suffix(key, 64 << 20, IoClass::ColdRead).await?;
            self.bytes.extend_from_slice(&object);
            self.next += 1;
        }
    }

    fn has(&self, value: &str) -> bool {
        let mut all = self.bytes.windows(value.len());
        all.any(|bytes| bytes == value.as_bytes())
    }
}

/// Produces with several batches in flight, and returns the offsets that were acknowledged.
async fn produce(node: &TestNode, number: i64, acknowledged: &AtomicI64) -> Result<Vec<i64>> {
    let mut client = node.client().await?;
    let mut producer = Producer::new("t".into(), 0, IN_FLIGHT);
    producer.init(&mut client).await?;
    let mut offsets = Vec::new();
    let mut next = 0;
    loop {
        while producer.has_room() && next < RECORDS / PRODUCERS {
            let mut batch = BatchBuilder::new(producer.next_fields(1), Codec::None);
            batch.push(1, None, Some(value(number, next).as_bytes()));
            let bytes = batch.build()?;
            producer.push(Batch { bytes, tag: next });
            next += 1;
        }
        producer.flush(&mut client).await?;
        match producer.receive(&mut client).await? {
            None => return Ok(offsets),
            Some(answered) => {
                offsets.push(answered.answer.base_offset);
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// Reads every record in order, and checks that each is durable.
async fn tail(node: &TestNode, store: &MemoryStorage, acknowledged: &AtomicI64) -> Result<()> {
    let mut client = node.client().await?;
    let (mut durable, mut seen) = (Durable::default(), 0);
    while seen < RECORDS {
        let before = acknowledged.load(Ordering::SeqCst);
        let (code, records) = read(&mut client, "t", seen).await?;
        ensure!(code == 0, "error {code} at {seen}");
        durable.look(store).await?;
        for (header, batch) in split_batches(&records)? {
            ensure!(header.base_offset == seen, "{header:?} at {seen}");
            let text = String::from_utf8_lossy(&batch);
            let value = text
                .split_once("record ")
                .and_then(|(_, rest)| rest.split_once(';'));
            let value = format!("record {};", value.map_or("", |(value, _)| value));
            ensure!(
                durable.has(&value),
                "{value} at {seen} is visible and not durable"
            );
            seen += 1;
        }
        ensure!(
            seen >= before,
            "{before} were acknowledged, and {seen} are visible"
        );
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_every_acknowledged_record_in_order_and_none_that_is_not_durable()
-> Result<()> {
    let inner = Arc::<MemoryStorage>::default();
    let store = Arc::new(Hooked::new(Arc::<MemoryStorage>::clone(&inner), |_| {
        Plan::pass()
    }));
    let machine = Machine {
        memory_store: Some(Arc::<Hooked>::clone(&store)),
        ..Machine::real()
    };
    let settings = [
        ("highwater.object.storage", "memory:"),
        ("highwater.wal", "object"),
        ("highwater.upload.interval.ms", "600000"),
        ("highwater.wal.object.token.interval.ms", "0"),
    ];
    let node = TestNode::start_in(TempDir::new()?, &settings, machine).await?;
    node.create_topic("t", 1, &[]).await?;
    // the delays differ so much that puts overtake each other, and some are hedged
    let rng = SeededRng::from_seed(1);
    store.set_hook(move |request| match request.operation {
        Operation::Put { .. } => {
            let delay = Duration::from_millis(rng.below(80));
            match rng.below(2) {
                0 => Plan::pass().delayed(delay).detached(),
                _ => Plan::pass().answer_delayed(delay).detached(),
            }
        }
        _ => Plan::pass(),
    });
    let acknowledged = AtomicI64::new(0);
    let tail = tail(&node, &inner, &acknowledged);
    let producers = (0..PRODUCERS).map(|number| produce(&node, number, &acknowledged));
    let producers = futures::future::try_join_all(producers);
    let (offsets, ()) = futures::try_join!(producers, tail)?;
    let offsets: BTreeSet<i64> = offsets.into_iter().flatten().collect();
    assert_eq!(offsets, (0..RECORDS).collect());
    drop(node.stop().await?);
    Ok(())
}
