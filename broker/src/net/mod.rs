//! Listeners and connections. They read frames and write the answers in order, and know no API: a [`RequestClass`]
//! tells a connection all that it has to know of a request.

mod alarm;
mod buffer_pool;
mod connection;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
mod frame_reader;
mod handshakes;
mod listener;
mod session;
mod write;

pub(crate) use buffer_pool::BufferPool;
pub(crate) use connection::{Answer, ConnectionInfo, Later, Patience, Served, Service};
pub(crate) use frame_reader::{Frame, FrameLimits, RequestClass};
pub(crate) use listener::{Connections, Limits, Seldom, serve};
pub(crate) use session::Session;
