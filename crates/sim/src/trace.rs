//! The trace of a run: every message, device operation and event with its virtual time, as one number.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Takes what happens; cheap to clone.
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
    /// A trace that also writes each event as a line, to be compared where two runs of a seed differ.
    #[must_use]
    pub fn writing(out: Box<dyn Write + Send>) -> Self {
        let trace = Self::default();
        trace.lock().out = Some(out);
        trace
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one event at the virtual time of the host that runs now.
    pub fn event(&self, what: &fmt::Arguments<'_>) {
        let mut inner = self.lock();
        // between two hosts there is no clock: the last one's counts
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

    /// The hash of all events so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.lock().hasher.finish()
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.lock().events
    }

    /// The virtual time of the last event.
    #[must_use]
    pub fn now(&self) -> Duration {
        let last = self.lock().last;
        turmoil::sim_elapsed().unwrap_or(last)
    }
}
