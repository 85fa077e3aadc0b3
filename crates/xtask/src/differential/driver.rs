//! Sends the requests of the scenarios to one broker and records its answers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use highwater_codegen::Message;
use serde_json::{Value, json};

use super::connection::{Came, Connection};
use super::masks::Masks;
use super::scenario::{Request, Scenario, Sent, Step};
use super::wire;
use crate::time::pause;

/// A request and its outcome.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) api: String,
    pub(super) version: i16,
    pub(super) case: String,
    /// The answer as a tree, or a text that says why there is no answer.
    pub(super) outcome: Value,
}

/// Settings that are the same for both brokers.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) schema: BTreeMap<String, Message>,
    /// The range of versions in which each API's requests are sent.
    pub(super) versions: BTreeMap<String, (i16, i16)>,
    pub(super) scenarios: Vec<Scenario>,
    /// When the run began, in milliseconds.
    pub(super) start: i64,
}

/// A request that hasn't been answered yet.
struct Pending {
    version: i16,
    answered: i16,
    correlation: i32,
    case: String,
    api: String,
}

/// Drives one broker.
pub(super) struct Driver<'a> {
    plan: &'a Plan,
    address: String,
    connections: BTreeMap<String, Connection>,
    pending: BTreeMap<String, Pending>,
    names: BTreeMap<String, Value>,
    masks: Masks,
    correlation: i32,
    out: Vec<Exchange>,
}

const ANSWER_WITHIN: Duration = Duration::from_secs(4);
const UNTIL_TRIES: u32 = 150;
const UNTIL_EVERY: Duration = Duration::from_millis(100);
/// One byte more than the metadata of a committed offset may have.
const LONG: usize = 4097;
const MAIN: &str = "main";
/// The correlation id of an ApiVersions request in version 0. Its answer shows that an earlier request wasn't
/// answered.
const PROBE: i32 = 0x0050_0B0E;

impl<'a> Driver<'a> {
    pub(super) fn new(plan: &'a Plan, address: &str) -> Result<Self> {
        let (_, port) = address
            .rsplit_once(':')
            .context("the address has no port")?;
        Ok(Self {
            plan,
            address: address.to_owned(),
            connections: BTreeMap::new(),
            pending: BTreeMap::new(),
            names: BTreeMap::from([
                ("start".to_owned(), Value::from(plan.start)),
                ("long".to_owned(), Value::from("x".repeat(LONG))),
            ]),
            masks: Masks::new(plan.start, port.parse()?),
            correlation: 0,
            out: Vec::new(),
        })
    }

    /// Runs every scenario.
    pub(super) fn run(mut self) -> Result<Vec<Exchange>> {
        for scenario in &self.plan.scenarios {
            let (first, last) = scenario.numbers.unwrap_or((0, 0));
            for number in first..=last {
                for step in &scenario.steps {
                    self.step(scenario, number, step)
                        .with_context(|| scenario.name.clone())?;
                }
            }
        }
        Ok(self.out)
    }

