//! Cold reads out of many small objects. Their memory is freed, whichever thread of the broker read (I11).

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use highwater_client::{Connection, Consumer, Limits};
use highwater_protocol::Records;
use highwater_protocol::records::split_batches;
use highwater_tests::connect;

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

/// A broker writes, is killed and starts again, and one consumer reads everything several times.
pub(crate) async fn run(plan: &Plan) -> Result<(Seen, u64)> {
    let dir = plan.dir.join("cold");
    let broker = Broker::start(&plan.binary, &dir, MEMORY_MIB, &SETTINGS).await?;
    clients::create_topics(broker.address).await?;
    let written = clients::backlog(broker.address, BACKLOG_BYTES, BATCH_BYTES).await?;
    // The broker is killed, so the next one uploads the records that it has not uploaded.
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
    let mut client = connect(address).await?;
    let limits = Limits {
        max_wait_ms: 10_000,
        ..Limits::default()
    };
    for _ in 0..TIMES {
        let offsets = (0..PARTITIONS).map(|partition| (partition, 0));
        let mut consumer = Consumer::new(BACKLOG.into(), offsets, limits);
        let mut bytes = 0;
        while bytes < written {
            let more = read_some(&mut client, &mut consumer).await?;
            ensure!(more > 0, "only {bytes} bytes of {written} are there");
            bytes += more;
        }
    }
    Ok(())
}

/// Sends one fetch of all partitions, and returns the number of bytes in the answer.
async fn read_some(client: &mut Connection, consumer: &mut Consumer) -> Result<u64> {
    let mut bytes = 0;
    for partition in consumer.fetch(client).await? {
        ensure!(partition.error_code == 0, "{partition:?}");
        let index = partition.partition_index;
        let mut next = consumer.offset(index).context("it was asked for")?;
        let records = partition.records.map(Records::into_bytes);
        for (batch, whole) in split_batches(&records.unwrap_or_default())? {
            ensure!(batch.base_offset == next, "a record is missing or twice");
            next = batch.next_offset();
            bytes += whole.len() as u64;
        }
        consumer.seek(index, next);
    }
    Ok(bytes)
}
