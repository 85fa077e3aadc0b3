//! The kinds of values that settings have, and the check of one value.

use highwater_types::ByteSize;

use crate::config::replicas;

/// The values that a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number within bounds; described as Kafka's `int`.
    Int {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A whole number within bounds; described as Kafka's `long`.
    Long {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// `true` or `false`.
    Bool,
    /// A number from 0 to 1; described as Kafka's `double`.
    Ratio,
    /// Any text.
    Text,
    /// A text that is not shown; described as Kafka's `password`.
    Password,
    /// Texts separated by commas.
    List,
    /// Replicas separated by commas, each `partition:broker`, or `*` for all.
    Replicas,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Some of these, separated by commas.
    SomeOf(&'static [&'static str]),
    /// Bytes, with or without a unit: `64MiB`.
    Size {
        /// Smallest, bytes.
        min: u64,
    },
}

impl Kind {
    /// Checks one value.
    ///
    /// # Errors
    /// The reason, in the words that Kafka's clients know.
    pub fn check(&self, value: &str) -> Result<(), String> {
        match self {
            Self::Int { min, max } => match value.trim().parse::<i32>() {
                Ok(number) => between(i64::from(number), *min, *max),
                Err(_) => Err("Not a number of type INT".to_owned()),
            },
            Self::Long { min, max } => match value.trim().parse::<i64>() {
                Ok(number) => between(number, *min, *max),
                Err(_) => Err("Not a number of type LONG".to_owned()),
            },
            Self::Bool => match value.trim().to_ascii_lowercase().as_str() {
                "true" | "false" => Ok(()),
                _ => Err("Expected value to be either true or false".to_owned()),
            },
            Self::Ratio => match value.trim().parse::<f64>() {
                Ok(ratio) if ratio < 0.0 => Err("Value must be at least 0".to_owned()),
                Ok(ratio) if ratio <= 1.0 => Ok(()),
                Ok(_) => Err("Value must be no more than 1".to_owned()),
                Err(_) => Err("Not a number of type DOUBLE".to_owned()),
            },
            Self::Text | Self::Password | Self::List => Ok(()),
            Self::Replicas => replicas::check(value),
            Self::OneOf(allowed) => one_of(value.trim(), allowed),
            Self::SomeOf(_) if value.trim().is_empty() => Ok(()),
            Self::SomeOf(allowed) => value
                .split(',')
                .map(str::trim)
                .try_for_each(|part| one_of(part, allowed)),
            Self::Size { min } => {
                let size: ByteSize = value.parse().map_err(|why| format!("{why}"))?;
                if size.0 < *min {
                    return Err(format!("{size} is less than {}", ByteSize(*min)));
                }
                Ok(())
            }
        }
    }
}

impl Kind {
    /// Why [`Kind::check`] refuses a value; the text follows the value itself.
    #[must_use]
    pub(crate) fn refusal(&self) -> String {
        match self {
            Self::Int { min, max } | Self::Long { min, max } => {
                format!("not a whole number from {min} to {max}")
            }
            Self::Bool => "neither true nor false".to_owned(),
            Self::Ratio => "not a number from 0 to 1".to_owned(),
            Self::Text | Self::Password | Self::List => "not a text".to_owned(),
            Self::Replicas => {
                "neither * nor a list of partition:broker, separated by commas".to_owned()
            }
            Self::OneOf(allowed) => format!("not one of {}", allowed.join(", ")),
            Self::SomeOf(allowed) => {
                format!("not a list of {}, separated by commas", allowed.join(", "))
            }
            Self::Size { min } => {
                let min = ByteSize(*min);
                format!("not a size of {min} or more, such as 512MiB or 1GiB")
            }
        }
    }
}

fn one_of(value: &str, allowed: &[&str]) -> Result<(), String> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(format!("String must be one of: {}", allowed.join(", ")))
}

fn between(number: i64, min: i64, max: i64) -> Result<(), String> {
    if number < min {
        return Err(format!("Value must be at least {min}"));
    }
    if number > max {
        return Err(format!("Value must be no more than {max}"));
    }
    Ok(())
}
