//! What a message is made of.

/// A range of versions; the end is `i16::MAX` where Kafka writes `3+`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The first.
    pub first: i16,
    /// The last.
    pub last: i16,
}

impl Versions {
    /// No version at all.
    pub const NONE: Self = Self { first: 0, last: -1 };

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.first > self.last
    }

    /// The versions in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            first: self.first.max(other.first),
            last: self.last.min(other.last),
        }
    }
}

/// Whether a message asks or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Kind {
    Request,
    Response,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Kafka's name: `ProduceRequest`.
    pub name: String,
    /// Request or response.
    pub kind: Kind,
    /// The API key.
    pub key: i16,
    /// The versions there are.
    pub valid: Versions,
    /// The versions with compact lengths and tagged fields.
    pub flexible: Versions,
    /// Whether the newest version may still change.
    pub unstable: bool,
    /// Its fields.
    pub fields: Vec<Field>,
    /// Structures that several fields share.
    pub structs: Vec<Struct>,
}

/// A shared structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Struct {
    /// Its name.
    pub name: String,
    /// The versions it is in.
    pub versions: Versions,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Kafka's name: `TimeoutMs`.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// The versions it is in.
    pub versions: Versions,
    /// The versions in which it may be null.
    pub nullable: Versions,
    /// Its tag and the versions in which it is tagged.
    pub tagged: Option<(u32, Versions)>,
    /// Overrides the message's flexible versions for this field.
    pub flexible: Option<Versions>,
    /// Its default, as written.
    pub default: Option<String>,
    /// Whether it is part of the key of its array.
    pub map_key: bool,
    /// Whether it is left out in silence where a version lacks it.
    pub ignorable: bool,
    /// What it names: `topicName`.
    pub entity: Option<String>,
    /// The fields of the structure that its type names, if it is declared here.
    pub fields: Vec<Field>,
}

/// The type of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// A number, text, bytes, uuid or records, by Kafka's name.
    Plain(String),
    /// A structure, by name.
    Struct(String),
    /// Many of one type.
    Array(Box<Type>),
}
