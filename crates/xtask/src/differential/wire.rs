//! Encodes and decodes messages as trees, from the schema alone, so that neither broker's code takes part.
//!
//! The tree of a request uses Kafka's names of fields; a field that it omits has the schema's default. The tree of an
//! answer has exactly the fields that were sent, so that an omitted tagged field differs from one that has its
//! default.

use anyhow::{Context, Result, bail, ensure};
use highwater_codegen::{Field, Message, Type, Versions};
use serde_json::{Map, Value};

use super::records;

/// Maps each plain value of an answer.
pub(super) type OnValue<'a> = &'a mut dyn FnMut(&Field, Value) -> Value;

fn contains(versions: Versions, version: i16) -> bool {
    (versions.first..=versions.last).contains(&version)
}

/// Decodes hexadecimal digits; blanks are ignored.
pub(super) fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits: String = text
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .collect();
    ensure!(
        digits.len().is_multiple_of(2),
        "the number of hexadecimal digits is odd"
    );
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).context("hexadecimal digits"))
        .collect()
}

/// Encodes bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The fields of a structure that is the type of a field.
fn fields_of<'a>(message: &'a Message, field: &'a Field, name: &str) -> &'a [Field] {
    let shared = message.structs.iter().find(|one| one.name == name);
    match shared {
        Some(shared) if field.fields.is_empty() => &shared.fields,
        _ => &field.fields,
    }
}

/// Encodes a message. Timestamps of records are relative to `start`.
pub(super) fn encode(message: &Message, version: i16, tree: &Value, start: i64) -> Result<Vec<u8>> {
    let mut encoder = Encoder {
        message,
        version,
        flexible: contains(message.flexible, version),
        start,
        out: Vec::new(),
    };
    encoder.fields(&message.fields, tree)?;
    Ok(encoder.out)
}

struct Encoder<'a> {
    message: &'a Message,
    version: i16,
    flexible: bool,
    start: i64,
    out: Vec<u8>,
}

impl<'a> Encoder<'a> {
    fn fields(&mut self, fields: &'a [Field], tree: &Value) -> Result<()> {
        let given = tree.as_object().context("a structure must be an object")?;
        for name in given.keys() {
            ensure!(
                fields.iter().any(|field| field.name == *name),
                "there is no field {name}"
            );
        }
        let mut tagged: Vec<(u32, Vec<u8>)> = Vec::new();
        for field in fields {
            if !contains(field.versions, self.version) {
                continue;
            }
            let value = given.get(&field.name);
            match field.tagged {
                Some((tag, versions)) if contains(versions, self.version) => {
                    let Some(value) = value else { continue };
                    let before = std::mem::take(&mut self.out);
                    self.field(field, value)
                        .with_context(|| field.name.clone())?;
                    tagged.push((tag, std::mem::replace(&mut self.out, before)));
                }
                _ => {
                    let default = self.default(field);
                    self.field(field, value.unwrap_or(&default))
                        .with_context(|| field.name.clone())?;
                }
            }
        }
        if self.flexible {
            tagged.sort_by_key(|(tag, _)| *tag);
            self.varint(tagged.len());
            for (tag, bytes) in tagged {
                self.varint(usize::try_from(tag)?);
                self.varint(bytes.len());
                self.out.extend_from_slice(&bytes);
            }
        }
        Ok(())
    }

    fn default(&self, field: &Field) -> Value {
        match (&field.ty, field.default.as_deref()) {
            (_, Some("null")) if contains(field.nullable, self.version) => Value::Null,
            (Type::Array(_), _) => Value::Array(Vec::new()),
            (Type::Struct(_), _) => Value::Object(Map::new()),
            (Type::Plain(name), given) => match (name.as_str(), given) {
                ("string" | "bytes", given) => Value::from(given.unwrap_or_default()),
                ("records", _) => Value::Null,
                ("bool", given) => Value::from(given == Some("true")),
                ("uuid", _) => Value::from("0".repeat(32)),
                (_, given) => Value::from(given.map_or(0, number)),
            },
        }
    }

    fn field(&mut self, field: &'a Field, value: &Value) -> Result<()> {
        if matches!(field.ty, Type::Struct(_)) && contains(field.nullable, self.version) {
            if value.is_null() {
                self.out.push(0xff);
                return Ok(());
            }
            self.out.push(1);
        }
        self.value(field, &field.ty, value)
    }

