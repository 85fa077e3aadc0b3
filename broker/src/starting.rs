//! How far a start is: what `/health/ready` says until the node serves.

use std::fmt::{self, Display};
use std::sync::Arc;

use highwater_s3stream::ObjectStreamStore;
use highwater_types::ByteSize;

use crate::broker::Broker;
use crate::metrics::sampled::Sampler;
use crate::readiness;

/// What a start is at, in order; each with what tells how far that is.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// Opens the metadata.
    Metadata,
    /// Reads the write-ahead log.
    WriteAheadLog,
    /// Opens the object store.
    ObjectStore,
    /// Uploads what the write-ahead log holds.
    Recovery(ObjectStreamStore),
    /// Opens partitions.
    Partitions(Arc<Broker>),
    /// Is over.
    Serving(Sampler),
}

const NAMES: [&str; 5] = [
    "metadata",
    "write-ahead log",
    "object store",
    "recovery",
    "partitions",
];

impl Phase {
    fn number(&self) -> usize {
        match self {
            Self::Metadata => 0,
            Self::WriteAheadLog => 1,
            Self::ObjectStore => 2,
            Self::Recovery(_) => 3,
            Self::Partitions(_) => 4,
            Self::Serving(_) => 5,
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Metadata => "is being opened".to_owned(),
            Self::WriteAheadLog => "is being read".to_owned(),
            Self::ObjectStore => "is being opened".to_owned(),
            Self::Recovery(streams) => recovering(streams),
            Self::Partitions(broker) => {
                let opened = readiness::opened(broker.partitions.progress());
                opened.err().unwrap_or_else(|| "ok".to_owned())
            }
            Self::Serving(_) => String::new(),
        }
    }
}

fn recovering(streams: &ObjectStreamStore) -> String {
    let status = streams.recovery();
    let (bytes, total) = (ByteSize(status.bytes), ByteSize(status.bytes_total));
    let batches = status.batches;
    let mut told = format!("{bytes} of {total} of the write-ahead log, {batches} batches");
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
                std::cmp::Ordering::Greater => writeln!(f, "{name}: not yet")?,
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
            "starting\nmetadata: ok\nwrite-ahead log: is being read\nobject store: not yet\n\
             recovery: not yet\npartitions: not yet\n"
        );
    }
}
