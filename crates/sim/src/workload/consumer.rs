//! A consumer of one partition. It reads from the log start to the end, and again after every broken connection, and asks
//! where a leader epoch ended.

use bytes::Bytes;
use highwater_client::{EARLIEST, LATEST, Limits, Topic, list_offsets};
use highwater_protocol::messages::OffsetForLeaderEpochRequest;
use highwater_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use highwater_protocol::{ErrorCode, StrBytes};

use super::{Again, Clients, Connection, records};
use crate::checker::{Assignment, Known, TopicPartition};

const WAIT_MS: i32 = 300;

struct Consumer<'a> {
    clients: &'a Clients,
    at: TopicPartition,
    connection: Connection,
    inner: highwater_client::Consumer,
}

/// Follows the partition until all is calm and everything is read.
pub(super) async fn run(clients: &Clients, at: TopicPartition) {
    loop {
        let followed = async {
            let mut consumer = Consumer::open(clients, at).await?;
            consumer.read_to_end().await?;
            consumer.asks_for_an_epoch().await?;
            let passes = 1 + clients.rng.below(40);
            for _ in 0..passes {
                consumer.fetch().await?;
                if !clients.is_producing() {
                    break;
                }
            }
            Ok::<_, Again>(())
        };
        match followed.await {
            Err(Again::Violation) => return,
            Ok(()) if clients.is_calm() && !clients.is_producing() => break,
            Ok(()) => {}
            Err(Again::Later) => clients.rest(200).await,
        }
    }
    read_all(clients, at).await;
}

/// Asks once where the partition begins and ends.
pub(super) async fn look(clients: &Clients, at: TopicPartition) -> Result<(i64, i64), Again> {
    let mut consumer = Consumer::open(clients, at).await?;
    Ok((consumer.offset(), consumer.list(LATEST).await?))
}

/// Reads the whole partition once.
pub(super) async fn read_all(clients: &Clients, at: TopicPartition) {
    loop {
        let read = async {
            let mut consumer = Consumer::open(clients, at).await?;
            consumer.read_to_end().await?;
            consumer.asks_for_an_epoch().await
        };
        match read.await {
            Ok(()) | Err(Again::Violation) => return,
            Err(Again::Later) => clients.rest(200).await,
        }
    }
}

impl<'a> Consumer<'a> {
    /// Connects, and asks where the partition begins.
    async fn open(clients: &'a Clients, at: TopicPartition) -> Result<Self, Again> {
        let connection = Connection::open_to_leader(clients, at).await?;
        let max_bytes = i32::try_from(1 + clients.rng.below(200_000)).unwrap_or(1);
        let limits = Limits {
            max_bytes,
            partition_max_bytes: max_bytes,
            min_bytes: 1,
            max_wait_ms: WAIT_MS,
        };
        let topic = Topic::from(at.topic);
        let mut consumer = Self {
            clients,
            at,
            connection,
            inner: highwater_client::Consumer::new(topic, [(at.index, 0)], limits),
        };
        let known = consumer.known();
        let end = consumer.list(LATEST).await?;
        let start = consumer.list(EARLIEST).await?;
        clients.check_bounds(at, known, start, end);
        consumer.inner.seek(at.index, start);
        Ok(consumer)
    }

    /// The next offset to read.
    fn offset(&self) -> i64 {
        self.inner.offset(self.at.index).unwrap_or(0)
    }

    fn known(&self) -> Known {
        let checker = &self.clients.checker;
        let epoch = self.connection.epoch();
        checker.partition(self.at, |history| history.known(epoch))
    }

    fn violation(&self, what: &str) -> Again {
        let what = format!("{}: {what}", self.at);
        self.clients.checker.check(Err(what));
        Again::Violation
    }

    async fn list(&mut self, timestamp: i64) -> Result<i64, Again> {
        let request = list_offsets(self.at.topic, [self.at.index], timestamp);
        let answer = self.connection.call(&request, 7).await?;
        let found = answer.topics.first().and_then(|t| t.partitions.first());
        let found = found.ok_or_else(|| self.violation("no offset is answered"))?;
        self.clients.expect("ListOffsets", found.error_code)?;
        Ok(found.offset)
    }

