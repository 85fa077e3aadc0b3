//! A producer of one partition, with several batches in flight. It is idempotent if it has an id.

use std::collections::VecDeque;

use bytes::Bytes;
use highwater_protocol::Request;
use highwater_protocol::messages::produce_response::PartitionProduceResponse;
use highwater_protocol::messages::{InitProducerIdRequest, ProduceRequest};
use highwater_protocol::records::ProducerFields;

use crate::{Connection, Error, Sent, Topic, produce};

const ACKS_ALL: i16 = -1;

/// A record batch with the caller's data about it.
#[derive(Debug, Clone)]
pub struct Batch<T> {
    /// The encoded batch.
    pub bytes: Bytes,
    /// The data that the caller gets back with the answer.
    pub tag: T,
}

/// A batch that was acknowledged.
#[derive(Debug)]
pub struct Answered<T> {
    /// The batch.
    pub batch: Batch<T>,
    /// The broker's answer for the batch.
    pub answer: PartitionProduceResponse,
}

/// Produces to one partition with `acks=all`, over one connection after the other. It keeps each batch until the batch
/// is acknowledged, and at most as many as may be in flight.
#[derive(Debug)]
pub struct Producer<T> {
    topic: Topic,
    partition: i32,
    in_flight_max: usize,
    id: Option<(i64, i16)>,
    next_sequence: i32,
    /// The batches that are not acknowledged, the oldest first.
    waiting: VecDeque<Batch<T>>,
    /// The requests of the first of these batches on the present connection.
    sent: VecDeque<Sent<ProduceRequest>>,
}

impl<T> Producer<T> {
    /// Creates a producer without an id. An idempotent one may have at most five batches in flight (KIP-98).
    #[must_use]
    pub fn new(topic: Topic, partition: i32, in_flight_max: usize) -> Self {
        Self {
            topic,
            partition,
            in_flight_max,
            id: None,
            next_sequence: 0,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
        }
    }

    /// Sets a producer id and its epoch; the next sequence is 0.
    pub fn set_id(&mut self, id: i64, epoch: i16) {
        self.id = Some((id, epoch));
        self.next_sequence = 0;
    }

    /// The producer id.
    #[must_use]
    pub fn id(&self) -> Option<i64> {
        self.id.map(|(id, _)| id)
    }

    /// How requests of the producer name the topic.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The number of batches that are not acknowledged.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether another batch may be sent before an answer.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting.len() < self.in_flight_max
    }

    /// Requests a producer id; no request may be in flight.
    ///
    /// # Errors
    /// As [`Connection::call`]; [`Error::Refused`].
    pub async fn init(&mut self, connection: &mut Connection) -> Result<i64, Error> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let answer = connection.call(&request, 4).await?;
        refuse::<InitProducerIdRequest>(answer.error_code)?;
        self.set_id(answer.producer_id, answer.producer_epoch);
        Ok(answer.producer_id)
    }

    /// The producer's fields in its next batch, which has this many records. Batches must be sent in the order of the
    /// calls.
    pub fn next_fields(&mut self, records: i32) -> ProducerFields {
        let Some((id, epoch)) = self.id else {
            return ProducerFields::default();
        };
        let base_sequence = self.next_sequence;
        // The largest sequence is followed by 0.
        let next = (i64::from(base_sequence) + i64::from(records)) % (i64::from(i32::MAX) + 1);
        self.next_sequence = i32::try_from(next).unwrap_or(0);
        ProducerFields {
            id,
            epoch,
            base_sequence,
        }
    }

    /// The request of one batch, with its version.
    #[must_use]
    pub fn request(&self, batch: Bytes) -> (ProduceRequest, i16) {
        let request = produce(&self.topic, [(self.partition, batch)], ACKS_ALL);
        (request, self.topic.produce_version())
    }

    /// Adds a batch, which is kept until it is acknowledged, and which the next [`Producer::flush`] sends.
    ///
    /// # Panics
    /// There is no room for the batch.
    pub fn push(&mut self, batch: Batch<T>) {
        assert!(self.has_room(), "a producer waits for answers");
        self.waiting.push_back(batch);
    }

    /// Sends the batches that were not sent yet. If it fails, or its future is dropped, [`Producer::resume`] must
    /// follow.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub async fn flush(&mut self, connection: &mut Connection) -> Result<(), Error> {
        while let Some(batch) = self.waiting.get(self.sent.len()) {
            let (request, version) = self.request(batch.bytes.clone());
            let sent = connection.send(&request, version).await?;
            self.sent.push_back(sent);
        }
        Ok(())
    }

    /// Sends every batch that is not acknowledged again, in order, over another connection.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub async fn resume(&mut self, connection: &mut Connection) -> Result<(), Error> {
        self.sent.clear();
        self.flush(connection).await
    }

    /// Receives the answer to the oldest batch in flight; `None` if there is none.
    ///
    /// # Errors
    /// As [`Connection::receive`]; [`Error::Refused`], after which the batch is kept.
    pub async fn receive(
        &mut self,
        connection: &mut Connection,
    ) -> Result<Option<Answered<T>>, Error> {
        let Some(sent) = self.sent.pop_front() else {
            return Ok(None);
        };
        let answer = answer_of_one(connection.receive(sent).await?)?;
        refuse::<ProduceRequest>(answer.error_code)?;
        let batch = self.waiting.pop_front();
        Ok(batch.map(|batch| Answered { batch, answer }))
    }
}

impl Connection {
    /// Produces one batch to a topic by its name, with `acks=all`; no request may be in flight. The caller judges the
    /// error code.
    ///
    /// # Errors
    /// As [`Connection::call`]; [`Error::Incomplete`].
    pub async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> Result<PartitionProduceResponse, Error> {
        let topic = Topic::from(topic);
        let request = produce(&topic, [(partition, batch)], ACKS_ALL);
        answer_of_one(self.call(&request, topic.produce_version()).await?)
    }
}

fn answer_of_one(
    mut answer: <ProduceRequest as Request>::Response,
) -> Result<PartitionProduceResponse, Error> {
    let topic = answer.responses.pop();
    let partition = topic.and_then(|mut topic| topic.partition_responses.pop());
    partition.ok_or(Error::Incomplete(ProduceRequest::KEY))
}

pub(crate) fn refuse<R: Request>(code: i16) -> Result<(), Error> {
    match code {
        0 => Ok(()),
        code => Err(Error::Refused { api: R::KEY, code }),
    }
}
