//! Decodes LZ4 frames as `Lz4BlockInputStream` of Kafka 4.4 does: one frame of independent blocks, up to its end
//! mark.
//!
//! Bytes after the frame are ignored, and so is the checksum over the content.

use std::io;

use twox_hash::XxHash32;

use super::cut_short;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const CHECKSUM_BYTES: usize = 4;
const CONTENT_SIZE_BYTES: usize = 8;
/// Set in the length of a block that is stored without compression.
const STORED: u32 = 1 << 31;
/// The largest ratio of compression of a block.
const RATIO_MAX: usize = 255;

/// The bits of the descriptor's flags that must be as expected: version 1, independent blocks, no dictionary, and the
/// reserved bit.
const FIXED: u8 = 0b1110_0011;
const FIXED_AS: u8 = 0b0110_0000;
const BLOCK_CHECKSUM: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;

/// A frame that is decompressed block by block.
#[derive(Debug)]
pub(super) struct Lz4<'a> {
    rest: &'a [u8],
    flags: u8,
    block_bytes_max: usize,
    block: Vec<u8>,
    from: usize,
    to: usize,
    finished: bool,
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> io::Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(bytes).ok_or_else(cut_short)?;
    *rest = left;
    Ok(taken)
}

fn number(rest: &mut &[u8]) -> io::Result<u32> {
    let (four, left) = rest.split_first_chunk::<4>().ok_or_else(cut_short)?;
    *rest = left;
    Ok(u32::from_le_bytes(*four))
}

/// The size of the largest block that a frame's descriptor allows.
fn block_bytes_max(descriptor: u8) -> io::Result<usize> {
    match (descriptor & 0b1000_1111, descriptor >> 4 & 7) {
        (0, size @ 4..=7) => Ok(256 << (size << 1)),
        _ => Err(wrong("a block size that does not exist")),
    }
}

impl<'a> Lz4<'a> {
    pub(super) fn open(input: &'a [u8]) -> io::Result<Self> {
        let mut rest = input;
        if take(&mut rest, MAGIC.len())? != MAGIC {
            return Err(wrong("no LZ4 frame"));
        }
        let descriptor = rest;
        let [flags, block] = *take(&mut rest, 2)? else {
            return Err(cut_short());
        };
        if flags & FIXED != FIXED_AS {
            return Err(wrong(
                "a frame of another version, of linked blocks, or with a dictionary",
            ));
        }
        let block_bytes_max = block_bytes_max(block)?;
        if flags & CONTENT_SIZE != 0 {
            take(&mut rest, CONTENT_SIZE_BYTES)?;
        }
        let descriptor = &descriptor[..descriptor.len().saturating_sub(rest.len())];
        let [checksum] = *take(&mut rest, 1)? else {
            return Err(cut_short());
        };
        if XxHash32::oneshot(0, descriptor).to_le_bytes()[1] != checksum {
            return Err(wrong("the descriptor's checksum is wrong"));
        }
        Ok(Self {
            rest,
            flags,
            block_bytes_max,
            block: Vec::new(),
            from: 0,
            to: 0,
            finished: false,
        })
    }

    /// The memory that the decoder takes at most.
    pub(super) fn held_bytes_max(&self) -> usize {
        self.block_bytes_max
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.from == self.to && !self.finished {
            self.next_block()?;
        }
        let bytes = out.len().min(self.to.saturating_sub(self.from));
        out[..bytes].copy_from_slice(&self.block[self.from..][..bytes]);
        self.from = self.from.saturating_add(bytes);
        Ok(bytes)
    }

    fn next_block(&mut self) -> io::Result<()> {
        let length = number(&mut self.rest)?;
        let bytes = usize::try_from(length & !STORED).unwrap_or(usize::MAX);
        if bytes == 0 {
            if self.flags & CONTENT_CHECKSUM != 0 {
                take(&mut self.rest, CHECKSUM_BYTES)?;
            }
            self.finished = true;
            return Ok(());
        }
        if bytes > self.block_bytes_max {
            return Err(wrong("a block is larger than its frame says"));
        }
        let block = take(&mut self.rest, bytes)?;
        let room = match length & STORED {
            0 => self.block_bytes_max.min(bytes.saturating_mul(RATIO_MAX)),
            _ => bytes,
        };
        if self.block.len() < room {
            self.block.resize(room, 0);
        }
        self.from = 0;
        self.to = match length & STORED {
            0 => lz4_flex::block::decompress_into(block, &mut self.block)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
            _ => {
                self.block[..bytes].copy_from_slice(block);
                bytes
            }
        };
        if self.flags & BLOCK_CHECKSUM != 0
            && number(&mut self.rest)? != XxHash32::oneshot(0, block)
        {
            return Err(wrong("a block's checksum is wrong"));
        }
        Ok(())
    }
}
