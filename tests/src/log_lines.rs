//! The captured log of a node, as an operator reads it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// The lines of a log. It is cheap to clone; all clones write to one text.
#[derive(Debug, Clone, Default)]
pub struct LogLines(Arc<Mutex<Vec<u8>>>);

impl LogLines {
    /// Everything that was logged until now.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The number of lines that contain a text.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        let lines = self.text();
        lines.lines().filter(|line| line.contains(text)).count()
    }

    /// Everything that was logged since the last call.
    #[must_use]
    pub fn take(&self) -> String {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&std::mem::take(&mut *bytes)).into_owned()
    }
}

impl io::Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
