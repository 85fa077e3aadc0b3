//! Listeners and connections: frames in, answers out, in order.

mod buffer_pool;
mod connection;
mod frame_reader;
mod listener;
mod write;

pub use buffer_pool::BufferPool;
pub use connection::{Answer, ConnectionInfo, Served, Service};
pub use frame_reader::Frame;
pub use listener::{Connections, Limits, serve};
