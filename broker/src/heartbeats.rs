//! Tells the active controller that this broker lives, from its registration until its last upload (E6).

use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::{HeartbeatError, MetadataStore};
use highwater_runtime::{TaskKind, Tasks};
use highwater_types::{NodeEpoch, NodeId};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// When the controllers last answered a heartbeat.
#[derive(Debug, Clone)]
pub(crate) struct Heartbeats {
    answered: watch::Receiver<Instant>,
    session: Duration,
}

impl Heartbeats {
    /// Begins to send heartbeats for a node epoch that has just registered.
    pub(crate) fn begin(
        metadata: Arc<dyn MetadataStore>,
        (node, epoch): (NodeId, NodeEpoch),
        (every, session): (Duration, Duration),
        tasks: &Tasks,
    ) -> Self {
        let (sender, answered) = watch::channel(Instant::now());
        let beating = beat(metadata, (node, epoch), every, sender);
        tasks.on_control().spawn(TaskKind::Heartbeats, beating);
        Self { answered, session }
    }

    /// How long ago the last heartbeat was sent that the active controller answered.
    #[must_use]
    pub(crate) fn age(&self) -> Duration {
        self.answered.borrow().elapsed()
    }

    /// Whether the controllers have not been heard for a whole session: they may have fenced this broker.
    #[must_use]
    pub(crate) fn is_cut_off(&self) -> bool {
        self.age() >= self.session
    }
}

/// Sends heartbeats; never returns.
async fn beat(
    metadata: Arc<dyn MetadataStore>,
    (node, epoch): (NodeId, NodeEpoch),
    every: Duration,
    answered: watch::Sender<Instant>,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        match metadata.heartbeat(node, epoch).await {
            Ok(()) => {
                // the session began when the heartbeat was sent, at the earliest
                answered.send_replace(asked);
                failing = false;
            }
            // the image, which comes from the same controllers, ends the node
            Err(HeartbeatError::Fenced) => {}
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "a heartbeat was not answered");
                }
                failing = true;
            }
        }
    }
}
