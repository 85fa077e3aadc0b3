//! Tells the active controller that this broker lives, from its registration until its last upload (E6), and when it
//! begins and ends to serve (E4). A broker on the object WAL tells how it reaches the store too (E8).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use highwater_kraft_meta::{HeartbeatError, Load, MetadataStore, Standing, StoreSight, Told};
use highwater_object_storage::RequestCounts;
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
    store: Option<Store>,
}

/// What a broker on the object WAL tells of its requests to the store. It tells nothing until it can look at the store
/// itself, and then counts from that time on: a start may have no request for long after one that failed.
#[derive(Debug, Clone)]
struct Store {
    requests: Arc<RequestCounts>,
    looks_since: Arc<OnceLock<Instant>>,
}

impl Store {
    fn sight(&self) -> Option<StoreSight> {
        let looks = self.looks_since.get()?.elapsed();
        let reached = self.requests.reached();
        let silent = reached.silent.map(|silent| silent.min(looks));
        Some(StoreSight::new(silent, reached.answered))
    }
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
    /// Whether the last heartbeat that was taken was answered that this broker is to ask the store something.
    must_look: bool,
}

/// A broker whose requests to the store have had no answer for so long asks the store something itself.
const SILENT: Duration = Duration::from_secs(1);

impl Heartbeats {
    /// Begins to send heartbeats for a node epoch that has just registered.
    pub(crate) fn begin(
        metadata: Arc<dyn MetadataStore>,
        (node, epoch): (NodeId, NodeEpoch),
        (every, session): (Duration, Duration),
        store: Option<Arc<RequestCounts>>,
        tasks: &Tasks,
    ) -> Self {
        let (sender, answers) = watch::channel(Answers {
            taken: Instant::now(),
            has_served: false,
            is_fenced: false,
            must_look: false,
        });
        let (standing, standings) = watch::channel(Standing::Starting);
        let (load, loads) = watch::channel(None);
        let store = store.map(|requests| Store {
            requests,
            looks_since: Arc::default(),
        });
        let says = Says {
            standing: standings,
            load: loads,
            store: store.clone(),
        };
        let beating = beat(metadata, (node, epoch), every, says, sender);
        tasks.on_control().spawn(TaskKind::Heartbeats, beating);
        Self {
            answers,
            standing,
            load,
            session,
            store,
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

    /// Says that this broker asks the store something from now on whenever [`Heartbeats::must_look_at_store`] says so.
    pub(crate) fn begin_looking(&self) {
        if let Some(store) = &self.store {
            store.looks_since.get_or_init(Instant::now);
        }
    }

    /// Whether this broker is to ask the store something: for the controllers, or because its own requests have had no
    /// answer (E8).
    #[must_use]
    pub(crate) fn must_look_at_store(&self) -> bool {
        let store = self.store.as_ref();
        let silent = store.and_then(|store| store.requests.reached().silent);
        self.answers.borrow().must_look || silent.is_some_and(|silent| silent >= SILENT)
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

/// What heartbeats say.
struct Says {
    standing: watch::Receiver<Standing>,
    load: watch::Receiver<Option<Arc<Load>>>,
    store: Option<Store>,
}

impl Says {
    /// What is said now. A load is said once; one that is lost is followed by the next one.
    fn now(&mut self) -> Told {
        let is_new = self.load.has_changed().unwrap_or(false);
        Told {
            standing: *self.standing.borrow_and_update(),
            load: is_new
                .then(|| self.load.borrow_and_update().clone())
                .flatten(),
            store: self.store.as_ref().and_then(Store::sight),
        }
    }
}

/// Sends heartbeats; never returns.
async fn beat(
    metadata: Arc<dyn MetadataStore>,
    (node, epoch): (NodeId, NodeEpoch),
    every: Duration,
    mut says: Says,
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
            Ok(()) = says.standing.changed() => {}
        }
        let told = says.now();
        let serves = told.standing == Standing::Serving;
        let asked = Instant::now();
        match metadata.heartbeat(node, epoch, told).await {
            Ok(taken) => {
                // the session began when the heartbeat was sent, at the earliest
                answers.send_modify(|answers| {
                    answers.taken = asked;
                    answers.has_served |= serves;
                    answers.must_look = taken.must_look;
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

#[cfg(test)]
mod tests {
    use highwater_object_storage::{
        Hooked, IoClass, MemoryStorage, Metered, ObjectKey, ObjectStorage, Plan,
    };
    use tokio::time::{sleep, timeout};

    use super::*;

    // E8: a start may take longer than a broker may be without the store
    #[tokio::test(start_paused = true)]
    async fn what_the_store_was_before_the_first_look_is_not_told() {
        let requests = Arc::<RequestCounts>::default();
        let hangs = Hooked::new(Arc::<MemoryStorage>::default(), |_| Plan::hang());
        let objects = Metered::new(Arc::new(hangs), Arc::clone(&requests));
        let key = ObjectKey::new("x");
        let asked = objects.get(&key, 0..1, IoClass::Start);
        assert!(timeout(SILENT, asked).await.is_err(), "it hangs");
        let store = Store {
            requests,
            looks_since: Arc::default(),
        };
        sleep(60 * SILENT).await;
        assert_eq!(store.sight(), None);
        store.looks_since.get_or_init(Instant::now);
        sleep(2 * SILENT).await;
        assert_eq!(store.sight(), Some(StoreSight::new(Some(2 * SILENT), None)));
    }
}
