//! The queue of a driver: how calls reach a state machine, and how long a caller waits for the answer.

use std::future::Future;
use std::time::Duration;

use highwater_coordinator::{Coordinator, Effects, Now, Ticket};
use highwater_protocol::ErrorCode;
use highwater_s3stream::AppendReceipt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::work::{Answered, Asked, Job, Work, tell};
use crate::partitions::ClosedMark;

/// Kafka's default of `offsets.commit.timeout.ms`: a call that is not done and durable by then is refused.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The queue of jobs for the driver of a partition.
///
/// A call answers `NOT_COORDINATOR` if the driver ends or loads again before it is done, `COORDINATOR_LOAD_IN_PROGRESS`
/// while the driver loads, `COORDINATOR_NOT_AVAILABLE` if it isn't done in time, and `UNKNOWN_SERVER_ERROR` if it
/// panics.
#[derive(Debug)]
pub(super) struct Queue<M: Coordinator> {
    jobs: mpsc::Sender<Job<M>>,
    /// Whether the partition is closed. Its driver may run for a moment after that; its answers are not given then.
    closed: ClosedMark,
}

impl<M: Coordinator> Clone for Queue<M> {
    fn clone(&self) -> Self {
        Self::new(self.jobs.clone(), self.closed.clone())
    }
}

impl<M: Coordinator> Queue<M> {
    /// The queue of a driver, with the mark of its partition.
    pub(super) fn new(jobs: mpsc::Sender<Job<M>>, closed: ClosedMark) -> Self {
        Self { jobs, closed }
    }

    /// Makes a call that may write; returns its answer when the answer's records, and all before them, are durable.
    pub(super) async fn call<T: Send + 'static>(
        self,
        asked: Asked,
        call: impl FnOnce(&mut M, &mut Effects<M::Action>, Now) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let deadline = deadline();
        let at_once = |machine: &mut M, ticket, now, effects: &mut Effects<M::Action>| {
            let answer = call(machine, effects, now);
            effects.answer(ticket, answer);
        };
        let answer = self.send_write(asked, deadline, at_once).await?;
        self.durable(answer, Some(deadline)).await
    }

    /// Makes a call that begins within its deadline, and is answered by its ticket in a later call, which other callers
    /// cause.
    pub(super) async fn wait_for<T: Send + 'static>(
        self,
        asked: Asked,
        begin: impl FnOnce(&mut M, Ticket<T>, Now, &mut Effects<M::Action>) + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let answer = self.send_write(asked, deadline(), begin).await?;
        self.durable(answer, None).await
    }

    /// Reads; returns when the state that was read is durable. It never waits for room for a write (M2).
    pub(super) async fn read<T: Send + 'static>(
        self,
        asked: Asked,
        read: impl FnOnce(&M) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let read = |work: &mut Work<M>| (read(&work.machine), work.pending());
        self.at_once(asked, read).await
    }

    /// Changes state that isn't in the log, as a heartbeat does; waits only for its turn (M2).
    pub(super) async fn touch<T: Send + 'static>(
        self,
        asked: Asked,
        touch: impl FnOnce(&mut M, Now) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let touch = |work: &mut Work<M>| (touch(&mut work.machine, work.now), None);
        self.at_once(asked, touch).await
    }

    async fn at_once<T: Send + 'static>(
        self,
        asked: Asked,
        act: impl FnOnce(&mut Work<M>) -> (T, Option<AppendReceipt>) + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let (to, answer) = oneshot::channel();
        let act = move |work: Result<&mut Work<M>, ErrorCode>| {
            tell(to, work.and_then(|work| work.attempt(&asked, act)));
        };
        let deadline = deadline();
        self.send(Job::Read(Box::new(act)), deadline).await?;
        self.durable(answer, Some(deadline)).await
    }

    async fn send_write<T: Send + 'static>(
        &self,
        asked: Asked,
        deadline: Instant,
        ask: impl FnOnce(&mut M, Ticket<T>, Now, &mut Effects<M::Action>) + Send + 'static,
    ) -> Result<oneshot::Receiver<Answered<T>>, ErrorCode> {
        let (to, answer) = oneshot::channel();
        let act = move |work: Result<&mut Work<M>, ErrorCode>| match work {
            Ok(work) => work.ask(&asked, to, ask),
            Err(error) => tell(to, Err(error)),
        };
        self.send(Job::Write(deadline, Box::new(act)), deadline)
            .await?;
        Ok(answer)
    }

    async fn send(&self, job: Job<M>, deadline: Instant) -> Result<(), ErrorCode> {
        in_time(deadline, async {
            let sent = self.jobs.send(job).await;
            sent.map_err(|_retired| ErrorCode::NotCoordinator)
        })
        .await
    }

    /// Waits for the answer until it is durable; gives it if the partition is still open then. An answer without a deadline
    /// comes when other callers cause it, and is then durable within the usual time.
    async fn durable<T>(
        &self,
        answer: oneshot::Receiver<Answered<T>>,
        until: Option<Instant>,
    ) -> Result<T, ErrorCode> {
        let answered = async { answer.await.map_err(|_dropped| ErrorCode::NotCoordinator)? };
        let (answer, receipt) = match until {
            Some(until) => in_time(until, answered).await?,
            None => answered.await?,
        };
        if let Some(receipt) = receipt {
            let waited = async {
                receipt
                    .wait()
                    .await
                    .map_err(|_ended| ErrorCode::NotCoordinator)
            };
            in_time(until.unwrap_or_else(deadline), waited).await?;
        }
        match self.closed.get() {
            Some(_closed) => Err(ErrorCode::NotCoordinator),
            None => Ok(answer),
        }
    }
}

fn deadline() -> Instant {
    Instant::now() + TIMEOUT
}

async fn in_time<T>(
    deadline: Instant,
    answer: impl Future<Output = Result<T, ErrorCode>>,
) -> Result<T, ErrorCode> {
    let answered = tokio::time::timeout_at(deadline, answer).await;
    answered.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
}
