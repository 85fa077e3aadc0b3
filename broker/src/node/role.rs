//! The role `broker` of a node. It starts and ends with its node epoch: when that is fenced, the broker ends and starts again
//! as a new epoch, and the rest of the node goes on (W11).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use highwater_partition_log::ProducerMemory;
use highwater_runtime::{Backoff, TaskKind, Tasks, WorkPool, reasons};
use highwater_s3stream::{ObjectStreamStore, StreamError};
use highwater_types::NodeEpoch;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::{METADATA_STOP_MAX, Node, NodeError, StartTasks};
use crate::addresses::Listening;
use crate::broker::Broker;
use crate::controller::Balance;
use crate::heartbeats::Heartbeats;
use crate::memory::RequestBudgets;
use crate::metrics::sampled::{self, Sampler};
use crate::net::Connections;
use crate::partitions::{FetchSessions, PartitionOpener, Partitions, handing_over};
use crate::serving::serve;
use crate::starting::Phase;
use crate::storage::{self, BrokerStreams};
use crate::store_opening;
use crate::wal::FoundLogs;
use crate::{api, coordinators, fence, housekeeping, load, metrics, registration};

/// A start waits for partitions as long as another one opens within this time; then it listens although the rest is not
/// open.
const OPENING_PATIENCE: Duration = Duration::from_secs(2);
/// How long a stop waits until the requests in progress are answered (A5).
const ANSWERS_STOP_MAX: Duration = Duration::from_secs(1);
/// How long clients may wait for a broker that starts again, instead of being closed.
const CLIENTS_WAIT_MAX: Duration = Duration::from_secs(5);
/// The rest after a connection of a client could not be accepted.
const REFUSED_REST: Duration = Duration::from_millis(100);

/// The logs that a start of the broker has found, and the tasks that it has begun.
pub(super) type Found = (FoundLogs, StartTasks);

/// A broker that serves. If it is dropped before it is ended, its tasks end at once.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) broker: Arc<Broker>,
    /// Those of clients.
    connections: Arc<Connections>,
    pub(super) tasks: Tasks,
    /// The number of batches that its start recovered.
    pub(super) recovered: u64,
}

impl Drop for Role {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Role {
    /// Ends the work for clients, then the streams and the node epoch.
    pub(super) async fn end(&self, wal_within: Option<Duration>) -> Result<(), StreamError> {
        let broker = &self.broker;
        broker.heartbeats.leave();
        self.tasks.stop_before(TaskKind::Connection).await;
        let answered_by = Instant::now() + ANSWERS_STOP_MAX;
        self.connections.finish(answered_by).await;
        // the last upload still needs the log, and heartbeats go on until it is over
        self.tasks.stop_before(TaskKind::Heartbeats).await;
        let deadline = wal_within.map(|within| Instant::now() + within);
        let stopped = broker.streams.shutdown(deadline).await;
        // The log has ended, so nothing more is acknowledged, and other brokers may take over at once. The controllers
        // know it of an epoch that was fenced.
        if wal_within.is_some() {
            registration::end(&*broker.metadata, broker.config.node_id, broker.epoch).await;
        }
        self.tasks.stop().await;
        stopped
    }

    /// Resolves, with the reason, when the broker can't go on.
    pub(super) async fn ended(&self) -> String {
        let broker = &self.broker;
        tokio::select! {
            // A task may return because of one of the reasons before it.
            biased;
            error = broker.streams.ended() => match error {
                Some(error) => format!("the write-ahead log ended: {}", reasons(&error)),
                None => "the write-ahead log ended".to_owned(),
            },
            refused = broker.streams.failed() => refused,
            (kind, how) = self.tasks.failed() => format!("the task {kind:?} {how}"),
            never = fence::watch(broker, &broker.heartbeats) => match never {},
        }
    }
}

impl Node {
    /// Starts the broker: recovers and opens its streams, opens the partitions that it leads, and starts the tasks that
    /// work on them and its listeners. If the future is dropped, the start ends as if the process was killed.
    pub(super) async fn start_broker(&self, (logs, tasks): Found) -> Result<Role, NodeError> {
        let started = self.start_role(logs, &tasks.0).await;
        if let Err(error) = &started {
            tasks.0.stop().await;
            self.waits(reasons(error));
        }
        tasks.hand_over();
        started
    }

