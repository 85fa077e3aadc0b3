//! Decodes snappy as `SnappyInputStream` of snappy-java 1.1.10 does: in its own framing, or as one block without
//! framing.

use std::io;

use super::cut_short;

/// The beginning of Java's stream: a magic; its version and the lowest compatible version follow.
const MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_BYTES: usize = 16;
const VERSION_MIN: i32 = 1;
const BLOCK_BYTES: usize = 32 << 10;

/// A stream that is decompressed block by block.
#[derive(Debug)]
pub(super) struct Snappy<'a> {
    rest: &'a [u8],
    framed: bool,
    /// The size of the largest block that is decompressed.
    limit: usize,
    block: Vec<u8>,
    from: usize,
    to: usize,
}

/// Checks the version of a header within the stream, as Java does; Java doesn't check that of the first header.
fn check_version(header: &[u8]) -> io::Result<()> {
    let version = header
        .strip_prefix(MAGIC)
        .and_then(<[u8]>::first_chunk::<4>);
    match version.map(|four| i32::from_be_bytes(*four)) {
        Some(version) if version < VERSION_MIN => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a stream of another version",
        )),
        _ => Ok(()),
    }
}

/// The size of a block after decompression, as its header declares it.
fn says(block: &[u8]) -> io::Result<usize> {
    let length = snap::raw::decompress_len(block)?;
    // snappy's best ratio is below 64 to 3, so a larger declared size is wrong
    if length / 32 > block.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the declared size of a block is wrong",
        ));
    }
    Ok(length)
}

impl<'a> Snappy<'a> {
    pub(super) fn open(input: &'a [u8], limit: usize) -> Self {
        let framed = input.len() >= HEADER_BYTES && input.starts_with(MAGIC);
        Self {
            rest: if framed {
                &input[HEADER_BYTES..]
            } else {
                input
            },
            framed,
            limit,
            block: Vec::new(),
            from: 0,
            to: 0,
        }
    }

    /// The memory that the decoder takes at most: its largest block, as the blocks declare it.
    pub(super) fn held_bytes_max(&mut self) -> usize {
        let (rest, mut largest) = (self.rest, 0);
        while let Ok(Some(block)) = self.next_block() {
            largest = largest.max(says(block).unwrap_or(0));
        }
        self.rest = rest;
        largest.min(self.limit)
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.from == self.to {
            let Some(block) = self.next_block()? else {
                return Ok(0);
            };
            let length = says(block)?;
            if length > self.limit {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            if self.block.len() < length {
                self.block.resize(length, 0);
            }
            self.to = snap::raw::Decoder::new().decompress(block, &mut self.block)?;
            self.from = 0;
        }
        let bytes = out.len().min(self.to.saturating_sub(self.from));
        out[..bytes].copy_from_slice(&self.block[self.from..][..bytes]);
        self.from = self.from.saturating_add(bytes);
        Ok(bytes)
    }

    /// The next block, still compressed. As in Java, the stream also ends where fewer than four bytes are left.
    fn next_block(&mut self) -> io::Result<Option<&'a [u8]>> {
        if !self.framed {
            let whole = std::mem::take(&mut self.rest);
            self.framed = true;
            return Ok(Some(whole));
        }
        loop {
            let Some((length, after)) = self.rest.split_first_chunk::<4>() else {
                return Ok(None);
            };
            if length[..] == MAGIC[..4] {
                if after.len() < HEADER_BYTES - 4 {
                    return Err(cut_short());
                }
                check_version(self.rest)?;
                self.rest = &self.rest[HEADER_BYTES..];
                continue;
            }
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let (block, rest) = after.split_at_checked(length).ok_or_else(cut_short)?;
            self.rest = rest;
            return Ok(Some(block));
        }
    }
}

/// Compresses in Java's framing, block by block.
#[derive(Debug)]
pub(super) struct SnappyWriter {
    out: Vec<u8>,
    block: Vec<u8>,
}

impl SnappyWriter {
    pub(super) fn new() -> Self {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
        Self {
            out,
            block: Vec::new(),
        }
    }

    pub(super) fn written(&self) -> usize {
        self.out.len()
    }

    pub(super) fn write_all(&mut self, mut input: &[u8]) -> io::Result<()> {
        while !input.is_empty() {
            let bytes = input
                .len()
                .min(BLOCK_BYTES.saturating_sub(self.block.len()));
            self.block.extend_from_slice(&input[..bytes]);
            input = &input[bytes..];
            if self.block.len() == BLOCK_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let compressed = snap::raw::Encoder::new().compress_vec(&self.block)?;
        let length = u32::try_from(compressed.len()).map_err(io::Error::other)?;
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(&compressed);
        self.block.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        if !self.block.is_empty() {
            self.flush()?;
        }
        Ok(self.out)
    }
}
