//! A client of Kafka's protocol, for tests, the simulation, benchmarks and tools.
//!
//! [`Connection`] sends any generated message at any version over any `Socket`, the machine's or the simulation's, and
//! checks that answers come in the order of requests. [`Producer`] and [`Consumer`] keep the state of a client for one
//! partition or one topic. Each call gets the connection, so that producer and consumer outlive it. Nothing is retried
//! here, because each caller knows better which failure it expects.

mod connection;
mod consumer;
mod encoded;
mod error;
mod incoming;
mod producer;
mod requests;
mod versions;

pub use connection::{Connection, Options, Sent};
pub use consumer::{Consumer, Limits};
pub use encoded::{EncodedRequest, decode, encode};
pub use error::Error;
pub use producer::{Answered, Batch, Producer};
pub use requests::{
    EARLIEST, LATEST, Topic, create_topics, delete_topic, describe_all_topics, describe_topic,
    find_coordinator, list_offsets, new_topic, produce,
};
pub use versions::Versions;
