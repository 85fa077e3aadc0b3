//! Blocks: a header and a part of a group.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Blocks begin at multiples of this.
pub(crate) const ALIGN: u64 = 4096;
/// The largest block, header and all.
pub(crate) const BLOCK_MAX: u64 = 1 << 20;
pub(crate) const HEADER_BYTES: usize = 48;
/// "HWL" and the version.
const MAGIC: u32 = 0x4857_4c31;
const VERSION_MASK: u32 = 0xff;

/// What a block says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) opening: u64,
    pub(crate) position: u64,
    pub(crate) synced: u64,
    pub(crate) body_bytes: u32,
    pub(crate) first: bool,
    pub(crate) last: bool,
}

impl Header {
    /// The header's bytes, with the CRC of itself and the body.
    pub(crate) fn encode(&self, body: &[u8]) -> Bytes {
        let mut fields = BytesMut::with_capacity(HEADER_BYTES);
        fields.put_u32(MAGIC);
        fields.put_u32(0);
        fields.put_u64(self.opening);
        fields.put_u64(self.position);
        fields.put_u64(self.synced);
        fields.put_u32(self.body_bytes);
        fields.put_u32(u32::from(self.first) | u32::from(self.last) << 1);
        fields.put_u64(0);
        let crc = crc(&fields[8..], body);
        fields[4..8].copy_from_slice(&crc.to_be_bytes());
        fields.freeze()
    }

    /// Reads a header; nothing if it is none. The CRC is for [`Header::check`].
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.get(..HEADER_BYTES)?;
        if fields.get_u32() != MAGIC {
            return None;
        }
        fields.advance(4);
        let (opening, position, synced) = (fields.get_u64(), fields.get_u64(), fields.get_u64());
        let (body_bytes, flags) = (fields.get_u32(), fields.get_u32());
        let header = Self {
            opening,
            position,
            synced,
            body_bytes,
            first: flags & 1 != 0,
            last: flags & 2 != 0,
        };
        (header.bytes() <= BLOCK_MAX).then_some(header)
    }

    /// The version of a block that a newer program wrote.
    pub(crate) fn newer(bytes: &[u8]) -> Option<char> {
        let magic = bytes.get(..4)?.get_u32();
        let newer = magic & !VERSION_MASK == MAGIC & !VERSION_MASK && magic > MAGIC;
        newer.then(|| char::from(bytes[3]))
    }

    /// Whether header and body are as they were written.
    pub(crate) fn check(header: &[u8], body: &[u8]) -> bool {
        let stored = &header[4..8];
        stored == crc(&header[8..HEADER_BYTES], body).to_be_bytes()
    }

    /// Bytes on disk, with the padding.
    pub(crate) fn bytes(&self) -> u64 {
        padded(HEADER_BYTES as u64 + u64::from(self.body_bytes))
    }
}

pub(crate) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGN)
}

fn crc(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}
