//! Texts as Java has them: at most 32,767 bytes, and bytes that aren't UTF-8 are replaced.

use super::StrBytes;

/// The length of the longest text, in bytes. Lengths have 16 bits in older versions, and Kafka keeps the limit in
/// later ones.
pub const TEXT_BYTES_MAX: usize = 32_767;

/// Cuts a text of the broker to [`TEXT_BYTES_MAX`], because a text that it quotes may be that long already.
#[must_use]
pub fn text_that_fits(text: impl Into<StrBytes>) -> StrBytes {
    let text = text.into();
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    StrBytes::from(&text[..text.floor_char_boundary(TEXT_BYTES_MAX)])
}

const REPLACEMENT: &str = "\u{fffd}";

/// Copies bytes into a text. A text that shared the bytes would keep the whole frame, and the buffer it was read
/// into, as long as it is stored. Bytes that aren't UTF-8 are replaced as Java's decoder replaces them: a surrogate,
/// which UTF-8 doesn't allow, counts as one fault; everything else is replaced as in Rust.
pub(super) fn decode_text(bytes: &[u8]) -> StrBytes {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return StrBytes::from(text);
    }
    let mut out = String::with_capacity(bytes.len().saturating_add(REPLACEMENT.len()));
    let mut rest = bytes;
    while !rest.is_empty() {
        let chunk = rest.utf8_chunks().next();
        let (valid, invalid) = chunk.map_or(("", rest.len()), |chunk| {
            (chunk.valid(), chunk.invalid().len())
        });
        out.push_str(valid);
        rest = &rest[valid.len()..];
        if invalid > 0 {
            out.push_str(REPLACEMENT);
            rest = &rest[invalid.max(surrogate_bytes(rest))..];
        }
    }
    StrBytes::from(out)
}

/// The length of the surrogate, complete or cut short, at the beginning of `bytes`.
fn surrogate_bytes(bytes: &[u8]) -> usize {
    match bytes {
        [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => 3,
        [0xed, 0xa0..=0xbf, ..] => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::Reader;

    // expected outputs of `new String(bytes, UTF_8)` of Java 17, as code points
    #[test]
    fn what_is_not_utf_8_is_replaced_as_java_does() {
        for (bytes, text) in JAVA {
            let read = decode_text(bytes);
            assert_eq!(&*read, *text, "{bytes:02x?}");
        }
    }

    const JAVA: &[(&[u8], &str)] = &[
        (b"caf\xc3\xa9", "caf\u{e9}"),
        (b"caf\xe9", "caf\u{fffd}"),
        (b"\xff\xfe", "\u{fffd}\u{fffd}"),
        (b"\xc0\x80", "\u{fffd}\u{fffd}"),
        (b"a\xe2\x82", "a\u{fffd}"),
        (b"\xe2\x82x", "\u{fffd}x"),
        (b"\xe0\x80\x80", "\u{fffd}\u{fffd}\u{fffd}"),
        (b"\xed\xa0\x80z", "\u{fffd}z"),
        (b"\xed\xa0z", "\u{fffd}z"),
        (b"\xed\xa0", "\u{fffd}"),
        (b"\xf0\x90\x80z", "\u{fffd}z"),
        (b"\xf0\x90", "\u{fffd}"),
        (b"\xf4\x90\x80\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
        (b"\xf5\x80\x80\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
        (b"\xf0\x9f\xa6\x80", "\u{1f980}"),
    ];

    // I11
    #[test]
    fn a_text_keeps_nothing_of_its_frame() {
        let frame = Bytes::from(b"\0\x04text and a large frame".to_vec());
        let text = Reader::new(frame.clone()).nullable_string(false);
        assert_eq!(text.expect("is read").as_deref(), Some("text"));
        let text = Reader::new(frame.clone()).nullable_string(false);
        assert!(frame.is_unique(), "{text:?} is not in it");
    }

    #[test]
    fn a_text_of_ours_is_cut_between_characters() {
        let long = "\u{e9}".repeat(TEXT_BYTES_MAX);
        let cut = text_that_fits(long.as_str());
        assert_eq!(cut.len(), TEXT_BYTES_MAX - 1);
        assert!(long.starts_with(&*cut));
        assert_eq!(&*text_that_fits("short"), "short");
    }
}
