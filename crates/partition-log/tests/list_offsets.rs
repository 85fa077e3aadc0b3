//! Lookups by time while records are deleted.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_io::RealThreads;
use highwater_partition_log::{
    FoundOffset, Isolation, LogConfig, LogContext, OffsetQuery, PartitionLog, ProducerMemory,
};
use highwater_protocol::records::BatchBuilder;
use highwater_runtime::{ByteBudget, WallClock, WorkPool};
use highwater_s3stream::{
    AppendPermit, AppendReceipt, FetchLimit, Fetched, OpenedStream, Roll, Stream, StreamBatch,
    StreamBounds, StreamError,
};
use highwater_types::{LeaderEpoch, StreamOffset, Timestamp};
use tokio::sync::watch;

/// A stream whose batches have one record each. While the largest timestamp is looked up, records are deleted.
#[derive(Debug)]
struct Shrinking {
    records: Vec<Timestamp>,
    start: Mutex<usize>,
    /// The log start after that lookup.
    deleted: usize,
}

impl Shrinking {
    fn left(&self) -> impl Iterator<Item = (Timestamp, StreamOffset)> {
        let all = self.records.iter().copied().zip(0..);
        all.skip(*self.start.lock().expect("is whole"))
    }
}

#[async_trait]
impl Stream for Shrinking {
    fn append(&self, _: AppendPermit, _: StreamOffset, _: &StreamBatch) -> AppendReceipt {
        unreachable!("nothing is appended")
    }

    fn fetch_cached(&self, _: StreamOffset, _: FetchLimit) -> Option<Fetched> {
        None
    }

    async fn fetch(
        &self,
        from: StreamOffset,
        limit: FetchLimit,
    ) -> Result<Vec<Bytes>, StreamError> {
        let found = self
            .left()
            .find(|(_, at)| (from..limit.before).contains(at));
        let batch = found.map(|(time, at)| {
            let mut batch = BatchBuilder::default();
            batch.push(time, None, Some(b"value"));
            let mut batch = batch.build().expect("is a batch").to_vec();
            // a batch begins with its base offset
            batch[..8].copy_from_slice(&at.to_be_bytes());
            Bytes::from(batch)
        });
        Ok(batch.into_iter().collect())
    }

    async fn offset_for_time(
        &self,
        from: StreamOffset,
        time: Timestamp,
    ) -> Result<Option<StreamOffset>, StreamError> {
        let mut left = self.left();
        let found = left.find(|(there, at)| *at >= from && *there >= time);
        Ok(found.map(|(_, at)| at))
    }

    async fn max_timestamp(&self) -> Result<Option<(Timestamp, StreamOffset)>, StreamError> {
        let found = self.left().max_by_key(|(time, _)| *time);
        *self.start.lock().expect("is whole") = self.deleted;
        Ok(found)
    }

    async fn trim(&self, _: StreamOffset) -> Result<(), StreamError> {
        unreachable!("nothing asks for it")
    }

    fn forget_state(&self, _: Timestamp, _: usize) {}

    fn rolls(&self) -> Vec<Roll> {
        Vec::new()
    }

    fn bounds(&self) -> StreamBounds {
        let end = StreamOffset::try_from(self.records.len()).expect("are few");
        StreamBounds {
            start: self.left().next().map_or(end, |(_, at)| at),
            confirmed: end,
            next: end,
        }
    }

    fn watch_bounds(&self) -> watch::Receiver<StreamBounds> {
        watch::Sender::new(self.bounds()).subscribe()
    }
}

fn open(stream: Shrinking) -> Result<Arc<PartitionLog>, StreamError> {
    let opened = OpenedStream {
        stream: Arc::new(stream),
        checkpoint: None,
        deltas: Vec::new(),
        entries: Vec::new(),
        rolls: Vec::new(),
    };
    let context = LogContext {
        clock: WallClock::system(),
        seed: 1,
        producers: ProducerMemory::new(1 << 20),
        pool: WorkPool::start(&RealThreads, ByteBudget::new(1 << 20)),
    };
    PartitionLog::open(
        opened,
        LeaderEpoch(1),
        Vec::new(),
        LogConfig::default(),
        context,
    )
}

// KAFKA-BEHAVIOUR 21
#[tokio::test]
async fn the_largest_time_is_of_one_moment() {
    for (deleted, expected) in [(0, (0, 300)), (1, (2, 200)), (3, (-1, -1))] {
        let stream = Shrinking {
            records: vec![300, 100, 200],
            start: Mutex::new(0),
            deleted,
        };
        let log = open(stream).expect("opens");
        let found = log
            .list_offsets(OffsetQuery::MaxTimestamp, Isolation::ReadUncommitted)
            .await;
        let FoundOffset {
            offset, timestamp, ..
        } = found.expect("is looked up");
        assert_eq!((offset, timestamp), expected, "{deleted}");
    }
}
