//! How a state machine is asked for something, and how long its answer is waited for.

use std::future::Future;
use std::time::Duration;

use highwater_coordinator::{Coordinator, Effects, Now, Ticket};
use highwater_protocol::ErrorCode;
use highwater_s3stream::AppendReceipt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::work::{Answered, Asked, Job, Work, tell};

/// Kafka's default of `offsets.commit.timeout.ms`: what is not done and durable by then is refused.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is to be done by the driver of a partition.
///
/// Whatever is asked answers `NOT_COORDINATOR` where the driver ends or loads anew before it is done,
/// `COORDINATOR_LOAD_IN_PROGRESS` while it loads, `COORDINATOR_NOT_AVAILABLE` where it isn't done in time, and
/// `UNKNOWN_SERVER_ERROR` where it panics.
#[derive(Debug)]
pub(super) struct Queue<M: Coordinator>(pub(super) mpsc::Sender<Job<M>>);

impl<M: Coordinator> Clone for Queue<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Coordinator> Queue<M> {
    /// Asks for something that may write; answers when that, and everything before, is durable.
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
        durable(answer, Some(deadline)).await
    }

    /// Asks for something that is begun in time, and answered when others let it be: by its ticket, in a later call.
    pub(super) async fn wait_for<T: Send + 'static>(
        self,
        asked: Asked,
        begin: impl FnOnce(&mut M, Ticket<T>, Now, &mut Effects<M::Action>) + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let answer = self.send_write(asked, deadline(), begin).await?;
        durable(answer, None).await
    }

    /// Reads; answers when what it read is durable, but never waits for room for a write (M2).
    pub(super) async fn read<T: Send + 'static>(
        self,
        asked: Asked,
        read: impl FnOnce(&M) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let read = |work: &mut Work<M>| (read(&work.machine), work.pending());
        self.at_once(asked, read).await
    }

    /// Changes what isn't in the log, as a sign of life does; waits for nothing but its turn (M2).
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
        durable(answer, Some(deadline)).await
    }

    async fn send_write<T: Send + 'static>(
        self,
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

    async fn send(self, job: Job<M>, deadline: Instant) -> Result<(), ErrorCode> {
        in_time(deadline, async {
            let sent = self.0.send(job).await;
            sent.map_err(|_retired| ErrorCode::NotCoordinator)
        })
        .await
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

/// The answer, once it is durable. One without a deadline comes when others let it, and is durable in time after that.
async fn durable<T>(
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
    Ok(answer)
}
