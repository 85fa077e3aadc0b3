//! Cold reads out of many small objects: what they take is given back, whichever thread of the broker's read (I11).

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use highwater_protocol::StrBytes;
use highwater_protocol::messages::FetchRequest;
use highwater_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use highwater_protocol::records::split_batches;
use highwater_tests::Client;

use crate::broker::{Broker, Seen};
use crate::clients::{self, BACKLOG};
use crate::{PARTITIONS, Plan, say, watch};

const MEMORY_MIB: u64 = 128;
const BACKLOG_BYTES: u64 = 192 << 20;
const BATCH_BYTES: usize = 16 << 10;
const TIMES: usize = 3;
const SETTINGS: [&str; 2] = [
    "highwater.upload.interval.ms=50",
    "highwater.upload.size=64KiB",
];

/// A broker writes, is killed, starts again, and one consumer reads everything, a few times over.
pub(crate) async fn run(plan: &Plan) -> Result<(Seen, u64)> {
    let dir = plan.dir.join("cold");
    let broker = Broker::start(&plan.binary, &dir, MEMORY_MIB, &SETTINGS).await?;
    clients::create_topics(broker.address).await?;
    let written = clients::backlog(broker.address, BACKLOG_BYTES, BATCH_BYTES).await?;
    // killed: what it has not uploaded yet, the next one does
    drop(broker);
    let broker = Broker::start_again(&plan.binary, &dir, MEMORY_MIB, &SETTINGS).await?;
    let read = read_all(broker.address, written);
    let (read, mut most) = watch(&broker, read).await?;
    read?;
    most.join(&broker.look().await?);
    say(&format!("cold:    {} MiB, {most}", written >> 20));
    broker.stop().await?;
    Ok((most, MEMORY_MIB << 20))
}

async fn read_all(address: SocketAddr, written: u64) -> Result<()> {
    let mut client = Client::connect(address).await?;
    for _ in 0..TIMES {
        let mut next = vec![0; usize::try_from(PARTITIONS)?];
        let mut bytes = 0;
        while bytes < written {
            let more = read_some(&mut client, &mut next).await?;
            ensure!(more > 0, "only {bytes} bytes of {written} are there");
            bytes += more;
        }
    }
    Ok(())
}

/// One fetch from all partitions; answers how many bytes came.
async fn read_some(client: &mut Client, next: &mut [i64]) -> Result<u64> {
    let partition = |(partition, fetch_offset): (i32, &i64)| FetchPartition {
        partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        ..Default::default()
    };
    let request = FetchRequest {
        max_wait_ms: 10_000,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: StrBytes::from(BACKLOG),
            partitions: (0..).zip(next.iter()).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.send(&request, 12).await?;
    let mut bytes = 0;
    for partition in answer
        .responses
        .into_iter()
        .flat_map(|topic| topic.partitions)
    {
        ensure!(partition.error_code == 0, "{partition:?}");
        let Some(records) = partition.records else {
            continue;
        };
        let records = records.into_bytes();
        let index = usize::try_from(partition.partition_index)?;
        let next = next.get_mut(index).context("it was asked for")?;
        for (batch, whole) in split_batches(&records)? {
            ensure!(batch.base_offset == *next, "a record is missing or twice");
            *next = batch.base_offset + i64::from(batch.count);
            bytes += whole.len() as u64;
        }
    }
    Ok(bytes)
}
