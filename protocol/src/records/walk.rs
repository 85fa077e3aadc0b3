//! Visits the records of a batch by their lengths. No record is built, and compressed records are decompressed piece
//! by piece.

use super::{CompressionError, Decoder, RecordError};

/// A visitor of records: it gets the offset delta, the timestamp delta, and whether the record has a key.
type Visit<'a> = &'a mut dyn FnMut(i32, i64, bool);

/// Visits every record without building it, and checks every length.
///
/// # Errors
/// [`RecordError::Malformed`] if a length is wrong, records are missing or bytes are left over.
pub fn walk(
    body: &[u8],
    count: i32,
    mut visit: impl FnMut(i32, i64, bool),
) -> Result<(), RecordError> {
    let mut cursor = Cursor { bytes: body, at: 0 };
    for _ in 0..count {
        let seen = skim(&mut cursor).ok_or(RecordError::Malformed(cursor.at))?;
        visit(seen.offset_delta, seen.timestamp_delta, seen.has_key);
    }
    if cursor.at == body.len() {
        Ok(())
    } else {
        Err(RecordError::Malformed(cursor.at))
    }
}

/// As [`walk`], for records that are decompressed while they are visited.
pub(super) fn walk_decoded(
    decoder: Decoder<'_>,
    count: i32,
    visit: Visit<'_>,
) -> Result<(), RecordError> {
    let mut window = Window {
        decoder,
        buffer: vec![0; WINDOW_BYTES],
        from: 0,
        to: 0,
        passed: 0,
        failed: None,
    };
    for _ in 0..count {
        let Some(seen) = skim(&mut window) else {
            return Err(window.failure());
        };
        visit(seen.offset_delta, seen.timestamp_delta, seen.has_key);
    }
    match window.fill() {
        false if window.failed.is_none() => Ok(()),
        _ => Err(window.failure()),
    }
}

struct Seen {
    offset_delta: i32,
    timestamp_delta: i64,
    has_key: bool,
}

/// A source from which records are read in order.
trait Scan {
    /// The number of bytes read so far.
    fn at(&self) -> usize;
    /// Reads a variable-length number.
    fn varlong(&mut self) -> Option<i64>;
    /// Skips bytes.
    fn skip(&mut self, bytes: usize) -> Option<()>;
}

#[inline]
fn varint(scan: &mut impl Scan) -> Option<i32> {
    i32::try_from(scan.varlong()?).ok()
}

/// Skips a field with its length; returns whether the field is not null.
#[inline]
fn field(scan: &mut impl Scan) -> Option<bool> {
    let length = varint(scan)?;
    if length == -1 {
        return Some(false);
    }
    scan.skip(usize::try_from(length).ok()?)?;
    Some(true)
}

#[inline]
fn skim(scan: &mut impl Scan) -> Option<Seen> {
    let length = usize::try_from(varint(scan)?).ok()?;
    let end = scan.at().checked_add(length)?;
    scan.skip(1)?;
    let timestamp_delta = scan.varlong()?;
    let offset_delta = varint(scan)?;
    let has_key = field(scan)?;
    field(scan)?;
    let headers = varint(scan)?;
    if headers < 0 {
        return None;
    }
    for _ in 0..headers {
        field(scan)?.then_some(())?;
        field(scan)?;
    }
    (scan.at() == end).then_some(Seen {
        offset_delta,
        timestamp_delta,
        has_key,
    })
}

/// Reads bytes that are all in memory.
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg()
}

impl Scan for Cursor<'_> {
    #[inline]
    fn at(&self) -> usize {
        self.at
    }

    #[inline]
    fn varlong(&mut self) -> Option<i64> {
        Cursor::varlong(self)
    }

    #[inline]
    fn skip(&mut self, bytes: usize) -> Option<()> {
        let to = self.at.checked_add(bytes);
        self.at = to.filter(|to| *to <= self.bytes.len())?;
        Some(())
    }
}

impl Cursor<'_> {
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "the bytes are there")]
    pub(super) fn varlong(&mut self) -> Option<i64> {
        // nearly all numbers have one or two bytes
        let left = self.bytes.get(self.at..)?;
        match *left {
            [one, ..] if one < 0x80 => {
                self.at += 1;
                Some(unzigzag(u64::from(one)))
            }
            [one, two, ..] if two < 0x80 => {
                self.at += 2;
                Some(unzigzag(u64::from(one & 0x7f) | u64::from(two) << 7))
            }
            _ => self.long_varlong(),
        }
    }

    #[cold]
    fn long_varlong(&mut self) -> Option<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at = self.at.saturating_add(1);
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(unzigzag(value));
            }
        }
        None
    }
}

const WINDOW_BYTES: usize = 32 << 10;
/// The size of the largest number.
const VARLONG_BYTES_MAX: usize = 10;

/// Reads bytes from a decoder, through a buffer.
struct Window<'a> {
    decoder: Decoder<'a>,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    /// The number of bytes that have left the buffer.
    passed: usize,
    failed: Option<CompressionError>,
}

impl Window<'_> {
    /// Fills the buffer if it is empty; returns whether there is a byte.
    fn fill(&mut self) -> bool {
        self.passed = self.passed.saturating_add(self.from);
        self.buffer.copy_within(self.from..self.to, 0);
        self.to = self.left();
        self.from = 0;
        match self.decoder.read(&mut self.buffer[self.to..]) {
            Ok(bytes) => self.to = self.to.saturating_add(bytes),
            Err(error) => self.failed = Some(error),
        }
        self.to > 0
    }

    /// The number of bytes in the buffer that haven't been read.
    fn left(&self) -> usize {
        self.to.saturating_sub(self.from)
    }

    fn failure(&mut self) -> RecordError {
        let malformed = RecordError::Malformed(self.at());
        self.failed.take().map_or(malformed, Into::into)
    }
}

impl Scan for Window<'_> {
    fn at(&self) -> usize {
        self.passed.saturating_add(self.from)
    }

    fn varlong(&mut self) -> Option<i64> {
        if self.left() < VARLONG_BYTES_MAX {
            self.fill();
        }
        let mut cursor = Cursor {
            bytes: &self.buffer[..self.to],
            at: self.from,
        };
        let value = cursor.varlong()?;
        self.from = cursor.at;
        Some(value)
    }

    fn skip(&mut self, mut bytes: usize) -> Option<()> {
        loop {
            let here = bytes.min(self.left());
            self.from = self.from.saturating_add(here);
            bytes = bytes.saturating_sub(here);
            if bytes == 0 {
                return Some(());
            }
            self.fill().then_some(())?;
        }
    }
}