    fn value(&mut self, field: &'a Field, ty: &'a Type, value: &Value) -> Result<()> {
        match ty {
            Type::Struct(name) => self.fields(fields_of(self.message, field, name), value),
            Type::Array(_) if value.is_null() => {
                self.length(None, false)?;
                Ok(())
            }
            Type::Array(element) => {
                let list = value.as_array().context("a list")?;
                self.length(Some(list.len()), false)?;
                for one in list {
                    self.value(field, element, one)?;
                }
                Ok(())
            }
            Type::Plain(name) => self.plain(name, value),
        }
    }

    fn plain(&mut self, name: &str, value: &Value) -> Result<()> {
        let integer = || value.as_i64().with_context(|| format!("a number: {value}"));
        match name {
            "bool" => self.out.push(
                value
                    .as_bool()
                    .context("the value must be true or false")?
                    .into(),
            ),
            "int8" => self.out.extend(i8::try_from(integer()?)?.to_be_bytes()),
            "int16" => self.out.extend(i16::try_from(integer()?)?.to_be_bytes()),
            "uint16" => self.out.extend(u16::try_from(integer()?)?.to_be_bytes()),
            "int32" => self.out.extend(i32::try_from(integer()?)?.to_be_bytes()),
            "int64" => self.out.extend(integer()?.to_be_bytes()),
            "uuid" => {
                let id = unhex(value.as_str().context("an id")?)?;
                ensure!(id.len() == 16, "an id must have 16 bytes");
                self.out.extend_from_slice(&id);
            }
            "string" | "bytes" | "records" => {
                let bytes = match value {
                    Value::Null => None,
                    Value::String(text) => Some(match text.strip_prefix("hex:") {
                        Some(digits) => unhex(digits)?,
                        None => text.clone().into_bytes(),
                    }),
                    spec => Some(records::build(spec, self.start)?),
                };
                self.length(bytes.as_ref().map(Vec::len), name == "string")?;
                self.out.extend_from_slice(&bytes.unwrap_or_default());
            }
            other => bail!("type {other} can't be encoded"),
        }
        Ok(())
    }

    fn length(&mut self, length: Option<usize>, is_text: bool) -> Result<()> {
        match length {
            length if self.flexible => self.varint(length.map_or(0, |length| length + 1)),
            None if is_text => self.out.extend((-1i16).to_be_bytes()),
            None => self.out.extend((-1i32).to_be_bytes()),
            Some(length) if is_text => self.out.extend(i16::try_from(length)?.to_be_bytes()),
            Some(length) => self.out.extend(i32::try_from(length)?.to_be_bytes()),
        }
        Ok(())
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.out.push((value & 0x7f).to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.out.push(value.to_le_bytes()[0]);
    }
}

fn number(text: &str) -> i64 {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).unwrap_or(0),
        None => text.parse().unwrap_or(0),
    }
}

/// Decodes an answer after its header; fails if it isn't what the schema says, or has more bytes.
pub(super) fn decode(
    message: &Message,
    version: i16,
    bytes: &[u8],
    on: OnValue<'_>,
) -> Result<Value> {
    let mut decoder = Decoder {
        message,
        version,
        flexible: contains(message.flexible, version),
        rest: bytes,
        on,
    };
    let tree = decoder.fields(&message.fields)?;
    ensure!(
        decoder.rest.is_empty(),
        "{} bytes are left over",
        decoder.rest.len()
    );
    Ok(tree)
}

/// Whether the header of an answer has tagged fields. That of ApiVersions never has them (KIP-511).
pub(super) fn has_flexible_header(message: &Message, version: i16) -> bool {
    contains(message.flexible, version) && message.name != "ApiVersionsResponse"
}

struct Decoder<'a, 'b> {
    message: &'a Message,
    version: i16,
    flexible: bool,
    rest: &'b [u8],
    on: OnValue<'a>,
}

