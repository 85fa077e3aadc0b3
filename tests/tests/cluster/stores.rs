//! One object store in memory, which each node of a cluster reaches through a hook of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use futures::TryStreamExt;
use highwater_broker::node::Machine;
use highwater_object_storage::{Hooked, MemoryStorage, ObjectKey, ObjectStorage, Plan};
use highwater_tests::CONTROLLER;

/// The store and its hooks. At first all requests pass.
pub(crate) struct Stores {
    inner: Arc<MemoryStorage>,
    hooked: BTreeMap<i32, Arc<Hooked>>,
}

impl Stores {
    /// A store for a controller and brokers with the ids 1, 2, and so on.
    pub(crate) fn new(brokers: i32) -> Self {
        let inner = Arc::<MemoryStorage>::default();
        let hooked = |id| {
            let inner = Arc::<MemoryStorage>::clone(&inner);
            (id, Arc::new(Hooked::new(inner, |_| Plan::pass())))
        };
        let hooked = (1..=brokers).chain([CONTROLLER]).map(hooked).collect();
        Self { inner, hooked }
    }

    /// The machines of the nodes.
    pub(crate) fn machines(&self) -> BTreeMap<i32, Machine> {
        let machine = |(id, hooked): (&i32, &Arc<Hooked>)| {
            let machine = Machine {
                memory_store: Some(Arc::<Hooked>::clone(hooked)),
                ..Machine::real()
            };
            (*id, machine)
        };
        self.hooked.iter().map(machine).collect()
    }

    /// The store as a node reaches it.
    pub(crate) fn of(&self, id: i32) -> &Arc<Hooked> {
        &self.hooked[&id]
    }

    /// The keys of the objects whose keys begin with a prefix.
    pub(crate) async fn keys(&self, prefix: &str) -> Result<Vec<ObjectKey>> {
        let listed = self.inner.list(&ObjectKey::new(prefix), None);
        Ok(listed.map_ok(|entry| entry.key).try_collect().await?)
    }
}
