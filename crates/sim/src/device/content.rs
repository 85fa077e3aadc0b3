//! The bytes of one file, in pages; pages of zeroes are left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

const PAGE_BYTES: usize = 4096;
static ZEROES: [u8; 1 << 20] = [0; 1 << 20];

/// The content of a file. It is cheap to clone, because pages are shared until they are written.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    bytes: u64,
    pages: BTreeMap<u64, Arc<[u8]>>,
}

/// Splits a range into parts that are in one page each: page, position in the page, bytes.
fn by_page(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = usize::try_from(at % PAGE_BYTES as u64).unwrap_or(0);
        let take = (PAGE_BYTES - within).min(len - done);
        done += take;
        Some((at / PAGE_BYTES as u64, within, take))
    })
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.bytes
    }

    pub(super) fn set_len(&mut self, bytes: u64) {
        if bytes < self.bytes {
            let last = bytes / PAGE_BYTES as u64;
            let within = usize::try_from(bytes % PAGE_BYTES as u64).unwrap_or(0);
            drop(self.pages.split_off(&(last + u64::from(within > 0))));
            if let Some(page) = self.pages.get_mut(&last) {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.bytes = bytes;
    }

    pub(super) fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        self.bytes = self.bytes.max(offset + bytes.len() as u64);
        for (page, within, take) in by_page(offset, bytes.len()) {
            let (part, rest) = bytes.split_at(take);
            bytes = rest;
            if part == &ZEROES[..take] && !self.pages.contains_key(&page) {
                continue;
            }
            let page = self
                .pages
                .entry(page)
                .or_insert_with(|| Arc::from(&ZEROES[..PAGE_BYTES]));
            Arc::make_mut(page)[within..within + take].copy_from_slice(part);
        }
    }

    /// Copies a range from another content, and shares its pages.
    pub(super) fn adopt(&mut self, other: &Self, offset: u64, len: usize) {
        for (page, ..) in by_page(offset, len) {
            if let Some(theirs) = other.pages.get(&page) {
                self.pages.insert(page, Arc::clone(theirs));
            }
        }
        self.bytes = self.bytes.max(offset + len as u64);
    }

    /// Returns exactly `len` bytes, or `None` past the end of the file.
    pub(super) fn read(&self, offset: u64, len: usize) -> Option<Bytes> {
        if offset.checked_add(len as u64)? > self.bytes {
            return None;
        }
        let last = (offset + len as u64) / PAGE_BYTES as u64;
        let first = offset / PAGE_BYTES as u64;
        if len <= ZEROES.len() && self.pages.range(first..=last).next().is_none() {
            return Some(Bytes::from_static(&ZEROES[..len]));
        }
        let mut out = BytesMut::with_capacity(len);
        for (page, within, take) in by_page(offset, len) {
            match self.pages.get(&page) {
                Some(page) => out.extend_from_slice(&page[within..within + take]),
                None => out.extend_from_slice(&ZEROES[..take]),
            }
        }
        Some(out.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_not_is_zero() {
        let mut content = Content::default();
        content.write(5000, &[1; 9000]);
        assert_eq!(content.len(), 14_000);
        let read = content.read(4990, 20).expect("is there");
        assert_eq!(read, [[0; 10], [1; 10]].concat());
        assert!(content.read(13_999, 2).is_none());
        content.set_len(6000);
        content.set_len(7000);
        let read = content.read(5990, 20).expect("is there");
        assert_eq!(read, [[1; 10], [0; 10]].concat(), "cut bytes do not return");
    }
}
