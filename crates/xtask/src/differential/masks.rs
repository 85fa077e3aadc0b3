//! Masks values that two brokers may choose differently, by type: ids, ports, clocks. What they have in common is
//! compared.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use highwater_codegen::{Field, Type};
use highwater_protocol::ErrorCode;
use serde_json::Value;

use super::wire::unhex;

/// The values that one broker's answers have had so far. The first value of a type is number 1 in both brokers'
/// answers, and so on.
#[derive(Debug)]
pub(super) struct Masks {
    /// When the run began, in milliseconds: a time after that comes from the broker's clock.
    start: i64,
    port: i64,
    seen: Vec<(&'static str, String)>,
    /// The ids of topics, each in hexadecimal digits and in the form of messages, with the text that replaces them.
    topics: Vec<(String, String, String)>,
}

/// No broker's clock is further ahead of the start than this.
const RUN_MS_MAX: i64 = 600_000;
const TIME_DIGITS: usize = 13;
const UUID_TEXT_LENGTH: usize = 36;
const CLUSTER_ID_LENGTH: usize = 22;

impl Masks {
    pub(super) fn new(start: i64, port: u16) -> Self {
        Self {
            start,
            port: port.into(),
            seen: Vec::new(),
            topics: Vec::new(),
        }
    }

    /// Notes the id of a topic that an answer has.
    pub(super) fn learn(&mut self, topic: &str, id: &str) {
        let Ok(bytes) = unhex(id) else { return };
        if topic.is_empty() {
            return;
        }
        if bytes.iter().any(|byte| *byte != 0) && !self.topics.iter().any(|(known, ..)| known == id)
        {
            let text = URL_SAFE_NO_PAD.encode(bytes);
            let token = format!("<id of {topic}>");
            self.topics.push((id.to_owned(), text, token));
        }
    }

    /// The number of a value among those of its type.
    fn token(&mut self, kind: &'static str, thing: &str) -> String {
        let of_kind = |(other, _): &&(&str, String)| *other == kind;
        let known = self.seen.iter().filter(of_kind);
        let known: Vec<&String> = known.map(|(_, thing)| thing).collect();
        let at = known.iter().position(|other| *other == thing);
        let number = at.unwrap_or(known.len()) + 1;
        if at.is_none() {
            self.seen.push((kind, thing.to_owned()));
        }
        format!("<{kind} {number}>")
    }

    /// The form in which a value of an answer is compared.
    pub(super) fn apply(&mut self, field: &Field, value: Value) -> Value {
        match (&field.ty, value) {
            (Type::Plain(ty), Value::String(id)) if ty == "uuid" => {
                let known = self.topics.iter().find(|(known, ..)| *known == id);
                Value::from(known.map_or(id, |(.., token)| token.clone()))
            }
            (_, Value::Array(batches)) => {
                Value::Array(batches.into_iter().map(|batch| self.batch(batch)).collect())
            }
            (_, Value::Number(number)) => {
                let number = number.as_i64().unwrap_or(i64::MIN);
                self.number(&field.name, number)
            }
            (_, Value::String(text)) => self.text(&field.name, text),
            (_, other) => other,
        }
    }

    fn batch(&mut self, batch: Value) -> Value {
        let Value::Object(fields) = batch else {
            return batch;
        };
        let masked = fields.into_iter().map(|(name, value)| {
            let value = match value.as_i64() {
                Some(number) => self.number(&name, number),
                None => value,
            };
            (name, value)
        });
        Value::Object(masked.collect())
    }

    fn number(&mut self, name: &str, number: i64) -> Value {
        match name {
            name if name.ends_with("ErrorCode") => {
                let code = i16::try_from(number).ok().and_then(ErrorCode::from_code);
                code.map_or(Value::from(number), |code| Value::from(code.name()))
            }
            "Port" if number == self.port => Value::from("<port>"),
            "ProducerId" if number >= 0 => Value::from(self.token("producer", &number.to_string())),
            "SessionId" if number > 0 => Value::from(self.token("session", &number.to_string())),
            name if name.contains("Timestamp") || name.ends_with("AppendTimeMs") => {
                match number - self.start {
                    0..RUN_MS_MAX => Value::from("<now>"),
                    distance if distance.abs() <= 10 * RUN_MS_MAX => {
                        Value::from(format!("<start {distance:+}>"))
                    }
                    _ => Value::from(number),
                }
            }
            _ => Value::from(number),
        }
    }

    fn text(&mut self, name: &str, text: String) -> Value {
        if name == "ClusterId" && text.len() == CLUSTER_ID_LENGTH {
            return Value::from(self.token("cluster", &text));
        }
        if matches!(name, "MemberId" | "Leader") {
            let split = text.len().checked_sub(UUID_TEXT_LENGTH);
            if let Some((head, id)) = split.and_then(|at| text.split_at_checked(at)) {
                let is_uuid = id.bytes().filter(|byte| *byte == b'-').count() == 4;
                if is_uuid {
                    let token = self.token("member", id);
                    return Value::from(format!("{head}{token}"));
                }
            }
        }
        let mut text = text;
        for (_, known, token) in &self.topics {
            text = text.replace(known, token);
        }
        Value::from(without_times(&text))
    }
}

/// Replaces numbers in a text that have as many digits as a time in milliseconds.
fn without_times(text: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for char in text.chars().chain(['\0']) {
        if char.is_ascii_digit() {
            digits.push(char);
            continue;
        }
        if digits.len() == TIME_DIGITS {
            out.push_str("<time>");
        } else {
            out.push_str(&digits);
        }
        digits.clear();
        out.push(char);
    }
    out.pop();
    out
}
