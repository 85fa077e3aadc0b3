//! Tells the active controller that this broker lives, from its registration until its last upload (E6), and when it
//! begins and ends to serve (E4).

use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::{HeartbeatError, Load, MetadataStore, Standing, Told};
use highwater_runtime::{TaskKind, Tasks};
use highwater_types::{NodeEpoch, NodeId};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// The heartbeats of a node epoch.
#[derive(Debug, Clone)]
pub(crate) struct Heartbeats {
    answers: watch::Receiver<Answers>,
    standing: watch::Sender<Standing>,
    load: watch::Sender<Option<Arc<Load>>>,
    session: Duration,
}

/// What the controllers have answered.
#[derive(Debug, Clone, Copy)]
struct Answers {
    /// When the last heartbeat was sent that was taken.
    taken: Instant,
    /// Whether a heartbeat was taken that said that this broker serves.
    has_served: bool,
    /// Whether a heartbeat was answered that the epoch is not open.
    is_fenced: bool,
}

impl Heartbeats {
    /// Begins to send heartbeats for a node epoch that has just registered.
    pub(crate) fn begin(
        metadata: Arc<dyn MetadataStore>,
        (node, epoch): (NodeId, NodeEpoch),
        (every, session): (Duration, Duration),
        tasks: &Tasks,
    ) -> Self {
        let (sender, answers) = watch::channel(Answers {
            taken: Instant::now(),
            has_served: false,
            is_fenced: false,
        });
        let (standing, standings) = watch::channel(Standing::Starting);
        let (load, loads) = watch::channel(None);
        let beating = beat(metadata, (node, epoch), every, (standings, loads), sender);
        tasks.on_control().spawn(TaskKind::Heartbeats, beating);
        Self {
            answers,
            standing,
            load,
            session,
        }
    }

    /// Says, by a heartbeat that is sent at once and by all later ones, that this broker has recovered its former epochs
    /// and can open partitions, so that it may get leaderships.
    pub(crate) fn serve(&self) {
        self.standing.send_replace(Standing::Serving);
    }

    /// Says in the same way that this broker stops, so that it gets no more leaderships.
    pub(crate) fn leave(&self) {
        self.standing.send_replace(Standing::Leaving);
    }

    /// Tells the load of this broker with the next heartbeat.
    pub(crate) fn tell_load(&self, load: Load) {
        self.load.send_replace(Some(Arc::new(load)));
    }

    /// Waits until the active controller has taken a heartbeat that says that this broker serves: from then on the broker
    /// gets leaderships. Cancellation safe.
    pub(crate) async fn served(&self) {
        let mut answers = self.answers.clone();
        let has_stopped = answers
            .wait_for(|answers| answers.has_served)
            .await
            .is_err();
        if has_stopped {
            std::future::pending().await
        }
    }

    /// How long ago the last heartbeat was sent that the active controller took.
    #[must_use]
    pub(crate) fn age(&self) -> Duration {
        self.answers.borrow().taken.elapsed()
    }

    /// Whether the controllers have not been heard for a whole session: they may have fenced this broker.
    #[must_use]
    pub(crate) fn is_cut_off(&self) -> bool {
        self.age() >= self.session
    }

    /// Does something after each heartbeat that the active controller takes.
    pub(crate) fn after_each(&self, tasks: &Tasks, then: impl Fn() + Send + 'static) {
        let mut answers = self.answers.clone();
        let following = async move {
            while answers.changed().await.is_ok() {
                then();
            }
            // the heartbeats have ended, as this task will
            std::future::pending().await
        };
        tasks.spawn(TaskKind::Heartbeats, following);
    }

    /// Resolves when the active controller has answered that the epoch is not open, which is final. Cancellation safe.
    pub(crate) async fn fenced(&self) {
        let mut answers = self.answers.clone();
        let has_stopped = answers.wait_for(|answers| answers.is_fenced).await.is_err();
        if has_stopped {
            std::future::pending().await
        }
    }
}

/// Sends heartbeats; never returns.
async fn beat(
    metadata: Arc<dyn MetadataStore>,
    (node, epoch): (NodeId, NodeEpoch),
    every: Duration,
    (mut standing, mut loads): (
        watch::Receiver<Standing>,
        watch::Receiver<Option<Arc<Load>>>,
    ),
    answers: watch::Sender<Answers>,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        // both arms are cancellation safe
        tokio::select! {
            _tick = ticks.tick() => {}
            // an error means that nothing more is said
            Ok(()) = standing.changed() => {}
        }
        let told = *standing.borrow_and_update();
        // one that is lost is followed by the next one
        let is_new = loads.has_changed().unwrap_or(false);
        let load = is_new.then(|| loads.borrow_and_update().clone()).flatten();
        let asked = Instant::now();
        match metadata
            .heartbeat(
                node,
                epoch,
                Told {
                    standing: told,
                    load,
                },
            )
            .await
        {
            Ok(()) => {
                // the session began when the heartbeat was sent, at the earliest
                answers.send_modify(|answers| {
                    answers.taken = asked;
                    answers.has_served |= told == Standing::Serving;
                });
                failing = false;
            }
            Err(HeartbeatError::Fenced) => {
                answers.send_modify(|answers| answers.is_fenced = true);
                // nothing of the epoch counts any more
                return std::future::pending().await;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "a heartbeat was not answered");
                }
                failing = true;
            }
        }
    }
}
