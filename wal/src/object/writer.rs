//! The writer of the object WAL: it puts group commits, several at once, and acknowledges them by the contiguous prefix.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use highwater_object_format::ObjectHeader;
use highwater_object_storage::{ObjectKey, layout};
use highwater_types::{ObjectId, ObjectKind};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::batcher::Step;
use super::config::Config;
use super::group::{Group, Sent};
use super::put::{Body, Outcome, Putter};
use super::wal::Shared;
use crate::ConfirmedSink;
use crate::end::End;

/// The most objects that one request deletes.
const DELETED_AT_ONCE: u64 = 1000;

/// The writer's own state. Dropping it ends the log.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) sink: Arc<dyn ConfirmedSink>,
    pub(super) putter: Putter,
    pub(super) config: Config,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.end(End::Stopped);
    }
}

/// A group commit that is put, and whether it is durable while an earlier one is not.
struct InFlight {
    sent: Sent,
    is_durable: bool,
}

type Puts = FuturesUnordered<BoxFuture<'static, (u64, Outcome)>>;

impl Writer {
    /// Puts groups until the log ends.
    pub(super) async fn run(self) {
        let opened = Instant::now();
        let mut puts = Puts::new();
        let mut in_flight = VecDeque::new();
        loop {
            let step = self.next(opened.elapsed(), puts.len());
            let wakes_at = match step {
                Next::Put(group) => {
                    let (put, sent) = self.put(group);
                    puts.push(put);
                    in_flight.push_back(InFlight {
                        sent,
                        is_durable: false,
                    });
                    continue;
                }
                Next::Ended => return,
                Next::Finished if puts.is_empty() => return self.shared.end(End::ShutDown),
                Next::Finished | Next::Wait => None,
                Next::WaitUntil(at) => Some(opened + at),
            };
            // every arm is cancellation safe: a notification that is not taken stays, and puts go on
            tokio::select! {
                Some((number, outcome)) = puts.next(), if !puts.is_empty() => match outcome {
                    Outcome::Durable => self.acknowledge(number, &mut in_flight),
                    Outcome::Fenced => {
                        let reason = format!("another process has {}", self.key(number));
                        return self.shared.end(End::Fenced { reason });
                    }
                },
                () = self.shared.appended.notified() => {}
                () = sleep_until(wakes_at.unwrap_or(opened)), if wakes_at.is_some() => {}
            }
        }
    }

    fn next(&self, now: Duration, in_flight: usize) -> Next {
        let mut state = self.shared.lock();
        if state.has_ended {
            return Next::Ended;
        }
        if state.is_finished() {
            return Next::Finished;
        }
        let waiting = state.waiting();
        match state.batcher.step(now, in_flight, waiting) {
            Step::Put => state.filling.pop().map_or(Next::Wait, Next::Put),
            Step::Wait => Next::Wait,
            Step::WaitUntil(at) => Next::WaitUntil(at),
        }
    }

    fn put(&self, group: Group) -> (BoxFuture<'static, (u64, Outcome)>, Sent) {
        let number = group.number;
        let (written, sent) = group.encode(&self.header(number));
        let body = Body {
            key: self.key(number),
            parts: written.body,
            bytes: written.bytes,
        };
        let putter = self.putter.clone();
        let put = Box::pin(async move { (number, putter.put(&body).await) });
        (put, sent)
    }

    /// Acknowledges the groups that are durable and have no earlier one that is not (W2): first the sink has them, then
    /// the watermark rises (P9).
    fn acknowledge(&self, number: u64, in_flight: &mut VecDeque<InFlight>) {
        if self.shared.lock().has_ended {
            return;
        }
        if let Some(done) = in_flight.iter_mut().find(|it| it.sent.number == number) {
            done.is_durable = true;
        }
        let mut batches = Vec::new();
        let mut last = None;
        while let Some(done) = in_flight.pop_front_if(|first| first.is_durable) {
            self.shared.hold(done.sent.number, done.sent.room);
            batches.extend(done.sent.batches);
            last = Some(done.sent.number);
        }
        if let Some(last) = last {
            self.sink.confirmed(batches);
            self.shared.confirmed.raise(last + 1);
        }
    }

    fn id(&self, number: u64) -> ObjectId {
        ObjectId {
            node: self.config.node,
            epoch: self.shared.epoch,
            kind: ObjectKind::Wal,
            number,
        }
    }

    fn key(&self, number: u64) -> ObjectKey {
        layout::object(self.id(number))
    }

    /// W5
    fn header(&self, number: u64) -> ObjectHeader {
        ObjectHeader {
            cluster: self.config.cluster,
            id: self.id(number),
            nonce: self.config.nonce,
            rewrite_number: 0,
            floor: *self.shared.floor.borrow(),
        }
    }
}

enum Next {
    Put(Group),
    Wait,
    WaitUntil(Duration),
    /// The log was ended meanwhile.
    Ended,
    /// Everything was put, and the log is being shut down.
    Finished,
}

/// Deletes the log's own objects below the floor, in the background (W6). Objects that are left when the log ends are
/// deleted by the sweep of its epoch (W12).
pub(super) async fn trim(shared: Arc<Shared>, putter: Putter, config: Config) {
    let mut floors = shared.floor.subscribe();
    let mut end = shared.end.subscribe();
    let deletes = async {
        let mut deleted = 0;
        let mut backoff = putter.backoff();
        loop {
            let floor = floors.borrow_and_update().at;
            if deleted >= floor {
                if floors.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let until = floor.min(deleted + DELETED_AT_ONCE);
            let id = |number| ObjectId {
                node: config.node,
                epoch: shared.epoch,
                kind: ObjectKind::Wal,
                number,
            };
            let keys: Vec<_> = (deleted..until).map(|it| layout::object(id(it))).collect();
            let request = putter.storage.delete(&keys);
            if let Ok(Ok(())) = timeout(putter.repeats.deadline, request).await {
                deleted = until;
                backoff = putter.backoff();
            } else {
                sleep(backoff.next_wait()).await;
            }
        }
    };
    // a deletion that is dropped may or may not be carried out, and is below the floor in any case
    tokio::select! {
        () = deletes => {}
        _ended = end.wait_for(Option::is_some) => {}
    }
}