impl<'a, 'b> Decoder<'a, 'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8]> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .with_context(|| format!("{count} bytes wanted, {} left", self.rest.len()))?;
        self.rest = rest;
        Ok(taken)
    }

    fn integer(&mut self, width: usize) -> Result<i64> {
        let bytes = self.take(width)?;
        let negative = bytes.first().is_some_and(|first| *first >= 0x80);
        let start = if negative { -1 } else { 0 };
        Ok(bytes
            .iter()
            .fold(start, |value, byte| (value << 8) | i64::from(*byte)))
    }

    fn varint(&mut self) -> Result<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = usize::from(self.take(1)?[0]);
            value |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a varint does not end")
    }

    fn length(&mut self, is_text: bool) -> Result<Option<usize>> {
        if self.flexible {
            return Ok(self.varint()?.checked_sub(1));
        }
        match self.integer(if is_text { 2 } else { 4 })? {
            -1 => Ok(None),
            length => Ok(Some(usize::try_from(length).context("a length")?)),
        }
    }

    fn fields(&mut self, fields: &'a [Field]) -> Result<Value> {
        let mut tree = Map::new();
        let version = self.version;
        let is_tagged = |field: &Field| {
            let tag = field.tagged.filter(|(_, of)| contains(*of, version));
            tag.map(|(tag, _)| tag)
        };
        let here = |field: &&Field| contains(field.versions, version);
        for field in fields.iter().filter(here) {
            if is_tagged(field).is_none() {
                let value = self.field(field).with_context(|| field.name.clone())?;
                tree.insert(field.name.clone(), value);
            }
        }
        if self.flexible {
            for _ in 0..self.varint()? {
                let (tag, size) = (self.varint()?, self.varint()?);
                let body = self.take(size)?;
                let known = fields.iter().filter(here).find(|field| {
                    is_tagged(field).and_then(|tag| usize::try_from(tag).ok()) == Some(tag)
                });
                let Some(field) = known else {
                    tree.insert(format!("(tag {tag})"), Value::from(hex(body)));
                    continue;
                };
                let after = std::mem::replace(&mut self.rest, body);
                let value = self.field(field).with_context(|| field.name.clone())?;
                ensure!(
                    self.rest.is_empty(),
                    "{} has {} bytes left over",
                    field.name,
                    self.rest.len()
                );
                self.rest = after;
                tree.insert(field.name.clone(), value);
            }
        }
        Ok(Value::Object(tree))
    }

    fn field(&mut self, field: &'a Field) -> Result<Value> {
        let is_struct = matches!(field.ty, Type::Struct(_));
        if is_struct && contains(field.nullable, self.version) && self.integer(1)? < 0 {
            return Ok(Value::Null);
        }
        self.value(field, &field.ty)
    }

    fn value(&mut self, field: &'a Field, ty: &'a Type) -> Result<Value> {
        match ty {
            Type::Struct(name) => self.fields(fields_of(self.message, field, name)),
            Type::Array(element) => {
                let Some(count) = self.length(false)? else {
                    ensure!(contains(field.nullable, self.version), "null");
                    return Ok(Value::Null);
                };
                let list: Result<_> = (0..count).map(|_| self.value(field, element)).collect();
                Ok(Value::Array(list?))
            }
            Type::Plain(name) => {
                let value = self.plain(field, name)?;
                Ok((self.on)(field, value))
            }
        }
    }

    fn plain(&mut self, field: &Field, name: &str) -> Result<Value> {
        Ok(match name {
            "bool" => Value::from(self.integer(1)? != 0),
            "int8" => Value::from(self.integer(1)?),
            "int16" => Value::from(self.integer(2)?),
            "uint16" => Value::from(self.integer(2)? & 0xffff),
            "int32" => Value::from(self.integer(4)?),
            "int64" => Value::from(self.integer(8)?),
            "uuid" => Value::from(hex(self.take(16)?)),
            "string" | "bytes" | "records" => {
                let Some(length) = self.length(name == "string")? else {
                    ensure!(contains(field.nullable, self.version), "null");
                    return Ok(Value::Null);
                };
                let bytes = self.take(length)?;
                match (name, std::str::from_utf8(bytes)) {
                    ("records", _) => records::show(bytes),
                    (_, Ok(text)) if !text.contains(char::is_control) => Value::from(text),
                    _ => Value::from(format!("hex:{}", hex(bytes))),
                }
            }
            other => bail!("type {other} can't be decoded"),
        })
    }
}
