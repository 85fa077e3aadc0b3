//! What a GiB costs in requests and in processor time, beside the disk WAL, and what an idle node costs.

use std::time::Duration;

use anyhow::Result;
use highwater_types::ByteSize;

use super::node::Node;
use super::{Lab, load};
use crate::figures::real;
use crate::machine::{self, pause};

/// How long an idle node is watched.
const IDLE: Duration = Duration::from_secs(60);
/// A run's uploads end with the run, and so do the deletions of what nothing needs any more.
const SETTINGS: [&str; 2] = [
    "highwater.upload.interval.ms=1000",
    "highwater.object.grace.ms=1000",
];

/// Produces the same to a node of each kind of log, in turns, and then leaves both alone.
pub(super) fn cost(lab: &mut Lab) -> Result<()> {
    let object = lab.node(
        "cost-object",
        &[&SETTINGS[..], &["highwater.wal=object"]].concat(),
    )?;
    let disk = lab.node(
        "cost-disk",
        &[&SETTINGS[..], &["highwater.wal=disk"]].concat(),
    )?;
    // what a process does only once is not counted
    one(lab, &object, "warm")?;
    one(lab, &disk, "warm")?;
    for round in 0..lab.rounds {
        let topic = format!("cost-{round}");
        let of_object = one(lab, &object, &topic)?;
        let of_disk = one(lab, &disk, &topic)?;
        lab.report.note("cost", "cpu s/GiB, object", of_object);
        lab.report.note("cost", "cpu s/GiB, disk", of_disk);
        lab.report
            .note("cost", "cpu object / disk", of_object / of_disk);
        lab.progress(
            "cost",
            &format!("cpu s/GiB: object {of_object:.3}, disk {of_disk:.3}"),
        )?;
    }
    let before = lab.settle();
    let idle = if lab.is_quick { IDLE / 4 } else { IDLE };
    pause(idle);
    let requests = lab.store.proxy.counts().since(&before);
    lab.report
        .note("idle", "requests/minute", real(requests.all()));
    lab.progress("idle", &format!("{requests:?}"))?;
    drop((object, disk));
    lab.store.remove("cost-object")?;
    lab.store.remove("cost-disk")
}

/// Produces to one node until everything is uploaded, notes its requests, and returns its processor time per GiB.
fn one(lab: &mut Lab, node: &Node, topic: &str) -> Result<f64> {
    let (pid, is_warm) = (node.pid()?, topic != "warm");
    let before = lab.settle();
    let cpu = machine::cpu(pid)?;
    let extent = lab.bytes(ByteSize::mib(if is_warm { 512 } else { 128 }));
    let run = lab.run(node, topic, &load(ByteSize::mib(1), 5), &extent)?;
    let counts = lab.settle().since(&before);
    let cpu = (machine::cpu(pid)? - cpu).as_secs_f64();
    let gib = run.figures.gib();
    if is_warm && counts.wal_puts > 0 {
        let billed = counts.puts + counts.lists + counts.gets;
        lab.report
            .note("cost", "puts/GiB, object", real(counts.puts) / gib);
        lab.report
            .note("cost", "billed/GiB, object", real(billed) / gib);
        lab.report
            .note("cost", "deletes/GiB, object", real(counts.deletes) / gib);
    } else if is_warm {
        lab.report
            .note("cost", "puts/GiB, disk", real(counts.puts) / gib);
    }
    lab.progress("cost", &format!("{topic}: {counts:?}"))?;
    Ok(cpu / gib)
}
