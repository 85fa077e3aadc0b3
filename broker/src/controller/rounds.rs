//! The rounds of a task that does something one grace after the metadata asked for it, while this node is the active
//! controller (G1, W12).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::{MetadataImage, MetadataStore};
use highwater_types::Term;
use tokio::time::Instant;

use super::clocks::Clocks;

/// The rounds, with the clocks of the things that wait.
#[derive(Debug)]
pub(super) struct Rounds<K> {
    metadata: Arc<dyn MetadataStore>,
    grace: Duration,
    clocks: Clocks<K>,
    last_term: Option<Term>,
}

impl<K: Ord + Copy> Rounds<K> {
    pub(super) fn new(metadata: Arc<dyn MetadataStore>, grace: Duration) -> Self {
        Self {
            metadata,
            grace,
            clocks: Clocks::default(),
            last_term: None,
        }
    }

    /// Waits for the next round in which this node leads; returns its term, and the things whose grace is over.
    /// `waiting` are all that wait by an image. The clocks begin again after a change of the active controller (G1).
    pub(super) async fn next(
        &mut self,
        waiting: fn(&MetadataImage) -> BTreeSet<K>,
    ) -> (Term, Vec<K>) {
        loop {
            tokio::time::sleep(self.grace / 2).await;
            let term = self.metadata.leads();
            if term != self.last_term {
                self.clocks = Clocks::default();
                self.last_term = term;
            }
            if let Some(term) = term {
                let now = Instant::now();
                self.clocks.observe(&waiting(&self.metadata.image()), now);
                return (term, self.clocks.due(self.grace, now));
            }
        }
    }

    /// Lets things that failed wait for another grace, so that they delay no other.
    pub(super) fn restart(&mut self, failed: &[K]) {
        self.clocks.restart(failed, Instant::now());
    }
}