    async fn start_role(&self, logs: FoundLogs, tasks: &Tasks) -> Result<Role, NodeError> {
        let (config, machine, phase) = (&self.config, &self.machine, &self.phase);
        phase.send_replace(Phase::Registration);
        let asked = (&self.stores, &self.addresses.advertised[..]);
        let opened = logs.recover(asked, config, machine, tasks, phase);
        let BrokerStreams {
            streams,
            epoch,
            heartbeats,
            recovered,
        } = opened.await?;
        let broker = self.broker_of(epoch, streams, heartbeats);
        phase.send_replace(Phase::Partitions(Arc::clone(&broker)));
        let mut opener = PartitionOpener::new(Arc::clone(&broker));
        opener.follow(broker.metadata.image());
        tasks.spawn(TaskKind::PartitionOpener, opener.run());
        // both arms are cancellation safe
        let is_fenced = tokio::select! {
            () = broker.partitions.wait_tried(OPENING_PATIENCE) => false,
            () = broker.heartbeats.fenced() => true,
        };
        if is_fenced {
            return Err(fence::end_start(&broker).await);
        }
        tasks.spawn(TaskKind::HandOver, handing_over::run(Arc::clone(&broker)));
        let groups = coordinators::follow(Arc::clone(&broker), tasks.clone());
        tasks.spawn(TaskKind::CoordinatorOpener, groups);
        let housekeeping = housekeeping::run(Arc::clone(&broker));
        tasks.spawn(TaskKind::Housekeeping, housekeeping);
        let balance = Balance::new(config);
        if balance.is_on {
            let measuring = load::run(Arc::clone(&broker), balance.interval);
            tasks.spawn(TaskKind::Load, measuring);
        }
        let for_clients = self.for_clients().cloned().collect();
        let connections = serve(&broker, &*machine.network, for_clients, tasks);
        phase.send_replace(Phase::Serving(Sampler {
            broker: Arc::clone(&broker),
            device: Arc::clone(&machine.device),
            requests: Arc::clone(&self.stores.requests),
        }));
        Ok(Role {
            broker,
            connections,
            tasks: tasks.clone(),
            recovered,
        })
    }

    fn broker_of(
        &self,
        epoch: NodeEpoch,
        streams: ObjectStreamStore,
        heartbeats: Heartbeats,
    ) -> Arc<Broker> {
        let (config, machine) = (&self.config, &self.machine);
        let metadata = Arc::clone(&self.stores.metadata);
        let budgets = RequestBudgets::new(&config.memory);
        let slots = usize::try_from(config.int("max.incremental.fetch.session.cache.slots"));
        Arc::new(Broker {
            api_versions: api::versions(),
            epoch,
            partitions: Arc::new(Partitions::new(
                Arc::clone(&metadata),
                (config.node_id, epoch),
            )),
            metadata,
            heartbeats,
            streams,
            producers: ProducerMemory::new(config.memory.producers),
            metrics: metrics::Metrics::new(),
            groups: Default::default(),
            sessions: FetchSessions::new(
                slots.unwrap_or(0),
                config.memory.fetch_sessions,
                machine.rng.clone(),
            ),
            authorizer: Arc::clone(&machine.authorizer),
            pool: WorkPool::start(&*machine.threads, budgets.decompression.clone()),
            budgets,
            clock: machine.clock.clone(),
            rng: machine.rng.clone(),
            producer_ids: Default::default(),
            config: Arc::clone(config),
        })
    }

