//! Makes bytes of a message directly from its schema, with which the generated Rust is compared.

use anyhow::{Context, Result, bail};

use crate::model::{Field, Message, Type, Versions};

/// How the fields of a sample are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Nothing is null or empty, no number or text has its default, and every tagged field is present.
    Full,
    /// Each field has a value, its default, null, nothing or an extreme value, at random.
    Mixed,
    /// As mixed; but texts are often [`NAME`], sometimes as long as Kafka allows, and sometimes not UTF-8.
    Odd,
}

/// The name that odd samples use for most things, so that many requests refer to an existing topic or group.
pub const NAME: &str = "odd";
/// The size of the longest text that Kafka reads.
const TEXT_BYTES_MAX: usize = 32_767;

/// Encodes a sample of a message in a version. Its values come from `random`, so the same numbers give the same
/// sample.
///
/// # Errors
/// When the schema is incomplete.
pub fn sample(
    message: &Message,
    version: i16,
    fill: Fill,
    random: &mut dyn FnMut() -> u32,
) -> Result<Vec<u8>> {
    let mut encoder = Encoder {
        message,
        version,
        flexible: contains(message.flexible, version),
        fill,
        random,
        out: Vec::new(),
    };
    encoder.fields(&message.fields)?;
    Ok(encoder.out)
}

fn contains(versions: Versions, version: i16) -> bool {
    (versions.first..=versions.last).contains(&version)
}

struct Encoder<'a> {
    message: &'a Message,
    version: i16,
    flexible: bool,
    fill: Fill,
    random: &'a mut dyn FnMut() -> u32,
    out: Vec<u8>,
}

impl<'a> Encoder<'a> {
    fn below(&mut self, bound: u32) -> u32 {
        (self.random)() % bound
    }

    /// Whether something rare happens, which it never does in a full sample.
    fn rarely(&mut self) -> bool {
        self.fill != Fill::Full && self.below(4) == 0
    }

    fn is_tagged(&self, field: &Field) -> Option<u32> {
        let (tag, versions) = field.tagged?;
        contains(versions, self.version).then_some(tag)
    }

    fn fields(&mut self, fields: &'a [Field]) -> Result<()> {
        let here = |field: &&Field| contains(field.versions, self.version);
        let here: Vec<&Field> = fields.iter().filter(here).collect();
        for field in &here {
            if self.is_tagged(field).is_none() {
                self.field(field).context(field.name.clone())?;
            }
        }
        if !self.flexible {
            return Ok(());
        }
        let mut tagged: Vec<(u32, Vec<u8>)> = Vec::new();
        for field in here {
            let Some(tag) = self.is_tagged(field) else {
                continue;
            };
            if self.rarely() {
                continue;
            }
            // a tagged field with its default isn't encoded, so the fields within a tagged one are full
            let (before, fill) = (std::mem::take(&mut self.out), self.fill);
            self.fill = Fill::Full;
            self.field(field).context(field.name.clone())?;
            self.fill = fill;
            tagged.push((tag, std::mem::replace(&mut self.out, before)));
        }
        tagged.sort_by_key(|(tag, _)| *tag);
        self.varint(tagged.len())?;
        for (tag, bytes) in tagged {
            self.varint(usize::try_from(tag)?)?;
            self.varint(bytes.len())?;
            self.out.extend_from_slice(&bytes);
        }
        Ok(())
    }

    fn field(&mut self, field: &'a Field) -> Result<()> {
        if contains(field.nullable, self.version) && self.rarely() {
            return self.null(&field.ty);
        }
        if matches!(field.ty, Type::Struct(_)) && !field.nullable.is_empty() {
            self.out.push(1);
        }
        self.value(field, &field.ty)
    }

    fn null(&mut self, ty: &Type) -> Result<()> {
        match ty {
            Type::Struct(_) => self.out.push(0xff),
            _ if self.flexible => self.varint(0)?,
            Type::Plain(name) if name == "string" => self.out.extend_from_slice(&[0xff; 2]),
            _ => self.out.extend_from_slice(&[0xff; 4]),
        }
        Ok(())
    }

