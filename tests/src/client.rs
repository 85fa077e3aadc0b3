//! A connection that does exactly what a test tells it: any message, any version, any bytes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use highwater_client::{Connection, Options, Topic, produce};
use highwater_io::net::TcpNetwork;
use highwater_protocol::messages::ProduceRequest;

/// Longer than any test waits for an answer that comes.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Connects.
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

/// A produce request of one batch, to a topic by its name.
#[must_use]
pub fn produce_request(topic: &str, partition: i32, batch: Bytes, acks: i16) -> ProduceRequest {
    produce(&Topic::from(topic), [(partition, batch)], acks)
}
