//! An idempotent producer of one partition. It has up to five batches in flight, and sends all of them again in order
//! after a broken connection. Another kind is idle for long, then repeats its last batch or goes on.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use highwater_client::{Sent, Topic};
use highwater_protocol::messages::ProduceRequest;
use highwater_types::Uuid;

use super::{Again, Clients, Connection, records};
use crate::checker::{self, Identity, TopicPartition};

/// The number of a producer's batches that a broker must remember (KIP-98 says five).
const REMEMBERED: usize = 5;

/// A batch and the records in it.
pub(super) type Batch = highwater_client::Batch<Vec<Identity>>;

/// How a producer sends its batches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) in_flight_max: usize,
    pub(super) think_ms: u64,
    /// The number of batches to send; `None` sends until all is calm.
    pub(super) batches: Option<usize>,
    /// Whether the producer also repeats answered batches when nothing failed.
    pub(super) repeats: bool,
    pub(super) records_max: u64,
    pub(super) value_bytes_max: u64,
}

/// The partition that a producer writes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) at: TopicPartition,
    /// The topic's id, if requests have it instead of the topic's name.
    pub(super) topic_id: Option<Uuid>,
}

pub(super) struct Producer<'a> {
    clients: &'a Clients,
    pace: Pace,
    at: TopicPartition,
    number: u32,
    inner: highwater_client::Producer<Vec<Identity>>,
    /// The last batches that were answered, with their offsets.
    answered: VecDeque<(Batch, i64)>,
}

pub(super) async fn run(clients: &Clients, at: TopicPartition, number: u32) {
    let pace = Pace {
        in_flight_max: clients.scenario.in_flight_max,
        think_ms: clients.scenario.think_ms,
        batches: None,
        repeats: false,
        records_max: clients.scenario.records_per_batch_max,
        value_bytes_max: clients.scenario.value_bytes_max,
    };
    let target = at.into();
    Producer::new(clients, target, number, pace).run().await;
    clients.producing.fetch_sub(1, Ordering::SeqCst);
}

/// The number of producers, chosen so that the slow one adds less than their checkpoint holds (F2).
const ONCE: u32 = 40;
/// The longest time that the slow producer is idle, which is longer than most lives of the node.
const IDLE_MS: u64 = 3000;

/// Runs many producers of one batch each, one after the other, and beside them one that sends seldom.
pub(super) async fn run_slow(clients: &Clients, at: TopicPartition, number: u32) {
    let slow = Pace {
        in_flight_max: 1,
        think_ms: IDLE_MS,
        batches: None,
        repeats: true,
        records_max: clients.scenario.records_per_batch_max,
        value_bytes_max: clients.scenario.value_bytes_max,
    };
    let target = at.into();
    let once = Pace {
        think_ms: 1,
        batches: Some(1),
        ..slow
    };
    let many = async {
        for number in number + 1..=number + ONCE {
            Producer::new(clients, target, number, once).run().await;
        }
    };
    let mut slow = Producer::new(clients, target, number, slow);
    tokio::join!(many, slow.run());
    clients.producing.fetch_sub(1, Ordering::SeqCst);
}

impl From<TopicPartition> for Target {
    fn from(at: TopicPartition) -> Self {
        Self { at, topic_id: None }
    }
}

impl<'a> Producer<'a> {
    pub(super) fn new(clients: &'a Clients, target: Target, number: u32, pace: Pace) -> Self {
        let topic = match target.topic_id {
            Some(id) => Topic::from(id),
            None => Topic::from(target.at.topic),
        };
        Self {
            clients,
            pace,
            at: target.at,
            number,
            inner: highwater_client::Producer::new(topic, target.at.index, pace.in_flight_max),
            answered: VecDeque::new(),
        }
    }

    /// Uses an existing producer id, from sequence 0 on.
    pub(super) fn with_id(mut self, id: Option<i64>) -> Self {
        if let Some(id) = id {
            self.inner.set_id(id, 0);
        }
        self
    }

    pub(super) fn id(&self) -> Option<i64> {
        self.inner.id()
    }

    pub(super) fn topic_id(&self) -> Uuid {
        self.inner.topic().id()
    }

    pub(super) async fn run(&mut self) {
        loop {
            match self.attempt().await {
                Ok(()) | Err(Again::Violation) => break,
                Err(Again::Later) => self.clients.rest(150).await,
            }
        }
    }

    fn has_more(&self) -> bool {
        !self.clients.is_calm() && self.pace.batches != Some(0)
    }

