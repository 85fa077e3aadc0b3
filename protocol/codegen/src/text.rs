//! Our schema language: one message in a file, one field in a line, structures by indentation.
//!
//! ```text
//! request 0 ProduceRequest 3-13 flexible 9+
//! Acks int16 0+
//! TopicData []TopicProduceData 0+
//!   Name string 0-12 key ignorable entity topicName
//! ```

use std::fmt::Write;

use anyhow::{Context, Result, bail};

use crate::definitions::ty;
use crate::model::{Field, Kind, Message, Struct, Type, Versions};

fn show(versions: Versions) -> String {
    match versions {
        none if none.is_empty() => "none".to_owned(),
        Versions {
            first,
            last: i16::MAX,
        } => format!("{first}+"),
        Versions { first, last } if first == last => first.to_string(),
        Versions { first, last } => format!("{first}-{last}"),
    }
}

fn show_type(ty: &Type) -> String {
    match ty {
        Type::Plain(name) | Type::Struct(name) => name.clone(),
        Type::Array(element) => format!("[]{}", show_type(element)),
    }
}

/// Prints a message in the schema language.
pub(crate) fn print(message: &Message) -> String {
    let kind = match message.kind {
        Kind::Request => "request",
        Kind::Response => "response",
    };
    let mut out = format!(
        "{kind} {} {} {} flexible {}{}\n",
        message.key,
        message.name,
        show(message.valid),
        show(message.flexible),
        if message.unstable { " unstable" } else { "" },
    );
    print_fields(&mut out, &message.fields, 0);
    for shared in &message.structs {
        line(
            &mut out,
            0,
            &format!("struct {} {}", shared.name, show(shared.versions)),
        );
        print_fields(&mut out, &shared.fields, 1);
    }
    out
}

fn line(out: &mut String, depth: usize, text: &str) {
    let written = writeln!(out, "{:indent$}{text}", "", indent = depth * 2);
    debug_assert!(written.is_ok(), "writing to a string");
}

fn print_fields(out: &mut String, fields: &[Field], depth: usize) {
    for field in fields {
        let mut text = format!(
            "{} {} {}",
            field.name,
            show_type(&field.ty),
            show(field.versions)
        );
        if !field.nullable.is_empty() {
            text += &format!(" nullable {}", show(field.nullable));
        }
        if let Some((tag, versions)) = field.tagged {
            text += &format!(" tag {tag} {}", show(versions));
        }
        if let Some(flexible) = field.flexible {
            text += &format!(" flexible {}", show(flexible));
        }
        if let Some(default) = &field.default {
            text += &format!(" default {default}");
        }
        for (set, word) in [(field.map_key, " key"), (field.ignorable, " ignorable")] {
            if set {
                text += word;
            }
        }
        if let Some(entity) = &field.entity {
            text += &format!(" entity {entity}");
        }
        line(out, depth, &text);
        print_fields(out, &field.fields, depth + 1);
    }
}

/// Parses a message.
pub(crate) fn parse(source: &str) -> Result<Message> {
    let mut lines = source
        .lines()
        .filter(|line| !line.trim().is_empty())
        .peekable();
    let head = lines.next().context("the file is empty")?;
    let words: Vec<&str> = head.split_whitespace().collect();
    let [kind, key, name, valid, "flexible", flexible, rest @ ..] = words.as_slice() else {
        bail!("the first line of a message is malformed: {head}");
    };
    let kind = match *kind {
        "request" => Kind::Request,
        "response" => Kind::Response,
        other => bail!("the first line must begin with request or response, not {other}"),
    };
    let mut message = Message {
        name: (*name).to_owned(),
        kind,
        key: key.parse()?,
        valid: Versions::parse(valid)?,
        flexible: Versions::parse(flexible)?,
        unstable: rest == ["unstable"],
        fields: Vec::new(),
        structs: Vec::new(),
    };
    let mut lines: Vec<(usize, &str)> = lines
        .map(|line| {
            let text = line.trim_start();
            ((line.len() - text.len()) / 2, text)
        })
        .collect();
    lines.reverse();
    while let Some((_, text)) = lines.last().copied() {
        if let Some(rest) = text.strip_prefix("struct ") {
            lines.pop();
            let (name, of) = rest
                .split_once(' ')
                .context("the structure has no versions")?;
            let fields = parse_fields(&mut lines, 1)?;
            message.structs.push(Struct {
                name: name.to_owned(),
                versions: Versions::parse(of)?,
                fields,
            });
        } else {
            message.fields.extend(parse_fields(&mut lines, 0)?);
        }
    }
    Ok(message)
}

fn parse_fields(lines: &mut Vec<(usize, &str)>, depth: usize) -> Result<Vec<Field>> {
    let mut fields = Vec::new();
    while let Some((at, text)) = lines.last().copied() {
        if at != depth || text.starts_with("struct ") {
            break;
        }
        lines.pop();
        let mut field = parse_field(text)?;
        field.fields = parse_fields(lines, depth + 1)?;
        fields.push(field);
    }
    Ok(fields)
}

fn parse_field(text: &str) -> Result<Field> {
    let mut words = text.split_whitespace();
    let mut next = || {
        words
            .next()
            .with_context(|| format!("the field is incomplete: {text}"))
    };
    let mut field = Field {
        name: next()?.to_owned(),
        ty: ty(next()?),
        versions: Versions::parse(next()?)?,
        nullable: Versions::NONE,
        tagged: None,
        flexible: None,
        default: None,
        map_key: false,
        ignorable: false,
        entity: None,
        fields: Vec::new(),
    };
    while let Some(word) = words.next() {
        let mut next = || {
            words
                .next()
                .with_context(|| format!("the field is incomplete: {text}"))
        };
        match word {
            "nullable" => field.nullable = Versions::parse(next()?)?,
            "tag" => field.tagged = Some((next()?.parse()?, Versions::parse(next()?)?)),
            "flexible" => field.flexible = Some(Versions::parse(next()?)?),
            "default" => field.default = Some(next()?.to_owned()),
            "key" => field.map_key = true,
            "ignorable" => field.ignorable = true,
            "entity" => field.entity = Some(next()?.to_owned()),
            other => bail!("the word {other} is unknown: {text}"),
        }
    }
    Ok(field)
}
