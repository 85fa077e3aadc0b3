//! The tasks of the active controller, which must run once in a cluster, however many brokers it has.
//!
//! The composition root starts them on each node with the role `controller`. They work while that node is the active
//! controller ([`MetadataStore::leads`](highwater_kraft_meta::MetadataStore::leads)) and rest while another one is.

pub(crate) mod assigner;
mod clocks;
mod fencer;
mod mover;
mod reaper;
mod rounds;
mod sweeper;

use std::sync::Arc;

use highwater_kraft_meta::MetadataStore;
use highwater_object_storage::ObjectStorage;
use highwater_runtime::{TaskKind, Tasks};
use highwater_types::Term;

pub(crate) use self::mover::Balance;
pub(crate) use self::reaper::Reaper;
use self::sweeper::Sweeper;
use crate::config::Config;

/// What a task knows while this node is the active controller in one term. It is dropped when another node leads, so that no
/// image is kept then.
#[derive(Debug)]
struct InTerm<T>(Option<(Term, T)>);

impl<T> InTerm<T> {
    fn new() -> Self {
        Self(None)
    }

    /// What is known in this term, which begins with `begin` if it is new; `None` while this node does not lead.
    fn of(&mut self, term: Option<Term>, begin: impl FnOnce() -> T) -> Option<&mut T> {
        let known = self.0.take().filter(|(of, _)| Some(*of) == term);
        self.0 = term.map(|term| known.unwrap_or_else(|| (term, begin())));
        self.0.as_mut().map(|(_, known)| known)
    }
}

/// Starts the tasks of the role `controller`.
pub(crate) fn start(
    config: &Config,
    tasks: &Tasks,
    metadata: &Arc<dyn MetadataStore>,
    objects: &Arc<dyn ObjectStorage>,
) {
    let session = config.session();
    // brokers are fenced and their partitions given away however busy the node is
    let on_control = tasks.on_control();
    on_control.spawn(TaskKind::Fencer, fencer::run(Arc::clone(metadata), session));
    on_control.spawn(
        TaskKind::Assigner,
        assigner::run(Arc::clone(metadata), session),
    );
    let balance = Balance::new(config);
    // it may look at every partition, which must not hold up elections
    tasks.spawn(
        TaskKind::Mover,
        mover::run(Arc::clone(metadata), balance, session),
    );
    let grace = config.millis("highwater.object.grace.ms");
    let reaper = Reaper::new(Arc::clone(metadata), Arc::clone(objects), grace);
    tasks.spawn(TaskKind::Reaper, reaper.run());
    let sweeper = Sweeper::new(Arc::clone(metadata), Arc::clone(objects), grace);
    tasks.spawn(TaskKind::Sweeper, sweeper.run());
}
