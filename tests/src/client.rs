//! A client that does exactly what it is told: any message, any version, any bytes.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use highwater_protocol::messages::produce_request::PartitionProduceData;
use highwater_protocol::messages::produce_response::PartitionProduceResponse;
use highwater_protocol::messages::{ProduceRequest, TopicProduceData};
use highwater_protocol::{ApiKey, FrameWriter, Message, Reader, Records, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection.
#[derive(Debug)]
pub struct Client {
    socket: TcpStream,
    correlation_id: i32,
    /// What it calls itself.
    pub client_id: String,
}

const ANSWER_BYTES_MAX: usize = 256 << 20;

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            correlation_id: 0,
            client_id: "test".to_owned(),
        })
    }

    /// Sends a request without waiting for its answer; answers its correlation id.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn write<R: Request>(&mut self, request: &R, version: i16) -> Result<i32> {
        self.correlation_id += 1;
        let flexible = version >= R::FLEXIBLE_FROM;
        let id = self.correlation_id;
        let mut out = FrameWriter::request(R::KEY, version, flexible, id, &self.client_id);
        request.write(&mut out, version);
        for part in out.finish()? {
            self.socket.write_all(&part).await?;
        }
        Ok(id)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn write_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.socket.write_all(bytes).await?)
    }

    /// Closes its own side: nothing more is sent.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn end(&mut self) -> Result<()> {
        Ok(self.socket.shutdown().await?)
    }

    /// Reads one answer frame: its correlation id and what follows. `None` when the connection is closed.
    ///
    /// # Errors
    /// When it is closed within a frame.
    pub async fn read_raw(&mut self) -> Result<Option<(i32, Bytes)>> {
        let mut length = [0; 4];
        if self.socket.read_exact(&mut length).await.is_err() {
            return Ok(None);
        }
        let length = usize::try_from(i32::from_be_bytes(length))?;
        ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
        let mut frame = BytesMut::zeroed(length);
        self.socket.read_exact(&mut frame).await?;
        let mut reader = Reader::new(frame.freeze());
        let id = reader.i32()?;
        Ok(Some((id, reader.into_rest())))
    }

    /// Reads the answer to a request.
    ///
    /// # Errors
    /// When the connection is closed, or the answer is not the request's, or can't be read.
    pub async fn read<R: Request>(&mut self, version: i16, id: i32) -> Result<R::Response> {
        let answer = self.read_raw().await?;
        let (of, body) = answer.context("the connection is closed")?;
        ensure!(of == id, "the answer to {of} instead of {id}");
        let mut reader = Reader::new(body);
        if version >= R::FLEXIBLE_FROM && R::KEY != ApiKey::ApiVersions {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        let response = R::Response::read(&mut reader, version)?;
        reader.finish()?;
        Ok(response)
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub async fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        let id = self.write(request, version).await?;
        self.read::<R>(version, id).await
    }

    /// Whether the connection is closed without another answer.
    pub async fn is_closed(&mut self) -> bool {
        matches!(self.read_raw().await, Ok(None))
    }

    /// Produces one batch with acks=all in version 12; answers the partition's part.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> Result<PartitionProduceResponse> {
        let request = produce_request(topic, partition, batch, -1);
        let mut response = self.send(&request, 12).await?;
        let mut topic = response.responses.pop().context("no topic is answered")?;
        let partition = topic.partition_responses.pop();
        partition.context("no partition is answered")
    }
}

/// A produce request of one batch.
#[must_use]
pub fn produce_request(topic: &str, partition: i32, batch: Bytes, acks: i16) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: StrBytes::from(topic),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(Records::from(batch)),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}
