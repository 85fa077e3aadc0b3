//! The write-ahead log of this node epoch, which is attached only once the log of the former epoch is recovered.

use std::sync::{Arc, OnceLock};

use highwater_wal::WriteAheadLog;

/// A slot for the log. The uploads and all streams share the slot, so that the log can be attached after they were
/// made.
#[derive(Debug, Clone, Default)]
pub(crate) struct AttachedWal(Arc<OnceLock<Arc<dyn WriteAheadLog>>>);

impl AttachedWal {
    /// Attaches the log.
    ///
    /// # Panics
    /// When a log is attached already.
    pub(crate) fn attach(&self, wal: Arc<dyn WriteAheadLog>) {
        assert!(self.0.set(wal).is_ok(), "one WAL for each epoch");
    }

    /// The log.
    ///
    /// # Panics
    /// When no log is attached yet: nothing is appended before that.
    pub(crate) fn get(&self) -> &Arc<dyn WriteAheadLog> {
        self.try_get()
            .expect("the WAL is attached before anything is appended")
    }

    /// The log, if it is attached.
    pub(crate) fn try_get(&self) -> Option<&Arc<dyn WriteAheadLog>> {
        self.0.get()
    }
}
