//! The client against a broker whose every byte the test chooses, over a socket within the process.

mod connection;
mod consumer;
mod peer;
mod producer;
mod versions;
