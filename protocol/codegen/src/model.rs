//! The definition of a message.

use anyhow::{Context, Result};

/// A range of versions; the last is `i16::MAX` where Kafka writes `3+`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The first version.
    pub first: i16,
    /// The last version.
    pub last: i16,
}

impl Versions {
    /// No version.
    pub const NONE: Self = Self { first: 0, last: -1 };

    /// Parses `3-13`, `9+`, `7` or `none`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let number = |digits: &str| {
            digits
                .parse::<i16>()
                .with_context(|| format!("versions {text}"))
        };
        if text == "none" {
            return Ok(Self::NONE);
        }
        if let Some(first) = text.strip_suffix('+') {
            return Ok(Self {
                first: number(first)?,
                last: i16::MAX,
            });
        }
        match text.split_once('-') {
            Some((first, last)) => Ok(Self {
                first: number(first)?,
                last: number(last)?,
            }),
            None => Ok(Self {
                first: number(text)?,
                last: number(text)?,
            }),
        }
    }

    /// Whether the range is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.first > self.last
    }

    /// The versions in both ranges.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            first: self.first.max(other.first),
            last: self.last.min(other.last),
        }
    }
}

/// Whether a message is a request or a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Kind {
    Request,
    Response,
}

/// The definition of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Kafka's name: `ProduceRequest`.
    pub name: String,
    /// Request or response.
    pub kind: Kind,
    /// The API key.
    pub key: i16,
    /// The versions that exist.
    pub valid: Versions,
    /// The versions with compact lengths and tagged fields.
    pub flexible: Versions,
    /// Whether the newest version may still change.
    pub unstable: bool,
    /// The fields.
    pub fields: Vec<Field>,
    /// The structures that several fields share.
    pub structs: Vec<Struct>,
}

/// A structure that several fields share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Struct {
    /// The structure's name.
    pub name: String,
    /// The versions that have it.
    pub versions: Versions,
    /// The structure's fields.
    pub fields: Vec<Field>,
}

/// The definition of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Kafka's name: `TimeoutMs`.
    pub name: String,
    /// The field's type.
    pub ty: Type,
    /// The versions that have it.
    pub versions: Versions,
    /// The versions in which it is nullable.
    pub nullable: Versions,
    /// Its tag, and the versions in which it is a tagged field.
    pub tagged: Option<(u32, Versions)>,
    /// The flexible versions of this field, if they differ from the message's.
    pub flexible: Option<Versions>,
    /// Its default, as text.
    pub default: Option<String>,
    /// Whether it is part of the key of its array.
    pub map_key: bool,
    /// Whether a version that lacks the field omits it silently, instead of refusing a value other than the default.
    pub ignorable: bool,
    /// The entity that it refers to, such as `topicName`.
    pub entity: Option<String>,
    /// The fields of the structure that is its type, if that structure is declared here.
    pub fields: Vec<Field>,
}

/// The type of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// A number, a text, bytes, an id or records, with Kafka's name.
    Plain(String),
    /// A structure, with its name.
    Struct(String),
    /// A list of another type.
    Array(Box<Type>),
}
