//! Reading and writing the primitives of Kafka's protocol.

mod reader;
mod writer;

pub use bytestring::ByteString as StrBytes;
pub use reader::{DecodeError, Reader};
pub use writer::FrameWriter;