    fn value(&mut self, field: &'a Field, ty: &'a Type) -> Result<()> {
        match ty {
            Type::Struct(name) => {
                let shared = self.message.structs.iter().find(|one| one.name == *name);
                match shared {
                    Some(shared) if field.fields.is_empty() => self.fields(&shared.fields),
                    _ => self.fields(&field.fields),
                }
            }
            Type::Array(element) => {
                let count = if self.rarely() { 0 } else { 1 + self.below(3) };
                self.length(usize::try_from(count)?, false)?;
                for _ in 0..count {
                    self.value(field, element)?;
                }
                Ok(())
            }
            Type::Plain(name) => self.plain(name, field.default.as_deref()),
        }
    }

    fn plain(&mut self, name: &str, default: Option<&str>) -> Result<()> {
        match name {
            "bool" => {
                let flag = match self.fill {
                    Fill::Full => default != Some("true"),
                    Fill::Mixed | Fill::Odd => self.below(2) == 0,
                };
                self.out.push(flag.into());
            }
            "int8" => self.number(1, default),
            "int16" | "uint16" => self.number(2, default),
            "int32" | "uint32" => self.number(4, default),
            "int64" => self.number(8, default),
            "float64" => {
                let value = f64::from((self.random)()) + 0.5;
                self.out.extend_from_slice(&value.to_be_bytes());
            }
            "uuid" => {
                for _ in 0..4 {
                    let word = (self.random)() | 1;
                    self.out.extend_from_slice(&word.to_be_bytes());
                }
            }
            "string" => return self.text(),
            "bytes" | "records" => return self.bytes(),
            other => bail!("type {other} has no sample"),
        }
        Ok(())
    }

    /// Writes a number of any size and sign. All ones, all zeroes and the default occur only where they are wanted.
    fn number(&mut self, width: usize, default: Option<&str>) {
        let extreme = self.rarely();
        loop {
            let wide = (u64::from((self.random)()) << 32) | u64::from((self.random)());
            // small numbers are as frequent as large ones
            let shift = (self.random)() % 64;
            let value = match (extreme, wide % 3) {
                (false, _) => wide >> shift,
                (true, 0) => 0,
                (true, 1) => u64::MAX,
                (true, _) => 1 << (8 * width - 1),
            };
            let bytes = &value.to_be_bytes()[8 - width..];
            let is_default = default.map_or_else(
                || bytes.iter().all(|byte| *byte == 0),
                |text| text == signed(bytes).to_string(),
            );
            if self.fill != Fill::Full || !is_default {
                self.out.extend_from_slice(bytes);
                return;
            }
        }
    }

    fn text(&mut self) -> Result<()> {
        const ALPHABET: [&str; 8] = ["a", "Z", "7", ".", "_", "\u{e9}", "\u{65e5}", "\u{1f980}"];
        if self.fill == Fill::Odd {
            let odd = match self.below(8) {
                0..=3 => Some(NAME.as_bytes().to_vec()),
                4 => Some(vec![b'x'; TEXT_BYTES_MAX]),
                5 => Some(vec![b'\xff'; TEXT_BYTES_MAX / 3]),
                _ => None,
            };
            if let Some(odd) = odd {
                self.length(odd.len(), true)?;
                self.out.extend_from_slice(&odd);
                return Ok(());
            }
        }
        let chars = match self.below(16) {
            _ if self.rarely() => 0,
            0 => 130,
            few => few,
        };
        let mut text = String::new();
        for _ in 0..chars {
            text.push_str(ALPHABET[usize::try_from(self.below(8))?]);
        }
        self.length(text.len(), true)?;
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn bytes(&mut self) -> Result<()> {
        let count = match self.below(8) {
            _ if self.rarely() => 0,
            0 => 700,
            few => few * 9,
        };
        self.length(usize::try_from(count)?, false)?;
        for _ in 0..count {
            let byte = (self.random)().to_be_bytes()[0];
            self.out.push(byte);
        }
        Ok(())
    }

    fn length(&mut self, length: usize, is_text: bool) -> Result<()> {
        if self.flexible {
            return self.varint(length + 1);
        }
        if is_text {
            let length = i16::try_from(length)?;
            self.out.extend_from_slice(&length.to_be_bytes());
        } else {
            let length = i32::try_from(length)?;
            self.out.extend_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }

    fn varint(&mut self, mut value: usize) -> Result<()> {
        while value >= 0x80 {
            self.out.push(u8::try_from(value & 0x7f)? | 0x80);
            value >>= 7;
        }
        self.out.push(u8::try_from(value)?);
        Ok(())
    }
}

fn signed(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let start = if negative { -1 } else { 0 };
    bytes
        .iter()
        .fold(start, |value, byte| (value << 8) | i64::from(*byte))
}
