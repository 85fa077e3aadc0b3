//! PEM (RFC 7468), as Kafka reads it: in files, and in the value of a setting, where the lines may be joined.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Problem;

/// One section.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// The label, such as `CERTIFICATE`.
    pub(crate) label: String,
    /// The content.
    pub(crate) der: Vec<u8>,
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
/// The first bytes of a JKS store, and of the DER of a PKCS12 store.
const JAVA_STORES: [&[u8]; 2] = [&[0xfe, 0xed, 0xfe, 0xed], &[0x30, 0x82]];

/// The sections of a text; what lies between them is ignored.
///
/// # Errors
/// A section has no end, or is not base64.
pub(crate) fn sections(bytes: &[u8]) -> Result<Vec<Section>, Problem> {
    if JAVA_STORES.iter().any(|magic| bytes.starts_with(magic)) {
        return Err(Problem::JavaStore);
    }
    let text = String::from_utf8_lossy(bytes);
    let mut rest = &*text;
    let mut sections = Vec::new();
    while let Some((_, begun)) = rest.split_once(BEGIN) {
        let wrong = |label: &str, why| Problem::Pem {
            label: label.chars().take(64).collect(),
            why,
        };
        let (label, body) = begun
            .split_once(DASHES)
            .ok_or_else(|| wrong("", "has no label"))?;
        let end = format!("{END}{label}{DASHES}");
        let (body, after) = body
            .split_once(&end)
            .ok_or_else(|| wrong(label, "has no end"))?;
        if body.contains("Proc-Type:") {
            let scheme = "OpenSSL's traditional encryption".to_owned();
            return Err(Problem::Scheme { scheme });
        }
        let body: String = body.split_ascii_whitespace().collect();
        let der = STANDARD
            .decode(body)
            .map_err(|_cause| wrong(label, "is not base64"))?;
        sections.push(Section {
            label: label.to_owned(),
            der,
        });
        rest = after;
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_read_from_lines_and_from_one_line() {
        let lines = "Bag Attributes\n-----BEGIN A-----\nAQID\nBAU=\n-----END A-----\nx\n\
                     -----BEGIN B C-----\r\nAA==\r\n-----END B C-----\r\n";
        let one_line = "-----BEGIN A----- AQID BAU= -----END A----- -----BEGIN B C----- AA== -----END B C-----";
        for text in [lines, one_line] {
            let found = sections(text.as_bytes()).expect("is PEM");
            assert_eq!(
                (&*found[0].label, &*found[0].der),
                ("A", &[1, 2, 3, 4, 5][..])
            );
            assert_eq!((&*found[1].label, &*found[1].der), ("B C", &[0][..]));
        }
        assert_eq!(sections(b"nothing").expect("is text"), []);
    }

    #[test]
    fn what_is_no_pem_is_refused_with_its_reason() {
        for (text, why) in [
            (&b"-----BEGIN A"[..], "the section  has no label"),
            (
                b"-----BEGIN A-----AAAA-----END B-----",
                "the section A has no end",
            ),
            (
                b"-----BEGIN A-----A-----END A-----",
                "the section A is not base64",
            ),
            (
                b"-----BEGIN A-----Proc-Type: 4,ENCRYPTED\n-----END A-----",
                "traditional encryption",
            ),
            (&[0xfe, 0xed, 0xfe, 0xed, 0, 0], "keytool -importkeystore"),
            (&[0x30, 0x82, 0x0a, 0x00], "keytool -importkeystore"),
        ] {
            let told = sections(text).expect_err("is refused").to_string();
            assert!(told.contains(why), "{told}");
        }
    }
}
