//! Kafka's wire protocol: messages that are generated from `protocol/schema`, frames, and record batches.
//!
//! A message is a struct with public fields in snake case. A text is a [`StrBytes`] with its own memory; bytes are a
//! `Bytes` that shares the frame's memory; records are [`Records`]. A nullable field is an `Option`, a list is a
//! `Vec`. A field that a version lacks has the schema's default after decoding, and is omitted when encoding. Unknown
//! tagged fields are skipped.

// Arithmetic on numbers that clients send is checked or saturating (CONVENTIONS, Errors).
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

/// A message, or a structure within one.
pub trait Message: Sized + Default + std::fmt::Debug + Clone + PartialEq + Send + 'static {
    /// Decodes it in a version.
    ///
    /// # Errors
    /// [`DecodeError`]. Memory is never allocated for elements that aren't in the frame.
    fn read(reader: &mut Reader, version: i16) -> Result<Self, DecodeError>;
    /// Encodes it in a version, without the fields that the version lacks.
    fn write(&self, out: &mut FrameWriter, version: i16);
}

/// A request.
pub trait Request: Message {
    /// The API of the request.
    const KEY: ApiKey;
    /// The versions in the schema.
    const VALID: RangeInclusive<i16>;
    /// The first flexible version (KIP-482).
    const FLEXIBLE_FROM: i16;
    /// The response to it.
    type Response: Message;

    /// Decodes a body. As in Kafka, bytes after its end are ignored: librdkafka sends three of them in Metadata 13.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn decode(body: Bytes, version: i16) -> Result<Self, DecodeError> {
        Self::decode_within(body, version, usize::MAX).map(|(request, _)| request)
    }

    /// As [`Request::decode`], with a limit for the number of elements in all lists together. Also returns that
    /// number.
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
