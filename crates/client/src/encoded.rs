//! Requests and answers as bytes.

use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};
use highwater_protocol::{ApiKey, DecodeError, EncodeError, FrameWriter, Message, Reader, Request};

/// The position of the correlation id in a request's frame: after length, API key and version.
const CORRELATION_ID_AT: usize = 8;

/// Encodes the frame of a request, with its length, as parts that follow each other.
///
/// # Errors
/// A text or a list is too long for its field.
pub fn encode<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: &str,
) -> Result<Vec<Bytes>, EncodeError> {
    let flexible = version >= R::FLEXIBLE_FROM;
    let mut out = FrameWriter::request(R::KEY, version, flexible, correlation_id, client_id);
    request.write(&mut out, version);
    out.finish()
}

/// Parses the part of an answer's frame after the correlation id.
///
/// # Errors
/// The bytes do not follow the schema, or there are bytes after the message.
pub fn decode<R: Request>(body: Bytes, version: i16) -> Result<R::Response, DecodeError> {
    let mut reader = Reader::new(body);
    // An answer to ApiVersions has no flexible header (KIP-511).
    if version >= R::FLEXIBLE_FROM && R::KEY != ApiKey::ApiVersions {
        reader.tagged_fields(|_, _| Ok(false))?;
    }
    let response = R::Response::read(&mut reader, version)?;
    reader.finish()?;
    Ok(response)
}

/// A request that is encoded once, and sent many times with other correlation ids. It costs a load generator hardly
/// more than the system call.
#[derive(Debug)]
pub struct EncodedRequest<R> {
    pub(crate) version: i16,
    head: BytesMut,
    rest: Vec<Bytes>,
    request: PhantomData<fn() -> R>,
}

impl<R: Request> EncodedRequest<R> {
    /// Encodes a request.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn new(request: &R, version: i16, client_id: &str) -> Result<Self, EncodeError> {
        let mut parts = encode(request, version, 0, client_id)?.into_iter();
        Ok(Self {
            version,
            head: BytesMut::from(parts.next().unwrap_or_default()),
            rest: parts.collect(),
            request: PhantomData,
        })
    }

    /// The frame with a correlation id.
    pub(crate) fn parts(&mut self, correlation_id: i32) -> impl Iterator<Item = &[u8]> {
        let id = &mut self.head[CORRELATION_ID_AT..CORRELATION_ID_AT + 4];
        id.copy_from_slice(&correlation_id.to_be_bytes());
        std::iter::once(&self.head[..]).chain(self.rest.iter().map(|part| &part[..]))
    }
}
