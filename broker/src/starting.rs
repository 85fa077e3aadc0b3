//! The progress of a start, which `/health/ready` reports until the node serves.

use std::fmt::{self, Display};
use std::sync::Arc;

use highwater_s3stream::ObjectStreamStore;
use highwater_types::ByteSize;

use crate::broker::Broker;
use crate::metrics::sampled::{ControllerSampler, Sampler};
use crate::readiness;

/// The phases of a start, in order; some have the source of their own progress.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// The metadata is being opened.
    Metadata,
    /// The write-ahead log is being read.
    WriteAheadLog,
    /// The object store is being opened.
    ObjectStore,
    /// The broker registers with the controllers.
    Registration,
    /// The records in the write-ahead log are being uploaded.
    Recovery(ObjectStreamStore),
    /// Partitions are being opened.
    Partitions(Arc<Broker>),
    /// The log of a broker that was fenced ends; its disk may hang.
    Ending,
    /// The broker does not run, for this reason, and nothing of it does; the rest of the node goes on (W11).
    Waiting(String),
    /// The start of a broker is over.
    Serving(Sampler),
    /// The start of a controller that is no broker is over.
    Controlling(ControllerSampler),
}

const NAMES: [&str; 6] = [
    "metadata",
    "write-ahead log",
    "object store",
    "registration",
    "recovery",
    "partitions",
];

impl Phase {
    fn number(&self) -> usize {
        match self {
            Self::Metadata => 0,
            Self::WriteAheadLog => 1,
            Self::ObjectStore => 2,
            Self::Registration => 3,
            Self::Recovery(_) => 4,
            Self::Partitions(_) => 5,
            Self::Serving(_) | Self::Controlling(_) => 6,
            Self::Ending | Self::Waiting(_) => 1,
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Metadata => "being opened".to_owned(),
            Self::WriteAheadLog => "being read".to_owned(),
            Self::Ending => "that of the fenced epoch is being ended".to_owned(),
            Self::Waiting(why) => format!("waiting to start the broker again: {why}"),
            Self::ObjectStore => {
                "being opened; a new controller waits for the active one first".to_owned()
            }
            Self::Registration => {
                "waiting for the controllers, or for another process with this node.id: see the log"
                    .to_owned()
            }
            Self::Recovery(streams) => recovering(streams),
            Self::Partitions(broker) => {
                let opened = readiness::opened(broker.partitions.progress());
                opened.err().unwrap_or_else(|| "ok".to_owned())
            }
            Self::Serving(_) | Self::Controlling(_) => String::new(),
        }
    }
}

fn recovering(streams: &ObjectStreamStore) -> String {
    let status = streams.recovery();
    if status.bytes_total == 0 {
        return "nothing to upload so far: logs of former epochs are being sealed, the new one is opened, or the \
                leaderships of the former epochs are waited for"
            .to_owned();
    }
    let (bytes, total) = (ByteSize(status.bytes), ByteSize(status.bytes_total));
    let batches = status.batches;
    let mut told = format!("{bytes} of {total} of the write-ahead log uploaded, {batches} batches");
    let uploads = streams.uploads();
    if let Some(failing) = uploads.failing {
        let (seconds, why) = (failing.as_secs(), uploads.failed_by);
        told += &format!("; every upload has failed for {seconds} s: {why}");
    }
    told
}

/// A line for each phase.
impl Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.number();
        writeln!(f, "starting")?;
        for (number, name) in NAMES.iter().enumerate() {
            match number.cmp(&now) {
                std::cmp::Ordering::Less => writeln!(f, "{name}: ok")?,
                std::cmp::Ordering::Equal => writeln!(f, "{name}: {}", self.told())?,
                std::cmp::Ordering::Greater => writeln!(f, "{name}: waiting")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_a_line() {
        assert_eq!(
            Phase::WriteAheadLog.to_string(),
            "starting\nmetadata: ok\nwrite-ahead log: being read\nobject store: waiting\n\
             registration: waiting\nrecovery: waiting\npartitions: waiting\n"
        );
    }
}
