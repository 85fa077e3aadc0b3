//! Reading and writing the primitives of Kafka's protocol.

mod reader;
mod text;
mod writer;

pub use bytestring::ByteString as StrBytes;
pub use reader::{DecodeError, Reader};
pub use text::{TEXT_BYTES_MAX, text_that_fits};
pub use writer::{EncodeError, FrameWriter};