    fn step(&mut self, scenario: &Scenario, number: i16, step: &Step) -> Result<()> {
        match step {
            Step::Pause(time) => pause(Duration::from_millis(*time)),
            Step::Answer(connection) => {
                let pending = self.pending.remove(connection);
                let pending =
                    pending.with_context(|| format!("no request was sent on {connection}"))?;
                let outcome = self.outcome(connection, &pending, ANSWER_WITHIN, None)?;
                self.note(&pending, outcome);
            }
            Step::Send(request) => {
                let versions = self.plan.versions.get(&request.api);
                let (first, last) = *versions.with_context(|| format!("no {}", request.api))?;
                let (from, to) = match request.sent {
                    Sent::All => (first, last),
                    Sent::Between(from, to) => (from, to),
                    Sent::Number => (number.clamp(first, last), number.clamp(first, last)),
                };
                for version in from..=to {
                    let number = scenario.numbers.map_or(version, |_| number);
                    self.send(scenario, number, request, version)
                        .with_context(|| format!("{} v{version} {}", request.api, request.name))?;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, pending: &Pending, outcome: Value) {
        self.out.push(Exchange {
            api: pending.api.clone(),
            version: pending.version,
            case: pending.case.clone(),
            outcome,
        });
    }

    fn send(
        &mut self,
        scenario: &Scenario,
        number: i16,
        request: &Request,
        version: i16,
    ) -> Result<()> {
        let on = request.flag("on").unwrap_or(MAIN).to_owned();
        let text = request.body.replace("{v}", &number.to_string());
        let body = if text.is_empty() { "{}" } else { &text };
        let body: Value = serde_json::from_str(body).with_context(|| body.to_owned())?;
        let body = self.resolve(body)?;
        let case =
            format!("{}: {}", scenario.name, request.name).replace("{v}", &number.to_string());
        for _ in 0..UNTIL_TRIES {
            self.correlation += 1;
            let frame = self.frame(request, version, &body)?;
            if !self.connections.contains_key(&on) {
                let connection = Connection::open(&self.address)?;
                self.connections.insert(on.clone(), connection);
            }
            let connection = self.connections.get_mut(&on).context("just opened")?;
            connection.send(&frame);
            let pending = Pending {
                version,
                answered: request.number("answered")?.unwrap_or(version),
                correlation: correlation(&frame).unwrap_or(self.correlation),
                case: case.clone(),
                api: request.api.clone(),
            };
            if request.flag("later").is_some() {
                self.pending.insert(on, pending);
                return Ok(());
            }
            let within = request.number("wait")?;
            let within = within.map_or(ANSWER_WITHIN, Duration::from_millis);
            let outcome = self.outcome(&on, &pending, within, Some(request))?;
            if let Some(path) = request.flag("until")
                && !matches!(at(&outcome, path), None | Some(Value::Null))
                && at(&outcome, path) != Some(&Value::from("NONE"))
            {
                pause(UNTIL_EVERY);
                continue;
            }
            self.note(&pending, outcome);
            return Ok(());
        }
        bail!("the condition didn't become true in time")
    }

    /// Replaces each `$name` by the value that was kept under that name.
    fn resolve(&self, value: Value) -> Result<Value> {
        Ok(match value {
            Value::String(text) => match text.strip_prefix('$') {
                Some(name) => self.kept(name)?,
                None => Value::String(text),
            },
            Value::Array(list) => {
                let list: Result<_> = list.into_iter().map(|one| self.resolve(one)).collect();
                Value::Array(list?)
            }
            Value::Object(fields) => {
                let fields: Result<_> = fields
                    .into_iter()
                    .map(|(name, value)| Ok((name, self.resolve(value)?)))
                    .collect();
                Value::Object(fields?)
            }
            other => other,
        })
    }

    /// The value that was kept under a name. `start-1000` is a time before the run began.
    fn kept(&self, name: &str) -> Result<Value> {
        if let Some(before) = name.strip_prefix("start-") {
            return Ok(Value::from(self.plan.start - before.parse::<i64>()?));
        }
        let kept = self.names.get(name);
        let kept = kept.with_context(|| format!("no value was kept as {name}"))?;
        Ok(kept.clone())
    }

    fn frame(&self, request: &Request, version: i16, body: &Value) -> Result<Vec<u8>> {
        let schema = &self.plan.schema;
        let message = schema
            .get(&format!("{}Request", request.api))
            .with_context(|| format!("no schema of {}", request.api))?;
        let mut out = match request.flag("header") {
            Some(digits) => wire::unhex(digits)?,
            None => {
                let mut out = Vec::new();
                out.extend(request.number("key")?.unwrap_or(message.key).to_be_bytes());
                out.extend(request.number("version")?.unwrap_or(version).to_be_bytes());
                out.extend(self.correlation.to_be_bytes());
                let client = request.flag("client").unwrap_or("differential");
                out.extend(i16::try_from(client.len())?.to_be_bytes());
                out.extend(client.as_bytes());
                if version >= message.flexible.first && !message.flexible.is_empty() {
                    out.push(0);
                }
                out
            }
        };
        out.extend(wire::encode(message, version, body, self.plan.start)?);
        out.extend(wire::unhex(request.flag("append").unwrap_or_default())?);
        let cut: usize = request.number("cut")?.unwrap_or(0);
        out.truncate(out.len().saturating_sub(cut));
        let length = i32::try_from(out.len())?;
        let length = request.number("length")?.unwrap_or(length);
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend(out);
        Ok(frame)
    }

    /// Waits for an answer, decodes it, and keeps the values that the request names.
    fn outcome(
        &mut self,
        on: &str,
        pending: &Pending,
        within: Duration,
        request: Option<&Request>,
    ) -> Result<Value> {
        let may_be_silent = request.is_some_and(|request| request.flag("silent").is_some());
        let connection = self
            .connections
            .get_mut(on)
            .context("the connection isn't open")?;
        if may_be_silent {
            let mut probe = vec![0, 0, 0, 10, 0, 18, 0, 0];
            probe.extend(PROBE.to_be_bytes());
            probe.extend((-1i16).to_be_bytes());
            connection.send(&probe);
        }
        let frame = match connection.receive(within)? {
            Came::Frame(frame) => frame,
            Came::Closed => {
                self.connections.remove(on);
                return Ok(Value::from("connection closed"));
            }
            Came::Nothing => {
                self.connections.remove(on);
                return Ok(Value::from("no answer"));
            }
        };
        if may_be_silent {
            if frame.starts_with(&PROBE.to_be_bytes()) {
                return Ok(Value::from("silence"));
            }
            connection.receive(within)?;
        }
        self.read(&frame, pending, request)
    }

    fn read(
        &mut self,
        frame: &[u8],
        pending: &Pending,
        request: Option<&Request>,
    ) -> Result<Value> {
        let schema = &self.plan.schema;
        let message = schema
            .get(&format!("{}Response", pending.api))
            .with_context(|| format!("no schema of {}", pending.api))?;
        let version = pending.answered;
        let flexible = wire::has_flexible_header(message, version);
        let body = frame
            .strip_prefix(&pending.correlation.to_be_bytes())
            .and_then(|rest| rest.strip_prefix(if flexible { &[0][..] } else { &[] }));
        let Some(body) = body else {
            let text = format!("the answer has another header: {}", wire::hex(frame));
            return Ok(Value::from(text));
        };
        let raw = match wire::decode(message, version, body, &mut |_, value| value) {
            Ok(raw) => raw,
            Err(error) => {
                let text = format!("unreadable ({error:#}): {}", wire::hex(body));
                return Ok(Value::from(text));
            }
        };
        self.learn(&raw);
        for (name, path) in request.into_iter().flat_map(|request| &request.kept) {
            let value = at(&raw, path);
            let value = value
                .with_context(|| format!("no {path} in {raw}"))?
                .clone();
            self.names.insert(name.clone(), value);
        }
        let masks = &mut self.masks;
        wire::decode(message, version, body, &mut |field, value| {
            masks.apply(field, value)
        })
    }

    /// Keeps the id of every topic that an answer names, as `id:topic`.
    fn learn(&mut self, tree: &Value) {
        if let (Some(Value::String(name)), Some(Value::String(id))) =
            (tree.get("Name"), tree.get("TopicId"))
            && id.bytes().any(|digit| digit != b'0')
        {
            self.names
                .insert(format!("id:{name}"), Value::from(id.as_str()));
            self.masks.learn(name, id);
        }
        match tree {
            Value::Array(list) => list.iter().for_each(|one| self.learn(one)),
            Value::Object(fields) => fields.values().for_each(|one| self.learn(one)),
            _ => {}
        }
    }
}

/// The correlation id of a request; it comes after length, API key and version.
fn correlation(frame: &[u8]) -> Option<i32> {
    let id = frame.get(8..)?.first_chunk()?;
    Some(i32::from_be_bytes(*id))
}

/// The part of a tree at a path such as `Topics[0].Name`.
fn at<'v>(tree: &'v Value, path: &str) -> Option<&'v Value> {
    let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
    tree.pointer(&pointer)
}

/// The versions of each API that the broker lists in ApiVersions, by name; those are what is built.
pub(super) fn served(
    schema: &BTreeMap<String, Message>,
    address: &str,
) -> Result<BTreeMap<String, (i16, i16)>> {
    let mut connection = Connection::open(address)?;
    connection.send(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    let Came::Frame(frame) = connection.receive(ANSWER_WITHIN)? else {
        bail!("the broker didn't answer ApiVersions");
    };
    ensure!(frame.len() > 4, "the answer is shorter than its header");
    let message = schema.get("ApiVersionsResponse").context("a schema")?;
    let tree = wire::decode(message, 0, &frame[4..], &mut |_, value| value)?;
    let mut served = BTreeMap::new();
    let empty = json!([]);
    for api in tree
        .get("ApiKeys")
        .unwrap_or(&empty)
        .as_array()
        .into_iter()
        .flatten()
    {
        let number = |name: &str| {
            let value = api.get(name).and_then(Value::as_i64);
            value.and_then(|value| i16::try_from(value).ok())
        };
        let key = number("ApiKey").context("a key")?;
        let known = schema
            .values()
            .find(|message| message.key == key && message.name.ends_with("Request"));
        let Some(request) = known else { continue };
        let first = number("MinVersion").context("a version")?;
        let last = number("MaxVersion").context("a version")?;
        let name = request.name.trim_end_matches("Request").to_owned();
        served.insert(name, (first.max(request.valid.first), last));
    }
    Ok(served)
}
