//! Headers of requests.

use bytes::Bytes;

use crate::wire::{DecodeError, Reader, StrBytes};
use crate::{ApiKey, flexible_from};

/// The header of a request, version 1 or 2 as the API's version asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API, as it came.
    pub api_key: i16,
    /// Its version, as it came.
    pub api_version: i16,
    /// Echoed in the answer.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<StrBytes>,
}

impl RequestHeader {
    /// Takes the header off a frame. That of an API that we do not know is read as version 1: the connection is closed
    /// anyway.
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
