//! What tests of a whole node share: a node in this process, and a client that speaks the protocol as it is told to.

mod client;
mod node;
mod odd;

pub use client::{Client, produce_request};
pub use node::TestNode;
pub use odd::{Outcome, ask_oddly, wants_answer};
