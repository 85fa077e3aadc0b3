//! Shared parts of the tests of a whole node: a node in the test's process, connections to it, and common requests.

mod asks;
mod batches;
mod client;
mod directory;
mod http;
mod log_lines;
mod node;
mod odd;

pub use asks::{fetch, find_coordinator, latest, offset_at, producer_id, read, records};
pub use batches::{T0, batch, producer_batch};
pub use client::{connect, produce_request};
pub use directory::{copy_directory, files_below};
pub use http::{http_get, http_get_whole};
pub use log_lines::LogLines;
pub use node::TestNode;
pub use odd::{Outcome, ask_oddly, wants_answer};
