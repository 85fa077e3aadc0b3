//! Seals: the objects that end the object WAL of a node epoch (W7).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use highwater_types::{ClusterId, NodeEpoch, NodeId, ObjectId, ObjectKind, Uuid};

use crate::FormatError;
use crate::block::VERSION;
use crate::directory::checked;

const MAGIC: &[u8; 4] = b"HWSL";
const PART: &str = "seal";
/// The size of a seal in bytes.
pub const SEAL_BYTES: usize = 68;

/// A seal, which takes the sequence number that its epoch would have written next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// The node whose epoch it ends.
    pub node: NodeId,
    /// The epoch that it ends.
    pub epoch: NodeEpoch,
    /// Its sequence number.
    pub number: u64,
    /// The node that wrote the seal.
    pub sealer: NodeId,
    /// Sixteen random bytes of the process that wrote the seal.
    pub nonce: Uuid,
}

impl Seal {
    /// The object that the seal stands in the place of.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        ObjectId {
            node: self.node,
            epoch: self.epoch,
            kind: ObjectKind::Wal,
            number: self.number,
        }
    }

    /// Whether an object of so many bytes, which begins with these, says that it is a seal.
    #[must_use]
    pub fn is_seal(object: &Bytes, bytes: u64) -> bool {
        bytes == SEAL_BYTES as u64 && object.starts_with(MAGIC)
    }

    /// Encodes the seal.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(SEAL_BYTES);
        out.put_slice(MAGIC);
        out.put_u16(VERSION);
        out.put_u16(0);
        out.put_slice(&self.cluster.0);
        out.put_i32(self.node.0);
        out.put_u64(self.epoch.0);
        out.put_u64(self.number);
        out.put_i32(self.sealer.0);
        out.put_slice(&self.nonce.0);
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        out.freeze()
    }

    /// Decodes a seal and verifies all of it.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn parse(object: &Bytes) -> Result<Self, FormatError> {
        if object.len() != SEAL_BYTES {
            return Err(FormatError::Truncated { part: PART });
        }
        let whole = checked(object, PART);
        let mut fields = object.clone();
        if &fields.split_to(4)[..] != MAGIC {
            return Err(FormatError::Magic { part: PART });
        }
        let version = fields.get_u16();
        if version != VERSION {
            return Err(FormatError::Version {
                part: PART,
                version,
            });
        }
        whole?;
        fields.advance(2);
        let mut cluster = Uuid::ZERO;
        fields.copy_to_slice(&mut cluster.0);
        let node = NodeId(fields.get_i32());
        let epoch = NodeEpoch(fields.get_u64());
        let number = fields.get_u64();
        let sealer = NodeId(fields.get_i32());
        let mut nonce = Uuid::ZERO;
        fields.copy_to_slice(&mut nonce.0);
        Ok(Self {
            cluster,
            node,
            epoch,
            number,
            sealer,
            nonce,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Seal = Seal {
        cluster: Uuid([7; 16]),
        node: NodeId(1),
        epoch: NodeEpoch(5),
        number: 9,
        sealer: NodeId(2),
        nonce: Uuid([3; 16]),
    };

    #[test]
    fn a_golden_seal_reads_and_is_written_byte_for_byte() {
        let path = format!("{}/fixtures/v1/seal.bin", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("HIGHWATER_WRITE_FIXTURES").is_some() {
            std::fs::write(&path, SEAL.encode()).expect("writes");
        }
        let golden = Bytes::from(std::fs::read(&path).expect("is checked in"));
        assert_eq!(SEAL.encode(), golden);
        assert_eq!(Seal::parse(&golden), Ok(SEAL));
    }

    #[test]
    fn a_seal_is_read_back_and_every_change_of_it_is_noticed() {
        let seal = SEAL;
        let bytes = seal.encode();
        assert!(Seal::is_seal(&bytes, bytes.len() as u64));
        assert_eq!(Seal::parse(&bytes), Ok(seal));
        for at in 0..SEAL_BYTES {
            assert!(Seal::parse(&bytes.slice(..at)).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut changed = bytes.to_vec();
                changed[at] ^= 1 << bit;
                assert!(Seal::parse(&changed.into()).is_err(), "{at}.{bit}");
            }
        }
    }
}
