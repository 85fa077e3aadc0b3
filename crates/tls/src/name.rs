//! Distinguished names as text, as Java's `X500Principal.getName` writes them (RFC 2253), because Kafka's principals are
//! these texts.

use der::asn1::{Any, Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use der::{Encode, Tag, Tagged};
use x509_cert::name::Name;

/// The attributes that have a keyword. An attribute without one is written by its number, and its value in hexadecimal.
const KEYWORDS: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
];

/// The name as text: the last part first.
pub(crate) fn text(name: &Name) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let one = |attribute: &x509_cert::attr::AttributeTypeAndValue| {
        let oid = attribute.oid.to_string();
        let keyword = KEYWORDS.iter().find(|(of, _)| *of == oid);
        match (keyword, string(&attribute.value)) {
            (Some((_, keyword)), Some(value)) => format!("{keyword}={}", escape(&value)),
            (keyword, _) => {
                let name = keyword.map_or(&*oid, |(_, keyword)| keyword);
                format!("{name}=#{}", hex(&attribute.value))
            }
        }
    };
    let parts = parts.iter().rev().map(|part| {
        let attributes: Vec<_> = part.iter().map(one).collect();
        attributes.join("+")
    });
    parts.collect::<Vec<_>>().join(",")
}

fn string(value: &Any) -> Option<String> {
    match value.tag() {
        Tag::Utf8String => value
            .decode_as::<Utf8StringRef<'_>>()
            .ok()
            .map(|text| text.as_str().to_owned()),
        Tag::PrintableString => value
            .decode_as::<PrintableStringRef<'_>>()
            .ok()
            .map(|text| text.as_str().to_owned()),
        Tag::Ia5String => value
            .decode_as::<Ia5StringRef<'_>>()
            .ok()
            .map(|text| text.as_str().to_owned()),
        Tag::TeletexString => value
            .decode_as::<TeletexStringRef<'_>>()
            .ok()
            .map(|text| text.as_str().to_owned()),
        Tag::BmpString => {
            let units = value.value().chunks_exact(2);
            let units = units.map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        _ => None,
    }
}

fn hex(value: &Any) -> String {
    let der = value.to_der().unwrap_or_default();
    der.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn escape(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::new();
    for (at, c) in value.chars().enumerate() {
        let is_special = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        let is_at_end = c == ' ' && (at == 0 || at == last);
        if is_special || is_at_end || (c == '#' && at == 0) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn names_are_written_as_java_writes_them() {
        for (given, written) in [
            ("CN=node-1,O=Example,C=DE", "CN=node-1,O=Example,C=DE"),
            (r"CN=a\, b,OU=x\+y", r"CN=a\, b,OU=x\+y"),
            ("OU=Sales+CN=J", "CN=J+OU=Sales"),
            ("UID=u,DC=example,DC=net", "UID=u,DC=example,DC=net"),
            (
                "1.2.840.113549.1.9.1=#1603406162",
                "1.2.840.113549.1.9.1=#1603406162",
            ),
        ] {
            let name = Name::from_str(given).expect("is a name");
            assert_eq!(text(&name), written);
        }
        assert_eq!(escape(" #a "), r"\ #a\ ");
        assert_eq!(escape("#a"), r"\#a");
    }
}
