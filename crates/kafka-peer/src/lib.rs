//! Apache Kafka, fetched at pinned versions and run beside Highwater, for comparing tests and for benchmarks.

pub mod jars;
pub mod peer;
pub mod process;
