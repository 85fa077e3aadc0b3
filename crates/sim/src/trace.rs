//! The trace of a run, which hashes every message, device operation and event with its virtual time.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A recorder of events. It is cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Trace(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    hasher: DefaultHasher,
    events: u64,
    last: Duration,
    out: Option<Box<dyn Write + Send>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events", self.events)
    }
}

impl Trace {
    /// Creates a trace that also writes each event as a line, so that two runs of a seed can be compared.
    #[must_use]
    pub fn writing(out: Box<dyn Write + Send>) -> Self {
        let trace = Self::default();
        trace.lock().out = Some(out);
        trace
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one event at the virtual time of the current host.
    pub fn event(&self, what: &fmt::Arguments<'_>) {
        let mut inner = self.lock();
        // Between two hosts there is no clock, so the time of the last host counts.
        let now = turmoil::sim_elapsed().unwrap_or(inner.last);
        inner.last = now;
        inner.events += 1;
        let line = format!("{:>9} {what}", now.as_micros());
        inner.hasher.write(line.as_bytes());
        if let Some(out) = &mut inner.out
            && writeln!(out, "{line}").is_err()
        {
            inner.out = None;
        }
    }

    /// Returns the hash of all events so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.lock().hasher.finish()
    }

    /// Returns the number of events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.lock().events
    }

    /// Returns the virtual time of the last event.
    #[must_use]
    pub fn now(&self) -> Duration {
        let last = self.lock().last;
        turmoil::sim_elapsed().unwrap_or(last)
    }
}
