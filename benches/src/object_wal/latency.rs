//! How long a produce takes beside the store's own puts, and what a default producer reaches.

use anyhow::Result;
use highwater_types::ByteSize;

use super::store::Wire;
use super::{Lab, Run};
use crate::figures::{Latency, real};
use crate::machine;
use crate::produce::Load;

/// W4's budget of puts, lifted.
const LIFTED: &str = "highwater.wal.object.token.interval.ms=0";
const OBJECT: &str = "highwater.wal=object";
/// Kafka's defaults: `batch.size`, and `max.in.flight.requests.per.connection`.
const BATCH: ByteSize = ByteSize::kib(16);
const IN_FLIGHT: usize = 5;
/// The requests that may be in flight at a stated rate, so many that no request waits for an answer.
const IN_FLIGHT_PACED: usize = 100;
/// Requests per second of the stated rate.
const PACED: u64 = 50;
/// S3's list prices in USD (us-east-1): of a put or a listing, and of a get. A deletion is free.
const PUT_PRICE: f64 = 0.005 / 1000.0;
const GET_PRICE: f64 = 0.0004 / 1000.0;
const MONTH_SECONDS: f64 = 30.0 * 86_400.0;
const MB: f64 = 1e6;

/// The names of the figures of one budget, by case.
struct Names {
    cluster: &'static str,
    one: &'static str,
    paced: &'static str,
    five: &'static str,
    large: &'static str,
}

const OF_LIFTED: Names = Names {
    cluster: "lifted",
    one: "one-lifted",
    paced: "paced-lifted",
    five: "five-16k-lifted",
    large: "large-lifted",
};
const OF_DEFAULT: Names = Names {
    cluster: "default",
    one: "one-default",
    paced: "paced-default",
    five: "five-16k-default",
    large: "large-default",
};

/// With W4's budget lifted.
pub(super) fn lifted(lab: &mut Lab) -> Result<()> {
    measure(lab, &OF_LIFTED, &[OBJECT, LIFTED])
}

/// With the default budget.
pub(super) fn default(lab: &mut Lab) -> Result<()> {
    measure(lab, &OF_DEFAULT, &[OBJECT])
}

fn measure(lab: &mut Lab, names: &Names, settings: &[&str]) -> Result<()> {
    let node = lab.node(names.cluster, settings, Wire::Plain)?;
    let pid = node.pid()?;
    let single = ByteSize::kib(1);
    let pace = Load {
        rate: Some(ByteSize(PACED * single.0)),
        ..Load::of_one_partition(single, IN_FLIGHT_PACED)
    };
    // the saved tokens are spent before anything is measured
    lab.run(
        &node,
        "warm",
        &Load::of_one_partition(BATCH, IN_FLIGHT),
        &lab.seconds(8),
    )?;
    for round in 0..lab.rounds {
        let topic = |case: &str| format!("{case}-{round}");
        let one = lab.run(
            &node,
            &topic("one"),
            &Load::of_one_partition(single, 1),
            &lab.seconds(16),
        )?;
        note_latency(lab, names.one, &one)?;
        let paced = lab.run(&node, &topic("paced"), &pace, &lab.seconds(10))?;
        note_latency(lab, names.paced, &paced)?;
        let round_trip = round_trip(lab, &node, &topic("trip"))?;
        let five = lab.run(
            &node,
            &topic("five"),
            &Load::of_one_partition(BATCH, IN_FLIGHT),
            &lab.seconds(8),
        )?;
        note_share(lab, names.five, &five, round_trip)?;
        let (busy, own) = (machine::busy()?, machine::cpu(pid)?);
        let extent = lab.bytes(ByteSize::mib(256));
        let large = lab.run(
            &node,
            &topic("large"),
            &Load::of_one_partition(ByteSize::mib(1), IN_FLIGHT),
            &extent,
        )?;
        let (busy, own) = (machine::busy()? - busy, machine::cpu(pid)? - own);
        note_large(
            lab,
            names.large,
            &large,
            (busy.as_secs_f64(), own.as_secs_f64()),
        )?;
    }
    drop(node);
    lab.store.remove(names.cluster)
}

/// The mean time of a request of 16 KiB, one at a time.
fn round_trip(lab: &Lab, node: &super::Node, topic: &str) -> Result<f64> {
    let run = lab.run(
        node,
        topic,
        &Load::of_one_partition(BATCH, 1),
        &lab.seconds(6),
    )?;
    Ok(run.figures.latency.mean().as_secs_f64())
}

fn note_latency(lab: &mut Lab, case: &'static str, run: &Run) -> Result<()> {
    let ms = |latency: &Latency, share| latency.at(share).as_secs_f64() * 1000.0;
    let quantiles = [
        (0.5, ["p50 ms", "put p50 ms", "p50 / put p50"]),
        (0.99, ["p99 ms", "put p99 ms", "p99 / put p99"]),
    ];
    for (share, [own, put, ratio]) in quantiles {
        let (own_ms, put_ms) = (ms(&run.figures.latency, share), ms(&run.puts, share));
        lab.report.note(case, own, own_ms);
        lab.report.note(case, put, put_ms);
        lab.report.note(case, ratio, own_ms / put_ms);
    }
    let seconds = run.figures.elapsed.as_secs_f64();
    let counts = run.counts;
    let billed = real(counts.puts + counts.lists) * PUT_PRICE + real(counts.gets) * GET_PRICE;
    let month = billed / seconds * MONTH_SECONDS;
    lab.report
        .note(case, "requests/s", real(counts.all()) / seconds);
    lab.report.note(case, "USD/month", month);
    lab.progress(case, &run.figures.to_string())
}

/// Five requests of 16 KiB for each round trip are what the producer's defaults allow.
fn note_share(lab: &mut Lab, case: &'static str, run: &Run, round_trip: f64) -> Result<()> {
    let rate = real(run.figures.bytes) / run.figures.elapsed.as_secs_f64();
    let allowed = |round_trip: f64| 5.0 * real(BATCH.0) / round_trip;
    let put = run.puts.mean().as_secs_f64();
    lab.report.note(case, "MB/s", rate / MB);
    lab.report.note(case, "round trip ms", round_trip * 1000.0);
    lab.report
        .note(case, "share of allowed", rate / allowed(round_trip));
    lab.report.note(case, "put mean ms", put * 1000.0);
    lab.report
        .note(case, "share by put mean", rate / allowed(put));
    lab.progress(case, &run.figures.to_string())
}

fn note_large(lab: &mut Lab, case: &'static str, run: &Run, (busy, own): (f64, f64)) -> Result<()> {
    let seconds = run.figures.elapsed.as_secs_f64();
    let rate = real(run.figures.bytes) / seconds / MB;
    lab.report.note(case, "MB/s", rate);
    lab.report
        .note(case, "busy cores of machine", busy / seconds);
    lab.report.note(case, "busy cores of broker", own / seconds);
    lab.report
        .note(case, "MB/s per broker core", rate / (own / seconds));
    lab.progress(case, &run.figures.to_string())
}
