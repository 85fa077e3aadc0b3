//! Kafka's wire protocol: messages generated from `protocol/schema`, frames, record batches.
//!
//! A message is a struct with public fields in snake case: text is [`StrBytes`], with memory of its own; bytes are `Bytes`
//! and share the frame, records are [`Records`], what may be null is an `Option`, lists are `Vec`. A field that a version
//! lacks has its schema default after reading, and is left out when written. Unknown tagged fields are skipped.

// numbers of clients: what cannot overflow says so (CONVENTIONS, Errors)
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod error_code;
mod frame;
#[cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "it counts the tagged fields of a schema"
    )
)]
#[path = "generated/mod.rs"]
pub mod messages;
mod produce_outline;
pub mod records;
mod records_field;
mod wire;

use std::ops::RangeInclusive;

use bytes::Bytes;
pub use error_code::ErrorCode;
pub use frame::RequestHeader;
pub use messages::{ApiKey, flexible_from};
pub use produce_outline::{OUTLINE_BYTES_MAX, ProduceOutline};
pub use records_field::Records;
pub use wire::{
    DecodeError, EncodeError, FrameWriter, Reader, StrBytes, TEXT_BYTES_MAX, text_that_fits,
};

/// Anything with fields.
pub trait Message: Sized + Default + std::fmt::Debug + Clone + PartialEq + Send + 'static {
    /// Reads it at a version.
    ///
    /// # Errors
    /// [`DecodeError`]; nothing is allocated for what is not there.
    fn read(reader: &mut Reader, version: i16) -> Result<Self, DecodeError>;
    /// Writes it at a version; fields that the version lacks are left out.
    fn write(&self, out: &mut FrameWriter, version: i16);
}

/// A message that asks.
pub trait Request: Message {
    /// Its API.
    const KEY: ApiKey;
    /// The versions that the schema knows.
    const VALID: RangeInclusive<i16>;
    /// The first flexible version (KIP-482).
    const FLEXIBLE_FROM: i16;
    /// What answers it.
    type Response: Message;

    /// Reads a body. Bytes after its end are ignored, as in Kafka: librdkafka sends three in Metadata 13.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn decode(body: Bytes, version: i16) -> Result<Self, DecodeError> {
        Self::decode_within(body, version, usize::MAX).map(|(request, _)| request)
    }

    /// As [`Request::decode`], with at most so many elements in all its lists together; answers too how many they have.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn decode_within(
        body: Bytes,
        version: i16,
        elements_max: usize,
    ) -> Result<(Self, usize), DecodeError> {
        if !Self::VALID.contains(&version) {
            return Err(DecodeError::Version(version));
        }
        let mut reader = Reader::with_elements_max(body, elements_max);
        let request = Self::read(&mut reader, version)?;
        Ok((request, reader.elements()))
    }
}
