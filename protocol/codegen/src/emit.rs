//! Generates Rust from a message's definition.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Result, bail};

use crate::model::{Field, Kind, Message, Type, Versions};

/// Turns `TimeoutMs` into `timeout_ms`.
pub(crate) fn snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, c) in chars.iter().enumerate() {
        let starts_word = c.is_ascii_uppercase()
            && i > 0
            && (!chars[i - 1].is_ascii_uppercase()
                || chars.get(i + 1).is_some_and(char::is_ascii_lowercase));
        if starts_word {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    match out.as_str() {
        "type" | "match" => out + "_",
        _ => out,
    }
}

/// Generates the enum of all API keys.
pub(crate) fn api_keys(all: &BTreeMap<String, Message>) -> String {
    let mut keys: Vec<(i16, &str)> = all
        .values()
        .filter(|message| message.kind == Kind::Request)
        .map(|message| (message.key, message.name.trim_end_matches("Request")))
        .collect();
    keys.sort_unstable();
    let mut out = String::from(HEAD);
    out += "/// Kafka's APIs for clients, by key.\n#[derive(Debug, Clone, Copy, PartialEq, Eq, \
            PartialOrd, Ord, Hash)]\n#[repr(i16)]\npub enum ApiKey {\n";
    for (key, name) in &keys {
        put(&mut out, &format!("{name} = {key},"));
    }
    out += "}\n\nimpl ApiKey {\n/// All APIs, by key.\npub const ALL: &[Self] = &[\n";
    for (_, name) in &keys {
        put(&mut out, &format!("Self::{name},"));
    }
    out += "];\n\n/// Kafka's name of the API.\n#[must_use]\npub const fn name(self) -> &'static str {\nmatch self {\n";
    for (_, name) in &keys {
        put(&mut out, &format!("Self::{name} => \"{name}\","));
    }
    out += "}\n}\n}\n\n/// The first flexible version of an API (KIP-482).\n#[must_use]\npub const fn flexible_from(key: \
            ApiKey) -> i16 {\nmatch key {\n";
    for message in all.values().filter(|message| message.kind == Kind::Request) {
        let name = message.name.trim_end_matches("Request");
        put(
            &mut out,
            &format!("ApiKey::{name} => {},", flexible_from(message)),
        );
    }
    out + "}\n}\n"
}

const HEAD: &str =
    "// Generated from protocol/schema by `cargo xtask codegen`; not to be edited.\n\n";

/// Generates the root module.
pub(crate) fn modules<'a>(files: impl Iterator<Item = &'a str>, served: &[String]) -> String {
    let names: Vec<&str> = files.map(|file| file.trim_end_matches(".rs")).collect();
    let mut out = String::from(
        "//! Kafka's messages, each in a module and also exported here, except for names that several messages have.\n",
    );
    out += "#![expect(missing_docs, ambiguous_glob_reexports, unused_variables, unused_mut, clippy::all, clippy::too_many_lines, \
            reason = \"generated: the names are Kafka's\")]\n";
    out += HEAD;
    for name in &names {
        put(&mut out, &format!("pub mod {name};"));
    }
    for name in &names {
        put(&mut out, &format!("pub use {name}::*;"));
    }
    out += "\n/// Calls the macro `$each` with the name of a request and that of its response, once for every API with messages here.\n\
            #[macro_export]\nmacro_rules! for_each_api {\n($each:ident) => {\n";
    for name in served {
        put(
            &mut out,
            &format!("    $each!({name}Request, {name}Response);"),
        );
    }
    out += "};\n}\n";
    out
}

fn put(out: &mut String, line: &str) {
    let written = writeln!(out, "{line}");
    debug_assert!(written.is_ok(), "writing to a string");
}

/// Generates the module of a message.
pub(crate) fn message(message: &Message) -> Result<String> {
    let mut emitter = Emitter {
        message,
        out: String::from(HEAD),
    };
    emitter.out += "use bytes::Bytes;\nuse highwater_types::Uuid;\n\nuse crate::records_field::Records;\nuse \
                    crate::wire::{DecodeError, FrameWriter, Reader, StrBytes};\nuse crate::{ApiKey, Message, \
                    Request};\n\n";
    emitter.structure(&message.name, &message.fields)?;
    for shared in &message.structs {
        emitter.structure(&shared.name, &shared.fields)?;
    }
    if message.kind == Kind::Request {
        emitter.request();
    }
    Ok(emitter.prune_imports())
}