    /// Reads every offset in order, from the current one to the high watermark.
    async fn read_to_end(&mut self) -> Result<(), Again> {
        while self.fetch().await? > self.offset() {
            if self.clients.checker.violation().is_some() {
                return Err(Again::Violation);
            }
        }
        Ok(())
    }

    /// Sends one fetch, and returns the high watermark.
    async fn fetch(&mut self) -> Result<i64, Again> {
        let known = self.known();
        let (on, up) = self.connection.split();
        let fetched = up.run(self.inner.fetch(on)).await?;
        let found = fetched.into_iter().next();
        let found = found.ok_or_else(|| self.violation("no partition is answered"))?;
        if found.error_code == ErrorCode::OffsetOutOfRange.code() {
            return self.out_of_range();
        }
        self.clients.expect("Fetch", found.error_code)?;
        let (start, end) = (found.log_start_offset, found.high_watermark);
        self.clients.check_bounds(self.at, known, start, end);
        let bytes = found.records.map(|records| records.into_bytes());
        self.take(&bytes.unwrap_or_default(), end)?;
        Ok(end)
    }

    /// Goes on at the log start after an answer that the offset is out of range. Only deleted records may cause this
    /// answer.
    fn out_of_range(&self) -> Result<i64, Again> {
        let checker = &self.clients.checker;
        let now_ms = self.clients.now_ms();
        let may_be_trimmed = checker.partition(self.at, |history| {
            history.ages(now_ms);
            history.may_be_trimmed(self.offset())
        });
        if may_be_trimmed {
            return Err(Again::Later);
        }
        Err(self.violation(&format!("offset {} is out of range", self.offset())))
    }

    fn take(&mut self, bytes: &Bytes, end: i64) -> Result<(), Again> {
        let found = records::read(bytes).map_err(|what| self.violation(&what))?;
        let checker = &self.clients.checker;
        checker.check_partition(self.at, |history| {
            let mut all = found.iter();
            all.try_for_each(|read| history.read(read.offset, read.leader_epoch, read.identity))
        });
        let offsets: Vec<i64> = found.iter().map(|read| read.offset).collect();
        let mut assignment = Assignment::new(self.offset());
        if let Err(violation) = assignment.polled(&offsets, end) {
            checker.check(Err(violation.of(self.at)));
            return Err(Again::Violation);
        }
        self.inner.seek(self.at.index, assignment.next());
        Ok(())
    }

    /// Asks the leader where one of the epochs ended that records are of. In a world of one broker no client knows the
    /// leader's epoch.
    async fn asks_for_an_epoch(&mut self) -> Result<(), Again> {
        let (clients, at, leader) = (self.clients, self.at, self.connection.epoch());
        let any = clients.rng.next_u64();
        let asked = clients
            .checker
            .partition(at, |history| history.one_epoch(leader, any));
        let Some((epoch, _)) = asked.filter(|_| clients.is_cluster()) else {
            return Ok(());
        };
        let request = OffsetForLeaderEpochRequest {
            topics: vec![OffsetForLeaderTopic {
                topic: StrBytes::from(at.topic),
                partitions: vec![OffsetForLeaderPartition {
                    partition: at.index,
                    current_leader_epoch: leader,
                    leader_epoch: epoch,
                }],
            }],
            ..Default::default()
        };
        let answer = self.connection.call(&request, 4).await?;
        let found = answer.topics.first().and_then(|t| t.partitions.first());
        let found = found.ok_or_else(|| self.violation("no epoch is answered"))?;
        clients.expect("OffsetForLeaderEpoch", found.error_code)?;
        let told = (found.leader_epoch, found.end_offset);
        let now_ms = clients.now_ms();
        clients.checker.check_partition(at, |history| {
            history.ages(now_ms);
            asked.map_or(Ok(()), |asked| history.epoch_ends(leader, asked, told))
        });
        Ok(())
    }
}
