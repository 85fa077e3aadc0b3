//! The broker: listeners, Kafka's APIs, the partitions of a node, and the composition root that builds a node.

mod addresses;
pub mod api;
pub mod auth;
mod banner;
mod broker;
mod cluster;
pub mod config;
mod controller;
mod coordinators;
mod data_dir;
mod dispatch;
mod fence;
#[cfg(test)]
mod fixture;
mod heartbeats;
mod housekeeping;
mod http;
mod log_config;
mod machine;
mod memory;
mod metrics;
mod net;
pub mod node;
mod node_error;
mod node_process;
mod partitions;
mod quorum;
mod readiness;
mod registration;
mod starting;
mod storage;
mod stream_metadata;
mod takeover;
pub mod telemetry;
mod topic_configs;
mod topics;
mod wal;