struct Emitter<'a> {
    message: &'a Message,
    out: String,
}

impl Emitter<'_> {
    fn prune_imports(self) -> String {
        let (head, body) = self.out.split_at(self.out.find("#[derive").unwrap_or(0));
        let mut head = head.to_owned();
        for (name, line) in [
            ("Bytes", "use bytes::Bytes;\n"),
            ("Uuid", "use highwater_types::Uuid;\n"),
            ("Records", "use crate::records_field::Records;\n"),
        ] {
            let used = body
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .any(|word| word == name);
            if !used {
                head = head.replace(line, "");
            }
        }
        let uses_text = body.contains("StrBytes");
        if !uses_text {
            head = head.replace(", StrBytes}", "}");
        }
        if self.message.kind == Kind::Response {
            head = head.replace(
                "use crate::{ApiKey, Message, Request};",
                "use crate::Message;",
            );
        }
        head + body
    }

    fn put(&mut self, line: &str) {
        put(&mut self.out, line);
    }

    fn request(&mut self) {
        let name = &self.message.name;
        let bare = name.trim_end_matches("Request");
        let Versions { first, last } = self.message.valid;
        let flexible = flexible_from(self.message);
        let lower = snake(bare);
        let text = format!(
            "impl Request for {name} {{\nconst KEY: ApiKey = ApiKey::{bare};\nconst VALID: \
             std::ops::RangeInclusive<i16> = {first}..={last};\nconst FLEXIBLE_FROM: i16 = {flexible};\ntype Response = \
             super::{lower}_response::{bare}Response;\n}}"
        );
        self.put(&text);
    }

    fn structure(&mut self, name: &str, fields: &[Field]) -> Result<()> {
        self.put(&format!(
            "#[derive(Debug, Clone, PartialEq)]\npub struct {name} {{"
        ));
        for field in fields {
            self.put(&format!(
                "pub {}: {},",
                snake(&field.name),
                rust_type(field)
            ));
        }
        self.put("}\n");
        self.put(&format!(
            "impl Default for {name} {{\nfn default() -> Self {{\nSelf {{"
        ));
        for field in fields {
            self.put(&format!("{}: {},", snake(&field.name), default(field)));
        }
        self.put("}\n}\n}\n");
        self.put(&format!("impl Message for {name} {{"));
        self.read(fields)?;
        self.write(fields)?;
        self.put("}\n");
        for field in fields {
            if let Some(inner) = struct_name(&field.ty)
                && !field.fields.is_empty()
            {
                self.structure(inner, &field.fields)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, fields: &[Field]) -> Result<()> {
        self.put("fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {");
        self.put(&format!(
            "let flexible = version >= {};",
            flexible_from(self.message)
        ));
        self.put("let mut this = Self::default();");
        for field in fields {
            let place = format!("this.{}", snake(&field.name));
            let value = self.read_value(field)?;
            let statement = format!("{place} = {value};");
            self.guarded(self.plain_versions(field), field, &statement);
        }
        self.put("if flexible {\nr.tagged_fields(|tag, r| {\nmatch tag {");
        for field in fields {
            let Some((tag, versions)) = field.tagged else {
                continue;
            };
            let condition = self
                .condition(versions)
                .unwrap_or_else(|| "true".to_owned());
            let value = self.read_value(field)?;
            let place = format!("this.{}", snake(&field.name));
            self.put(&format!(
                "{tag} if {condition} => {{ {place} = {value}; Ok(true) }}"
            ));
        }
        self.put("_ => Ok(false),\n}\n})?;\n}\nOk(this)\n}\n");
        Ok(())
    }

    fn write(&mut self, fields: &[Field]) -> Result<()> {
        self.put("fn write(&self, out: &mut FrameWriter, version: i16) {");
        self.put(&format!(
            "let flexible = version >= {};",
            flexible_from(self.message)
        ));
        for field in fields {
            let statement = self.write_value(field)?;
            self.guarded(self.plain_versions(field), field, &statement);
        }
        self.put("if flexible {\nlet mut tagged = 0;");
        let mut tagged: Vec<(u32, String, String)> = Vec::new();
        for field in fields {
            let Some((tag, versions)) = field.tagged else {
                continue;
            };
            let place = format!("self.{}", snake(&field.name));
            let mut condition = format!("{place} != {}", comparable_default(field));
            if let Some(versions) = self.condition(versions) {
                condition = format!("{versions} && {condition}");
            }
            self.put(&format!("if {condition} {{ tagged += 1; }}"));
            tagged.push((tag, condition, self.write_value(field)?));
        }
        tagged.sort_by_key(|(tag, ..)| *tag);
        self.put("out.unsigned_varint(tagged);");
        for (tag, condition, statement) in tagged {
            self.put(&format!(
                "if {condition} {{ out.tagged({tag}, |out| {{ {statement} }}); }}"
            ));
        }
        self.put("}\n}\n");
        Ok(())
    }

    /// The versions in which a field is encoded in its place, not as a tagged field.
    fn plain_versions(&self, field: &Field) -> Versions {
        let own = field.versions.and(self.message.valid);
        match field.tagged {
            Some((_, tagged)) => Versions {
                last: own.last.min(tagged.first - 1),
                ..own
            },
            None => own,
        }
    }

    fn guarded(&mut self, versions: Versions, _field: &Field, statement: &str) {
        if versions.is_empty() {
            return;
        }
        match self.condition(versions) {
            Some(condition) => self.put(&format!("if {condition} {{ {statement} }}")),
            None => self.put(statement),
        }
    }

    /// The condition that a version is within a range; `None` if it always is.
    fn condition(&self, versions: Versions) -> Option<String> {
        let valid = self.message.valid;
        let versions = versions.and(valid);
        match (versions.first > valid.first, versions.last < valid.last) {
            _ if versions.is_empty() => Some("false".to_owned()),
            (false, false) => None,
            (true, false) => Some(format!("version >= {}", versions.first)),
            (false, true) => Some(format!("version <= {}", versions.last)),
            (true, true) => Some(format!(
                "({}..={}).contains(&version)",
                versions.first, versions.last
            )),
        }
    }

    fn read_value(&self, field: &Field) -> Result<String> {
        let plain = read_type(&field.ty, false)?;
        if !optional(field) {
            return Ok(plain);
        }
        let nullable = read_type(&field.ty, true)?;
        let null_here = field.nullable.and(field.versions);
        Ok(match self.condition(null_here) {
            None => nullable,
            Some(condition) if condition == "false" => format!("Some({plain})"),
            Some(condition) => {
                format!("if {condition} {{ {nullable} }} else {{ Some({plain}) }}")
            }
        })
    }

    fn write_value(&self, field: &Field) -> Result<String> {
        let place = format!("self.{}", snake(&field.name));
        let is_error = self.message.kind == Kind::Response && field.name.ends_with("ErrorCode");
        if is_error && matches!(&field.ty, Type::Plain(name) if name == "int16") {
            return Ok(format!("out.error_code({place});"));
        }
        if !optional(field) {
            return write_type(&field.ty, &place, Null::Never);
        }
        let nullable = write_type(&field.ty, &place, Null::Allowed)?;
        let null_here = field.nullable.and(field.versions);
        Ok(match self.condition(null_here) {
            None => nullable,
            Some(condition) => {
                let plain = write_type(&field.ty, &place, Null::AsDefault)?;
                format!("if {condition} {{ {nullable} }} else {{ {plain} }}")
            }
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Null {
    /// The field is no `Option`.
    Never,
    /// The field is an `Option`, and null can be encoded.
    Allowed,
    /// The field is an `Option`, but the version has no null: the default of the type is encoded.
    AsDefault,
}

fn flexible_from(message: &Message) -> i16 {
    if message.flexible.is_empty() {
        i16::MAX
    } else {
        message.flexible.first
    }
}

fn struct_name(ty: &Type) -> Option<&str> {
    match ty {
        Type::Struct(name) => Some(name),
        Type::Array(element) => struct_name(element),
        Type::Plain(_) => None,
    }
}

fn optional(field: &Field) -> bool {
    !field.nullable.is_empty()
}

fn bare_type(ty: &Type) -> String {
    match ty {
        Type::Struct(name) => name.clone(),
        Type::Array(element) => format!("Vec<{}>", bare_type(element)),
        Type::Plain(name) => match name.as_str() {
            "int8" => "i8",
            "int16" => "i16",
            "int32" => "i32",
            "int64" => "i64",
            "uint16" => "u16",
            "uint32" => "u32",
            "float64" => "f64",
            "bool" => "bool",
            "string" => "StrBytes",
            "uuid" => "Uuid",
            "bytes" => "Bytes",
            _ => "Records",
        }
        .to_owned(),
    }
}

fn rust_type(field: &Field) -> String {
    let bare = bare_type(&field.ty);
    if optional(field) {
        format!("Option<{bare}>")
    } else {
        bare
    }
}

fn default(field: &Field) -> String {
    let text = field.default.as_deref();
    if optional(field) {
        return match text {
            Some("null") => "None".to_owned(),
            Some(text) => format!("Some(StrBytes::from_static(\"{text}\"))"),
            None => "Some(Default::default())".to_owned(),
        };
    }
    match (&field.ty, text) {
        (_, None) => "Default::default()".to_owned(),
        (Type::Plain(name), Some(text)) if name == "string" => {
            format!("StrBytes::from_static(\"{text}\")")
        }
        (Type::Plain(name), Some(text)) if name == "float64" => format!("{text}_f64"),
        (_, Some(text)) => text.to_owned(),
    }
}

/// A default value that can be compared by `!=` without naming a type.
fn comparable_default(field: &Field) -> String {
    match default(field).as_str() {
        "Default::default()" => format!("<{}>::default()", rust_type(field)),
        other => other.to_owned(),
    }
}

fn read_type(ty: &Type, nullable: bool) -> Result<String> {
    let prefix = if nullable { "nullable_" } else { "" };
    Ok(match ty {
        Type::Plain(name) => match name.as_str() {
            "int8" | "int16" | "int32" | "int64" | "uint16" | "uint32" | "float64" | "bool"
            | "uuid"
                if !nullable =>
            {
                format!("r.{}()?", bare_type(ty).to_ascii_lowercase())
            }
            "string" | "bytes" | "records" => format!("r.{prefix}{name}(flexible)?"),
            other => bail!("type {other} can't be nullable"),
        },
        Type::Struct(name) if nullable => {
            format!("r.nullable_struct(|r| {name}::read(r, version))?")
        }
        Type::Struct(name) => format!("{name}::read(r, version)?"),
        Type::Array(element) => {
            let one = read_type(element, false)?;
            let one = one.strip_suffix('?').unwrap_or(&one);
            format!("r.{prefix}array(flexible, |r| {one})?")
        }
    })
}

fn write_type(ty: &Type, place: &str, null: Null) -> Result<String> {
    Ok(match ty {
        Type::Plain(name) => match (name.as_str(), null) {
            ("string" | "bytes" | "records", Null::Never) => {
                format!("out.{name}(&{place}, flexible);")
            }
            ("string" | "bytes" | "records", Null::Allowed) => {
                format!("out.nullable_{name}({place}.as_ref(), flexible);")
            }
            ("string" | "bytes" | "records", Null::AsDefault) => {
                format!("out.{name}({place}.as_ref().unwrap_or(&Default::default()), flexible);")
            }
            (other, Null::Never) => {
                let star = if place.starts_with("self.") { "" } else { "*" };
                format!(
                    "out.{}({star}{place});",
                    bare_type(&Type::Plain(other.to_owned())).to_ascii_lowercase()
                )
            }
            (other, _) => bail!("type {other} can't be nullable"),
        },
        Type::Struct(_) => match null {
            Null::Never => format!("{place}.write(out, version);"),
            Null::Allowed => {
                format!(
                    "out.nullable_struct({place}.as_ref(), |out, one| one.write(out, version));"
                )
            }
            Null::AsDefault => {
                format!("{place}.as_ref().unwrap_or(&Default::default()).write(out, version);")
            }
        },
        Type::Array(element) => {
            let one = write_type(element, "one", Null::Never)?;
            let one = format!("|out, one| {{ {one} }}");
            match null {
                Null::Never => format!("out.array(&{place}, flexible, {one});"),
                Null::Allowed => {
                    format!("out.nullable_array({place}.as_deref(), flexible, {one});")
                }
                Null::AsDefault => {
                    format!("out.array({place}.as_deref().unwrap_or_default(), flexible, {one});")
                }
            }
        }
    })
}
