//! The map of open streams. It owns the map, and each stream owns its own state.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use highwater_types::StreamId;

use crate::stream::ObjectStream;

/// The open streams of a node.
#[derive(Debug, Default)]
pub(crate) struct Streams(RwLock<BTreeMap<StreamId, Arc<ObjectStream>>>);

impl Streams {
    /// Adds a stream that was opened, in place of its former opening.
    pub(crate) fn insert(&self, stream: Arc<ObjectStream>) {
        let mut streams = self.0.write().unwrap_or_else(PoisonError::into_inner);
        streams.insert(stream.id, stream);
    }

    /// Removes a stream and returns it if it was open.
    pub(crate) fn remove(&self, id: StreamId) -> Option<Arc<ObjectStream>> {
        let mut streams = self.0.write().unwrap_or_else(PoisonError::into_inner);
        streams.remove(&id)
    }

    /// A stream, if it is open.
    pub(crate) fn get(&self, id: StreamId) -> Option<Arc<ObjectStream>> {
        let streams = self.0.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(&id).cloned()
    }

    /// All streams, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<Arc<ObjectStream>> {
        let streams = self.0.read().unwrap_or_else(PoisonError::into_inner);
        streams.values().cloned().collect()
    }
}
