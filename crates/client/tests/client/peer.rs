//! The broker's end of a connection.

use std::time::Duration;

use bytes::Bytes;
use highwater_client::{Connection, Options};
use highwater_io::Pipe;
use highwater_protocol::{ApiKey, FrameWriter, Message, Request, RequestHeader};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The time limit of a client in virtual time.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);
/// The longest answer that a client reads.
pub(crate) const ANSWER_BYTES_MAX: usize = 1 << 10;

/// A broker with one connection. Dropping it closes the connection.
pub(crate) struct Peer(DuplexStream);

/// A request as the broker received it.
pub(crate) struct Received<R> {
    pub(crate) header: RequestHeader,
    pub(crate) request: R,
}

/// Connects a client to a broker.
pub(crate) fn connect() -> (Connection, Peer) {
    connect_within(1 << 20)
}

/// Does the same as [`connect`]; so many bytes fit between the two.
pub(crate) fn connect_within(bytes: usize) -> (Connection, Peer) {
    let (client, broker) = tokio::io::duplex(bytes);
    let options = Options {
        client_id: "test".to_owned(),
        timeout: Some(TIMEOUT),
        answer_bytes_max: ANSWER_BYTES_MAX,
    };
    let connection = Connection::over(Box::new(Pipe::new(client)), options);
    (connection, Peer(broker))
}

/// Encodes an answer with its length.
pub(crate) fn answer<R: Request>(id: i32, version: i16, response: &R::Response) -> Vec<u8> {
    // An answer to ApiVersions has no flexible header (KIP-511).
    let flexible = version >= R::FLEXIBLE_FROM && R::KEY != ApiKey::ApiVersions;
    let mut out = FrameWriter::response(R::KEY, flexible, id);
    response.write(&mut out, version);
    out.finish().expect("every text fits").concat()
}

impl Peer {
    /// Receives a request without its length.
    pub(crate) async fn receive_raw(&mut self) -> Bytes {
        let length = self.0.read_u32().await.expect("a request comes");
        let mut frame = vec![0; usize::try_from(length).expect("it fits")];
        self.0.read_exact(&mut frame).await.expect("it is whole");
        frame.into()
    }

    /// Receives a request of this kind.
    pub(crate) async fn receive<R: Request>(&mut self) -> Received<R> {
        let mut body = self.receive_raw().await;
        let header = RequestHeader::parse(&mut body).expect("a header");
        assert_eq!(header.api_key, R::KEY as i16);
        let request = R::decode(body, header.api_version).expect("a request");
        Received { header, request }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("the client reads");
    }

    /// Answers a request.
    pub(crate) async fn answer<R: Request>(&mut self, to: &Received<R>, response: &R::Response) {
        let (id, version) = (to.header.correlation_id, to.header.api_version);
        self.send(&answer::<R>(id, version, response)).await;
    }

    /// Receives a request of this kind and answers it.
    pub(crate) async fn serve<R: Request>(&mut self, response: &R::Response) -> Received<R> {
        let received = self.receive().await;
        self.answer(&received, response).await;
        received
    }

    /// Closes the broker's own side, so that the client finds an end after what was sent.
    pub(crate) async fn close(&mut self) {
        self.0.shutdown().await.expect("it is open");
    }
}
