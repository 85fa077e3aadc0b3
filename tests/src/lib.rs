//! Shared parts of the tests of a whole node: a node in the test's process, connections to it, and common requests.

mod asks;
mod authorizers;
mod batches;
mod certificates;
mod client;
mod cluster;
mod controllers;
mod directory;
mod fault_proxy;
#[cfg(feature = "faults")]
mod faulty;
mod http;
mod link;
mod log_lines;
mod node;
mod odd;
mod resigned;
mod waiting;

pub use asks::{
    commit, fetch, find_coordinator, join, latest, offset_at, producer_id, read, records,
};
pub use authorizers::Panicking;
pub use batches::{T0, batch, large_batch, producer_batch, producer_fields};
pub use certificates::{Certificates, connect_tls, tls_client};
pub use client::{connect, produce_request};
pub use cluster::{CONTROLLER, Cluster};
pub use controllers::Controllers;
pub use directory::{copy_directory, files_below};
pub use fault_proxy::{Condition, Fault, FaultProxy, ProxiedRequest, put_latency};
#[cfg(feature = "faults")]
pub use faulty::faulty_machine;
pub use http::{http_get, http_get_whole};
pub use link::Link;
pub use log_lines::LogLines;
pub use node::TestNode;
pub use odd::{Outcome, ask_oddly, wants_answer};
pub use waiting::until;
