//! A consumer of partitions of one topic, by offset, with or without a fetch session.

use highwater_protocol::messages::FetchRequest;
use highwater_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use highwater_protocol::messages::fetch_response::PartitionData;

use crate::producer::refuse;
use crate::{Connection, Error, Topic};

/// The limits of a fetch: its bytes and its wait. The defaults are those of Kafka's consumer.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most bytes of one answer; the first batch may be larger.
    pub max_bytes: i32,
    /// The most bytes of one partition in an answer.
    pub partition_max_bytes: i32,
    /// The number of bytes from which the broker answers at once.
    pub min_bytes: i32,
    /// The time that the broker may wait for those bytes.
    pub max_wait_ms: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 50 << 20,
            partition_max_bytes: 1 << 20,
            min_bytes: 1,
            max_wait_ms: 500,
        }
    }
}

#[derive(Debug)]
struct Place {
    partition: i32,
    offset: i64,
    /// Whether the session does not know the offset, so that the next request must contain it (KIP-227).
    is_news: bool,
}

/// The id and the epoch of a session (KIP-227).
#[derive(Debug, Clone, Copy, Default)]
struct Session {
    id: i32,
    epoch: i32,
}

/// No session.
const NO_SESSION: Session = Session { id: 0, epoch: -1 };

/// Reads partitions of one topic, each from an offset on. The consumer keeps its positions; the caller parses the
/// batches, and calls [`Consumer::seek`] with the offset after those that it has taken.
#[derive(Debug)]
pub struct Consumer {
    topic: Topic,
    limits: Limits,
    places: Vec<Place>,
    session: Option<Session>,
}

impl Consumer {
    /// Creates a consumer that names every partition in every request.
    #[must_use]
    pub fn new(
        topic: Topic,
        offsets: impl IntoIterator<Item = (i32, i64)>,
        limits: Limits,
    ) -> Self {
        let place = |(partition, offset)| Place {
            partition,
            offset,
            is_news: true,
        };
        Self {
            topic,
            limits,
            places: offsets.into_iter().map(place).collect(),
            session: None,
        }
    }

    /// Adds a fetch session: a request then names only the changes. The session needs one connection for as long as it
    /// lives.
    #[must_use]
    pub fn with_session(mut self) -> Self {
        self.session = Some(Session::default());
        self
    }

    /// The next offset to read of a partition; `None` if the partition is not read.
    #[must_use]
    pub fn offset(&self, partition: i32) -> Option<i64> {
        let mut places = self.places.iter();
        let place = places.find(|place| place.partition == partition);
        place.map(|place| place.offset)
    }

    /// Reads a partition from another offset on.
    pub fn seek(&mut self, partition: i32, offset: i64) {
        let mut places = self.places.iter_mut();
        if let Some(place) = places.find(|place| place.partition == partition) {
            place.offset = offset;
            place.is_news = true;
        }
    }

    /// The next request, with its version.
    fn request(&mut self) -> (FetchRequest, i16) {
        let has_session = self.session.is_some();
        let mut partitions = Vec::new();
        for place in &mut self.places {
            if has_session && !std::mem::take(&mut place.is_news) {
                continue;
            }
            partitions.push(FetchPartition {
                partition: place.partition,
                current_leader_epoch: -1,
                fetch_offset: place.offset,
                partition_max_bytes: self.limits.partition_max_bytes,
                ..Default::default()
            });
        }
        let topic = FetchTopic {
            topic: self.topic.name(),
            topic_id: self.topic.id(),
            partitions,
        };
        let session = self.session.unwrap_or(NO_SESSION);
        let topics = Some(topic).filter(|topic| !topic.partitions.is_empty());
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: self.limits.max_wait_ms,
            min_bytes: self.limits.min_bytes,
            max_bytes: self.limits.max_bytes,
            session_id: session.id,
            session_epoch: session.epoch,
            topics: topics.into_iter().collect(),
            ..Default::default()
        };
        (request, self.topic.fetch_version())
    }

    /// Sends one request, and returns the data of each partition in the answer. No request may be in flight. A failure
    /// ends the session, and the next call begins another.
    ///
    /// # Errors
    /// As [`Connection::call`]; [`Error::Refused`] if the whole fetch is refused, not one partition.
    pub async fn fetch(
        &mut self,
        connection: &mut Connection,
    ) -> Result<Vec<PartitionData>, Error> {
        let (request, version) = self.request();
        let answer = connection.call(&request, version).await;
        let answer = answer.and_then(|answer| {
            refuse::<FetchRequest>(answer.error_code)?;
            Ok(answer)
        });
        if let Some(session) = &mut self.session {
            *session = session.next(answer.as_ref().map_or(0, |answer| answer.session_id));
            if session.id == 0 {
                // There is no session, so the next request names every partition.
                self.places
                    .iter_mut()
                    .for_each(|place| place.is_news = true);
            }
        }
        let topics = answer?.responses.into_iter();
        Ok(topics.flat_map(|topic| topic.partitions).collect())
    }
}

impl Session {
    fn next(self, id: i32) -> Self {
        let epoch = match (id, self.epoch) {
            (0, _) => 0,
            (_, i32::MAX) => 1,
            (_, epoch) => epoch + 1,
        };
        Self { id, epoch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // KIP-227: epoch 0 begins a session, so the largest is followed by 1.
    #[test]
    fn the_largest_epoch_of_a_session_is_followed_by_1() {
        let session = Session {
            id: 7,
            epoch: i32::MAX,
        };
        let next = session.next(7);
        assert_eq!((next.id, next.epoch), (7, 1));
    }
}