    /// Produces until all is calm, or all batches are sent, and everything is answered.
    async fn attempt(&mut self) -> Result<(), Again> {
        let mut connection = Connection::open_to_leader(self.clients, self.at).await?;
        self.take_id(&mut connection).await?;
        self.repeat_an_answered(&mut connection).await?;
        let (on, up) = connection.split();
        up.run(self.inner.resume(on)).await?;
        loop {
            while self.inner.has_room() && self.has_more() {
                let batch = self.make();
                self.inner.push(batch);
                let (on, up) = connection.split();
                up.run(self.inner.flush(on)).await?;
            }
            let (on, up) = connection.split();
            let Some(answered) = up.run(self.inner.receive(on)).await? else {
                return Ok(());
            };
            let base = answered.answer.base_offset;
            self.check(connection.epoch(), &answered.batch, base);
            self.answered.push_back((answered.batch, base));
            while self.answered.len() > REMEMBERED {
                self.answered.pop_front();
            }
            let epoch = connection.epoch();
            let checker = &self.clients.checker;
            if !checker.partition(self.at, |history| history.is_newest(epoch)) {
                // a new connection learns the epoch
                return Err(Again::Later);
            }
            self.clients.rest(self.pace.think_ms).await;
            if self.pace.repeats && self.clients.rng.below(2) == 0 {
                self.repeat_an_answered(&mut connection).await?;
            }
        }
    }

    async fn take_id(&mut self, connection: &mut Connection) -> Result<(), Again> {
        if self.id().is_some() {
            return Ok(());
        }
        let (on, up) = connection.split();
        let id = up.run(self.inner.init(on)).await?;
        let is_new = self.clients.checker.lock().producer_ids.insert(id);
        if !is_new {
            let what = format!("producer id {id} is given twice");
            self.clients.checker.check(Err(what));
        }
        Ok(())
    }

    /// Checks that a repeat of one of the last five batches is answered with its offset, whatever happened since (I6).
    async fn repeat_an_answered(&self, connection: &mut Connection) -> Result<(), Again> {
        // Batches that wait for an answer may be in the log, and displace older batches that the broker remembers.
        let remembered = REMEMBERED.saturating_sub(self.inner.waiting());
        let from = self.answered.len().saturating_sub(remembered);
        for (batch, base) in self.answered.range(from..) {
            let sent = self.send(connection, batch).await?;
            let (code, again) = self.answer_or_code(connection, sent).await?;
            self.clients.expect("Produce", code)?;
            if again != *base {
                let what = format!("a repeat of the batch at {base} is answered {again} (I6)");
                self.clients.checker.check(Err(what));
            }
        }
        Ok(())
    }

    pub(super) fn make(&mut self) -> Batch {
        let rng = &self.clients.rng;
        let count = 1 + rng.below(self.pace.records_max);
        let count = i32::try_from(count).unwrap_or(1);
        let fields = self.inner.next_fields(count);
        let first = fields.base_sequence;
        self.pace.batches = self.pace.batches.map(|left| left.saturating_sub(1));
        let records: Vec<Identity> = (first..first + count)
            .map(|sequence| Identity {
                producer: self.number,
                sequence,
            })
            .collect();
        let value_bytes = usize::try_from(rng.below(self.pace.value_bytes_max)).unwrap_or(0);
        let timestamp = self.clients.now_ms();
        let bytes = records::batch(fields, &records, value_bytes, timestamp);
        let sent = checker::Sent {
            records: i64::from(count),
            bytes: i64::try_from(bytes.len()).unwrap_or(0),
            timestamp,
        };
        self.clients.checker.partition(self.at, |history| {
            records.iter().for_each(|record| history.sends(*record));
            history.sends_batch(sent);
        });
        Batch {
            bytes,
            tag: records,
        }
    }

    pub(super) async fn send(
        &self,
        connection: &mut Connection,
        batch: &Batch,
    ) -> Result<Sent<ProduceRequest>, Again> {
        let (request, version) = self.inner.request(batch.bytes.clone());
        connection.send(&request, version).await
    }

    /// The error code and the base offset in the answer to a produce request.
    pub(super) async fn answer_or_code(
        &self,
        connection: &mut Connection,
        sent: Sent<ProduceRequest>,
    ) -> Result<(i16, i64), Again> {
        let answer = connection.receive(sent).await?;
        let topic = answer.responses.first();
        let Some(partition) = topic.and_then(|topic| topic.partition_responses.first()) else {
            let what = "a produce is answered without its partition".to_owned();
            self.clients.checker.check(Err(what));
            return Err(Again::Violation);
        };
        Ok((partition.error_code, partition.base_offset))
    }

    fn check(&self, epoch: i32, batch: &Batch, base: i64) {
        let checker = &self.clients.checker;
        let now_ms = self.clients.now_ms();
        tracing::debug!(partition = %self.at, epoch, base, records = ?batch.tag, "acknowledged");
        checker.check_partition(self.at, |history| {
            history.batch_appended(now_ms);
            history.acknowledged(epoch, base, &batch.tag)
        });
    }
}
