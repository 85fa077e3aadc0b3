//! The headers of requests.

use bytes::Bytes;

use crate::wire::{DecodeError, Reader, StrBytes};
use crate::{ApiKey, flexible_from};

/// The header of a request, in version 1 or 2 according to the API's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API key in the request; it may be unknown.
    pub api_key: i16,
    /// The API's version in the request; it may be unsupported.
    pub api_version: i16,
    /// The correlation id, which the answer repeats.
    pub correlation_id: i32,
    /// The client id.
    pub client_id: Option<StrBytes>,
}

impl RequestHeader {
    /// Takes the header from the beginning of a frame. If the API is unknown the header is read as version 1; the
    /// connection is closed in that case anyway.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn parse(frame: &mut Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(std::mem::take(frame));
        let api_key = reader.i16()?;
        let api_version = reader.i16()?;
        let correlation_id = reader.i32()?;
        let client_id = reader.nullable_string(false)?;
        let known = ApiKey::ALL.iter().find(|key| **key as i16 == api_key);
        if known.is_some_and(|key| api_version >= flexible_from(*key)) {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        *frame = reader.into_rest();
        Ok(Self {
            api_key,
            api_version,
            correlation_id,
            client_id,
        })
    }
}
