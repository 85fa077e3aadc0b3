//! The crowd: clients that hold connections, read slowly, never read, or stop within a request.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use highwater_client::{encode, new_topic};
use highwater_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use highwater_protocol::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest};
use highwater_protocol::records::BatchBuilder;
use highwater_protocol::{ApiKey, Request, StrBytes};
use highwater_tests::{connect, produce_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::{Counts, PARTITIONS};

pub(crate) const BACKLOG: &str = "backlog";
/// The topic of the well-behaved clients.
pub(crate) const TAIL: &str = "tail";
/// A topic that no client writes to, so that a fetch of it waits.
const EMPTY: &str = "empty";
const RECORD_BYTES: usize = 4 << 10;
/// The size of a socket's receive buffer in the kernel, for a client that reads nothing.
const RECEIVE_BYTES: u32 = 16 << 10;
/// The time after which a client whose connection was closed connects again.
const REST: Duration = Duration::from_millis(500);

pub(crate) async fn create_topics(address: SocketAddr) -> Result<()> {
    let topics = [(BACKLOG, PARTITIONS), (TAIL, 1), (EMPTY, 1)];
    let topics = topics.map(|(name, partitions)| new_topic(name, partitions, &[]));
    let request = highwater_client::create_topics(topics.into());
    let answer = connect(address).await?.call(&request, 7).await?;
    let refused = answer.topics.iter().find(|topic| topic.error_code != 0);
    ensure!(refused.is_none(), "{refused:?}");
    Ok(())
}

/// Writes about this many bytes to all partitions together, in batches of this size; returns the number of bytes.
pub(crate) async fn backlog(address: SocketAddr, bytes: u64, batch_bytes: usize) -> Result<u64> {
    let mut batch = BatchBuilder::default();
    for number in 0..batch_bytes / RECORD_BYTES {
        batch.push(i64::try_from(number)?, None, Some(&[7; RECORD_BYTES]));
    }
    let batch = batch.build()?;
    let each = bytes / batch.len() as u64 / u64::from(PARTITIONS.unsigned_abs());
    let mut writers = JoinSet::new();
    for partition in 0..PARTITIONS {
        let batch = batch.clone();
        writers.spawn(async move {
            let mut client = connect(address).await?;
            for _ in 0..each {
                let answer = client.produce(BACKLOG, partition, batch.clone()).await?;
                ensure!(answer.error_code == 0, "{answer:?}");
            }
            Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(each * batch.len() as u64 * u64::from(PARTITIONS.unsigned_abs()))
}

/// Connects from one of several addresses, with a small window.
async fn connect_small(address: SocketAddr, number: usize) -> Result<TcpStream> {
    let host = 2 + u8::try_from(number % 10)?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BYTES)?;
    socket.bind((IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), 0).into())?;
    Ok(socket.connect(address).await?)
}

fn frame<R: Request>(request: &R, version: i16) -> Vec<u8> {
    let parts = encode(request, version, 1, "crowd");
    parts
        .expect("texts and frames of the clients are short")
        .concat()
}

async fn hold(address: SocketAddr, number: usize) -> Result<TcpStream> {
    let mut socket = connect_small(address, number).await?;
    let request = frame(&ApiVersionsRequest::default(), 0);
    socket.write_all(&request).await?;
    let length = usize::try_from(socket.read_i32().await?)?;
    socket.read_exact(&mut vec![0; length]).await?;
    Ok(socket)
}

/// Makes an ordinary fetch of one partition, by its topic's name, which waits for longer than the run takes.
fn waiting_fetch() -> Vec<u8> {
    let partition = FetchPartition {
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        ..Default::default()
    };
    let request = FetchRequest {
        max_wait_ms: i32::MAX,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: StrBytes::from(EMPTY),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    frame(&request, 12)
}

/// Requests the broker's versions once, then fetches records that never come, and stays connected.
pub(crate) async fn idle(address: SocketAddr, number: usize, counts: Arc<Counts>) {
    loop {
        let fetch = waiting_fetch();
        if let Ok(mut socket) = hold(address, number).await
            && socket.write_all(&fetch).await.is_ok()
        {
            counts.idle.fetch_add(1, Ordering::Relaxed);
            // This resolves when the broker closes the connection, or when it answers, which it should not.
            drop(socket.read_u8().await);
            counts.idle.fetch_sub(1, Ordering::Relaxed);
        }
        tokio::time::sleep(REST).await;
    }
}

fn large_fetch(number: usize) -> Vec<u8> {
    // Half of the clients begin at the start, which is in objects, and half near the end, which is in memory.
    let fetch_offset = if number % 4 < 2 { 0 } else { 14_000 };
    let partition_max_bytes = if number.is_multiple_of(3) {
        16 << 20
    } else {
        1 << 20
    };
    let partitions = (0..PARTITIONS).map(|partition| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes,
        current_leader_epoch: -1,
        ..Default::default()
    });
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: StrBytes::from(BACKLOG),
            partitions: partitions.collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    frame(&request, 12)
}

async fn take_slowly(address: SocketAddr, number: usize, counts: &Counts) -> Result<()> {
    let mut socket = connect_small(address, number).await?;
    socket.write_all(&large_fetch(number)).await?;
    counts.slow_opened.fetch_add(1, Ordering::Relaxed);
    let mut some = [0; 4 << 10];
    // Odd clients read 4 KiB a second, even ones nothing.
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if number % 2 == 1 {
            let taken = socket.read(&mut some).await?;
            ensure!(taken > 0, "closed by the broker");
            counts.slow_bytes.fetch_add(taken as u64, Ordering::Relaxed);
        } else {
            // The client notices that the connection is closed without reading from it.
            socket.write_all(&[]).await?;
            ensure!(socket.take_error()?.is_none(), "closed by the broker");
        }
    }
}

/// Requests 50 MiB and reads a little of it, or nothing; connects again when the connection is closed.
pub(crate) async fn slow(address: SocketAddr, number: usize, counts: Arc<Counts>) {
    loop {
        drop(take_slowly(address, number, &counts).await);
        tokio::time::sleep(REST).await;
    }
}

fn small_batch() -> Result<Bytes> {
    let mut batch = BatchBuilder::default();
    batch.push(0, None, Some(&[7; 100]));
    Ok(batch.build()?)
}

async fn send_for_ever(address: SocketAddr, number: usize, counts: &Counts) -> Result<()> {
    let mut socket = connect_small(address, number).await?;
    let request = match number % 2 {
        0 => frame(&MetadataRequest::default(), 12),
        _ => frame(&produce_request(BACKLOG, 0, small_batch()?, 1), 9),
    };
    loop {
        socket.write_all(&request).await?;
        counts.deaf_sent.fetch_add(1, Ordering::Relaxed);
        if counts.deaf_sent.load(Ordering::Relaxed).is_multiple_of(64) {
            tokio::task::yield_now().await;
        }
    }
}

/// Sends requests for ever, and reads no answer.
pub(crate) async fn deaf(address: SocketAddr, number: usize, counts: Arc<Counts>) {
    loop {
        drop(send_for_ever(address, number, &counts).await);
        tokio::time::sleep(REST).await;
    }
}

async fn send_half(address: SocketAddr, number: usize, counts: &Counts) -> Result<()> {
    let mut socket = connect_small(address, number).await?;
    let key = match number % 2 {
        0 => ApiKey::Produce,
        _ => ApiKey::Metadata,
    };
    let length: i32 = match number % 5 {
        0 => i32::MAX,
        _ => 4 << 20,
    };
    socket.write_i32(length).await?;
    socket.write_i16(key as i16).await?;
    socket.write_all(&[0; 1000]).await?;
    counts.half_opened.fetch_add(1, Ordering::Relaxed);
    let closed = socket.read_u8().await;
    closed.map(|_| ()).context("closed by the broker")
}

/// Sends the beginning of a large frame, and stops.
pub(crate) async fn half(address: SocketAddr, number: usize, counts: Arc<Counts>) {
    loop {
        drop(send_half(address, number, &counts).await);
        tokio::time::sleep(REST).await;
    }
}
