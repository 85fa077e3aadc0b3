//! Reads scenarios from files under `tests/differential`. Each request is a block of lines.
//!
//! ```text
//! = name [first-last]        begins a scenario; with a range it runs once for each number, which {v} stands for
//! > Api versions name; flag  a request in these versions: `*` is all, `v` is {v} or the next one that exists
//! {"Field": "$name"}         its fields as JSON; a kept value replaces $name; $start, $start-MS, $id:TOPIC, $long exist
//! let name = Path[0].Field   keeps a part of the answer as a value
//! answer connection          reads the answer to a request that was sent with `later`
//! pause milliseconds
//! ```
//! Flags: `on X` (uses another connection), `later` (the answer is read by `answer`), `silent` (an answer may be
//! missing), `until P` (repeats the request until there is no error at path P), `client X` (the client id). For
//! damaged frames: `cut N` (removes bytes at the end), `append HEX`, `key N` and `version N` (in the header), `header
//! HEX` (replaces the header), `length N`, `answered N` (the version in which the answer is decoded), `wait MS` (how
//! long an answer must not come).

use anyhow::{Context, Result, bail};

/// Steps that belong together.
#[derive(Debug, Default)]
pub(super) struct Scenario {
    pub(super) name: String,
    /// The numbers for which it is repeated.
    pub(super) numbers: Option<(i16, i16)>,
    pub(super) steps: Vec<Step>,
}

/// A step, which is carried out on both brokers.
#[derive(Debug)]
pub(super) enum Step {
    Send(Request),
    Answer(String),
    Pause(u64),
}

/// The versions in which a request is sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sent {
    All,
    Number,
    Between(i16, i16),
}

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) api: String,
    pub(super) sent: Sent,
    pub(super) name: String,
    flags: Vec<(String, String)>,
    pub(super) body: String,
    /// The values to keep from the answer: names and paths.
    pub(super) kept: Vec<(String, String)>,
}

impl Request {
    /// The argument of a flag, if the request has the flag.
    pub(super) fn flag(&self, name: &str) -> Option<&str> {
        let flag = self.flags.iter().find(|(flag, _)| flag == name);
        flag.map(|(_, text)| text.as_str())
    }

    /// The argument of a flag as a number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        self.flag(name)
            .map(|text| text.parse().ok().with_context(|| format!("{name} {text}")))
            .transpose()
    }
}

/// Parses the scenarios of a file.
pub(super) fn parse(text: &str) -> Result<Vec<Scenario>> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        take(&mut scenarios, line).with_context(|| format!("line {}: {line}", at + 1))?;
    }
    Ok(scenarios)
}

fn take(scenarios: &mut Vec<Scenario>, line: &str) -> Result<()> {
    if let Some(head) = line.strip_prefix("= ") {
        let (name, numbers) = match head.rsplit_once(' ') {
            Some((name, last)) if range(last).is_ok() => (name, Some(range(last)?)),
            _ => (head, None),
        };
        scenarios.push(Scenario {
            name: name.to_owned(),
            numbers,
            steps: Vec::new(),
        });
        return Ok(());
    }
    let steps = &mut scenarios
        .last_mut()
        .context("the line comes before any scenario")?
        .steps;
    if let Some(head) = line.strip_prefix("> ") {
        steps.push(Step::Send(request(head)?));
    } else if let Some(connection) = line.strip_prefix("answer ") {
        steps.push(Step::Answer(connection.to_owned()));
    } else if let Some(time) = line.strip_prefix("pause ") {
        steps.push(Step::Pause(time.parse()?));
    } else {
        let Some(Step::Send(request)) = steps.last_mut() else {
            bail!("the line comes before any request");
        };
        if let Some(rest) = line.strip_prefix("let ") {
            let (name, path) = rest
                .split_once(" = ")
                .context("`let` needs a name and a path")?;
            request.kept.push((name.to_owned(), path.to_owned()));
        } else {
            request.body += line;
        }
    }
    Ok(())
}

fn range(text: &str) -> Result<(i16, i16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Ok((first.parse()?, last.parse()?))
}

fn request(head: &str) -> Result<Request> {
    let mut parts = head.split("; ");
    let mut words = parts.next().unwrap_or_default().splitn(3, ' ');
    let mut word = || {
        words
            .next()
            .context("a request needs an API, versions and a name")
    };
    let (api, versions, name) = (word()?, word()?, word()?);
    let sent = match versions {
        "*" => Sent::All,
        "v" => Sent::Number,
        text => {
            let (first, last) = range(text)?;
            Sent::Between(first, last)
        }
    };
    let flag = |text: &str| match text.split_once(' ') {
        Some((name, rest)) => (name.to_owned(), rest.to_owned()),
        None => (text.to_owned(), String::new()),
    };
    Ok(Request {
        api: api.to_owned(),
        sent,
        name: name.to_owned(),
        flags: parts.map(flag).collect(),
        body: String::new(),
        kept: Vec::new(),
    })
}