    /// Ends a broker whose epoch was fenced, and starts it again until a start succeeds. What the node does as a controller
    /// goes on all the while, also for as long as the object store is away (W11). Returns `None` if the process is told to
    /// stop.
    ///
    /// # Errors
    /// The reason why the process must end: the metadata or a task of the node has failed (D3), or a start is refused for
    /// a reason that does not pass. Every acknowledged record is in the write-ahead log.
    pub(crate) async fn start_again(
        mut self,
        mut rests: Backoff,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Option<(Self, Backoff)>, NodeError> {
        let fenced = self.role.take();
        // the arm that starts the broker ends as a killed process does; the other one is cancellation safe
        let ended = tokio::select! {
            biased;
            _told = stop.wait_for(|stop| *stop) => Ok(None),
            started = self.role_again(fenced, &mut rests) => match started {
                Ok(role) => {
                    self.role = Some(role);
                    return Ok(Some((self, rests)));
                }
                Err(error) => Err(error),
            },
        };
        self.close().await;
        ended
    }

    /// Ends a broker that was fenced, unless a start was, and starts it until a start succeeds, for as long as the rest of
    /// the node goes on.
    pub(super) async fn role_again(
        &self,
        fenced: Option<Role>,
        rests: &mut Backoff,
    ) -> Result<Role, NodeError> {
        // the arm that starts the broker ends as a killed process does; the other one is cancellation safe
        tokio::select! {
            biased;
            why = self.failed() => Err(NodeError::Ended(why)),
            started = self.until_started(fenced, rests) => started,
        }
    }

    /// Each start waits until it would open the object store. Fails for a reason that does not pass.
    async fn until_started(
        &self,
        fenced: Option<Role>,
        rests: &mut Backoff,
    ) -> Result<Role, NodeError> {
        if let Some(role) = &fenced {
            self.stands_still(Phase::Ending);
            // its disk may hang
            let ended = self.refusing(Duration::ZERO, role.end(None).boxed()).await;
            fence::log_ended(ended)?;
        }
        // the next start needs the memory of its caches
        drop(fenced);
        self.waits("its epoch was fenced".to_owned());
        let (config, machine) = (&self.config, &self.machine);
        loop {
            let opens = async {
                sleep(rests.next_wait()).await;
                let told = |why| self.waits(why);
                let opener = self.stores.opener;
                store_opening::until_opens(config, machine, &self.tasks, opener, told).await
            };
            self.refusing(Duration::ZERO, opens.boxed()).await?;
            let start = async {
                let tasks = StartTasks(Tasks::new(self.tasks.control().clone()));
                let (phase, stores) = (&self.phase, &self.stores);
                let logs = storage::find_logs(config, machine, &tasks.0, phase, stores).await?;
                self.start_broker((logs, tasks)).await
            };
            match self.refusing(CLIENTS_WAIT_MAX, start.boxed()).await {
                Err(error) if passes(&error) => {
                    tell(&error);
                    self.waits(reasons(&error));
                }
                started => return started,
            }
        }
    }

    /// Says why the broker does not run, and that nothing of it does.
    fn waits(&self, why: String) {
        self.stands_still(Phase::Waiting(why));
    }

    /// Begins a phase in which the broker serves nobody.
    fn stands_still(&self, phase: Phase) {
        sampled::reset_broker();
        self.stores.requests.sample();
        self.phase.send_replace(phase);
    }

    /// Ends a node whose broker does not run. A start of it that was dropped may have left a thread that still writes to the
    /// data directory; it stays locked then until the process has ended.
    pub(super) async fn close(mut self) {
        let may_write = match *self.phase.borrow() {
            Phase::Metadata | Phase::ObjectStore | Phase::Waiting(_) | Phase::Controlling(_) => {
                false
            }
            // to read the log, again too while the broker registers, removes what an earlier start of it left unfinished
            Phase::WriteAheadLog
            | Phase::Registration
            | Phase::Recovery(_)
            | Phase::Partitions(_)
            | Phase::Serving(_)
            | Phase::Ending => true,
        };
        self.tasks.stop().await;
        let ended = timeout(METADATA_STOP_MAX, storage::end(&*self.stores.metadata)).await;
        if may_write || ended.is_err() {
            std::mem::forget(self.lock.take());
        }
    }

    fn for_clients(&self) -> impl Iterator<Item = &Listening> {
        let listeners = self.addresses.listeners.iter();
        listeners.filter(|one| !self.config.quorum.is_listener(&one.name))
    }

    /// Does something. If that takes longer than a time, connections of clients are accepted and closed meanwhile, so that
    /// they try another broker.
    async fn refusing<T>(&self, after: Duration, work: BoxFuture<'_, T>) -> T {
        let refuse = async {
            sleep(after).await;
            self.refuse_clients().await
        };
        // an accepted connection has nothing to lose
        tokio::select! {
            biased;
            done = work => done,
            never = refuse => match never {},
        }
    }

    async fn refuse_clients(&self) -> Infallible {
        let refuse = async |listening: &Listening| loop {
            if listening.acceptor.accept().await.is_err() {
                sleep(REFUSED_REST).await;
            }
        };
        join_all(self.for_clients().map(refuse)).await;
        std::future::pending().await
    }
}

/// Whether the reason passes for which a broker that ran before does not start: its configuration is right, and what is away
/// comes back.
fn passes(error: &NodeError) -> bool {
    error.is_fence() || error.is_outage()
}

/// Logs why a start is tried again.
pub(super) fn tell(error: &NodeError) {
    let why = reasons(error);
    match error.is_fence() {
        true => tracing::warn!(why, "the node was fenced while it started"),
        false => tracing::warn!(why, "the broker cannot start now; trying again"),
    }
}

#[cfg(test)]
mod tests {
    use highwater_kraft_meta::{ProposeError, Rejection};
    use highwater_object_storage::OpenError;
    use highwater_wal::WalError;

    use super::*;

    // W11: the controllers may be about to start again themselves, and the store may have a bad minute
    #[test]
    fn a_start_that_finds_no_answer_is_tried_again_and_one_that_is_refused_is_not() {
        let (url, reason) = ("s3://b".to_owned(), "no answer".to_owned());
        let path = "wal/1".to_owned();
        let pass = [
            ProposeError::Unavailable(reason.clone()).into(),
            ProposeError::Rejected(Rejection::Fenced(NodeEpoch(3))).into(),
            NodeError::from(WalError::Unavailable {
                reason: reason.clone(),
                path: path.clone(),
            }),
            OpenError::Unreachable {
                url: url.clone(),
                reason: reason.clone(),
            }
            .into(),
        ];
        for error in pass {
            assert!(passes(&error), "{error}");
        }
        let refused = [
            NodeError::from(WalError::Damaged {
                reason: reason.clone(),
                path,
            }),
            OpenError::Refused { url, reason }.into(),
        ];
        for error in refused {
            assert!(!passes(&error), "{error}");
        }
    }
}
