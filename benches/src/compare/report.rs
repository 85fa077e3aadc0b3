//! The tables that are printed at the end, and the files.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::broker::HIGHWATER_SETTINGS;
use super::lab::{DIR, Lab};
use super::plot;
use super::results::{Results, Row, Spread, Subject};
use super::targets::{self, Target};
use crate::{machine, say};

/// The circumstances of a run.
#[derive(Debug, Serialize)]
pub(super) struct About {
    cores: usize,
    processor: String,
    kernel: String,
    rounds: u32,
    is_quick: bool,
    load_before: f64,
    /// The load, including the client's own and the broker's.
    load_after: f64,
    seconds: u64,
    highwater_settings: &'static [&'static str],
}

impl About {
    pub(super) fn new(
        lab: &Lab,
        is_quick: bool,
        (load_before, load_after): (f64, f64),
    ) -> Result<Self> {
        let info = std::fs::read_to_string("/proc/cpuinfo")?;
        let model = info.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(": "));
        Ok(Self {
            // The cores of the machine, not only those that this client is pinned to.
            cores: info
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            processor: model.map_or("unknown", |(_, name)| name).to_owned(),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            rounds: lab.rounds,
            is_quick,
            load_before,
            load_after,
            seconds: (machine::now() - lab.since).as_secs(),
            highwater_settings: HIGHWATER_SETTINGS,
        })
    }
}

#[derive(Serialize)]
struct Ratio {
    case: &'static str,
    metric: &'static str,
    of: Subject,
    ratio: Spread,
    is_tie: bool,
}

#[derive(Serialize)]
struct Whole<'a> {
    about: &'a About,
    ratios: Vec<Ratio>,
    targets: &'a [Target],
    rows: &'a [Row],
}

const ALL: [Subject; 5] = [
    Subject::Highwater,
    Subject::Kafka,
    Subject::KafkaFlush,
    Subject::Floor,
    Subject::Machine,
];
const OTHERS: [Subject; 2] = [Subject::Kafka, Subject::KafkaFlush];

/// Prints the tables, and writes JSON, CSV and the plot.
pub(super) fn write(about: &About, results: &Results) -> Result<()> {
    let targets = targets::judge(results);
    say(&tables(results))?;
    say(&target_table(&targets))?;
    say(&format!(
        "{} on {} cores, Linux {}; {} rounds in {} s; load {} before, {} after; Highwater with {}",
        about.processor,
        about.cores,
        about.kernel,
        about.rounds,
        about.seconds,
        about.load_before,
        about.load_after,
        about.highwater_settings.join(" ")
    ))?;
    let ratios = ratios(results);
    let dir = Path::new(DIR);
    std::fs::write(dir.join("plot.svg"), plot::draw(&ratios_of_plot(&ratios)))?;
    std::fs::write(dir.join("results.csv"), csv(results))?;
    let whole = Whole {
        about,
        ratios,
        targets: &targets,
        rows: &results.rows,
    };
    let json = serde_json::to_string_pretty(&whole)?;
    std::fs::write(dir.join("results.json"), json)?;
    say(&format!(
        "{DIR}/results.json, results.csv and plot.svg are written"
    ))
}

fn ratios(results: &Results) -> Vec<Ratio> {
    let mut all = Vec::new();
    for (case, metric) in results.measured() {
        for of in OTHERS {
            if let Some(ratio) = results.ratio((case, metric), of) {
                all.push(Ratio {
                    case,
                    metric,
                    of,
                    is_tie: ratio.is_tie(),
                    ratio,
                });
            }
        }
    }
    all
}

/// All metrics, except those that only describe how a run went.
fn ratios_of_plot(ratios: &[Ratio]) -> Vec<(String, Spread)> {
    let shown = ratios.iter().filter(|ratio| ratio.metric != "core share");
    let label = |ratio: &Ratio| {
        let label = format!("{} {} / {}", ratio.case, ratio.metric, ratio.of.name());
        (label, ratio.ratio)
    };
    shown.map(label).collect()
}

fn csv(results: &Results) -> String {
    let mut out = "case,metric,subject,round,value\n".to_owned();
    for row in &results.rows {
        let line = [row.case, row.metric, row.subject.name()].join(",");
        out.push_str(&format!("{line},{},{}\n", row.round, row.value));
    }
    out
}

fn spread(spread: &Spread) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.2} ({min:.2} to {max:.2})")
}

fn tables(results: &Results) -> String {
    let mut out = String::new();
    let mut last = "";
    for (case, metric) in results.measured() {
        if case != last {
            last = case;
            out.push_str(&format!("\n{case}\n"));
        }
        let mut line = format!("  {metric:<20}");
        for subject in ALL {
            if let Some(median) = results.median((case, metric), subject) {
                push(
                    &mut line,
                    &format!(" {} {},", subject.name(), figure(median)),
                );
            }
        }
        for of in OTHERS {
            if let Some(ratio) = results.ratio((case, metric), of) {
                let tie = if ratio.is_tie() { " tie" } else { "" };
                push(
                    &mut line,
                    &format!(" / {} {}{tie},", of.name(), spread(&ratio)),
                );
            }
        }
        out.push_str(line.trim_end_matches(','));
        out.push('\n');
    }
    out
}

fn push(line: &mut String, text: &str) {
    line.push_str(text);
}

/// Formats with three digits where the number has more than needed.
fn figure(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

fn target_table(targets: &[Target]) -> String {
    let mut out = "\ntargets\n".to_owned();
    for target in targets {
        let measured = spread(&target.measured);
        let line = format!(
            "  {:<22} {:<48} {measured:<28} {}\n",
            target.case, target.what, target.verdict
        );
        if out.write_str(&line).is_err() {
            // Writing to a string never fails.
        }
    }
    out
}
