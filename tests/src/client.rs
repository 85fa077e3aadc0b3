//! A connection that sends exactly the message, version and bytes that a test chooses.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use highwater_client::{Connection, Options, Topic, produce};
use highwater_io::net::TcpNetwork;
use highwater_protocol::messages::ProduceRequest;

/// A time limit that is longer than any answer takes.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Connects to a node.
///
/// # Errors
/// The connection is refused.
pub async fn connect(address: SocketAddr) -> Result<Connection> {
    let options = Options {
        client_id: "test".to_owned(),
        timeout: Some(TIMEOUT),
        ..Options::default()
    };
    let (host, port) = (address.ip().to_string(), address.port());
    Ok(Connection::open(&TcpNetwork, &host, port, options).await?)
}

/// Makes a produce request of one batch, to a topic by its name.
#[must_use]
pub fn produce_request(topic: &str, partition: i32, batch: Bytes, acks: i16) -> ProduceRequest {
    produce(&Topic::from(topic), [(partition, batch)], acks)
}
