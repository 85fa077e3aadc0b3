//! The write-ahead log of this node epoch, which exists only once the former one is recovered.

use std::sync::{Arc, OnceLock};

use highwater_wal::WriteAheadLog;

/// The place of the log. The uploads and all streams share it, so that it can be attached after they were made.
#[derive(Debug, Clone, Default)]
pub(crate) struct AttachedWal(Arc<OnceLock<Arc<dyn WriteAheadLog>>>);

impl AttachedWal {
    /// Attaches the log.
    ///
    /// # Panics
    /// When there is one already.
    pub(crate) fn attach(&self, wal: Arc<dyn WriteAheadLog>) {
        assert!(self.0.set(wal).is_ok(), "one WAL for each epoch");
    }

    /// The log.
    ///
    /// # Panics
    /// When there is none yet: nothing is appended before.
    pub(crate) fn get(&self) -> &Arc<dyn WriteAheadLog> {
        self.try_get()
            .expect("the WAL is attached before anything is appended")
    }

    /// The log, if it is attached.
    pub(crate) fn try_get(&self) -> Option<&Arc<dyn WriteAheadLog>> {
        self.0.get()
    }
}
