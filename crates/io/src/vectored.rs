//! Writes of several parts at an offset of a file.

use std::fs::File;
use std::io::{self, IoSlice};

use bytes::Bytes;
use rustix::io::Errno;

const SLICES_MAX: usize = 64;

/// Writes parts that follow each other, in as few calls as the kernel takes them.
pub(crate) fn write_all_at(file: &File, mut offset: u64, parts: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut left = slices.as_mut_slice();
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        let count = left.len().min(SLICES_MAX);
        let written = match rustix::io::pwritev(file, &left[..count], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        IoSlice::advance_slices(&mut left, written);
        offset += written as u64;
    }
    Ok(())
}
