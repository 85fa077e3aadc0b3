//! What a GiB costs in requests and in processor time, beside the disk WAL, and what an idle node costs.

use std::time::Duration;

use anyhow::Result;
use highwater_types::ByteSize;

use super::node::Node;
use super::store::Wire;
use super::{Lab, bare};
use crate::figures::real;
use crate::machine::{self, pause};
use crate::produce::Load;

/// How long an idle node is watched.
const IDLE: Duration = Duration::from_secs(60);
/// A run's uploads end with the run, and so do the deletions of what nothing needs any more.
const SETTINGS: [&str; 2] = [
    "highwater.upload.interval.ms=1000",
    "highwater.object.grace.ms=1000",
];

/// The figures of one way to the store.
struct Names {
    wire: Wire,
    case: &'static str,
    object: &'static str,
    disk: &'static str,
}

const TLS: Names = Names {
    wire: Wire::Tls,
    case: "cost",
    object: "cost-object",
    disk: "cost-disk",
};
const PLAIN: Names = Names {
    wire: Wire::Plain,
    case: "cost-http",
    object: "cost-http-object",
    disk: "cost-http-disk",
};

/// Measures with TLS and without, and leaves the nodes alone at the end.
pub(super) fn cost(lab: &mut Lab) -> Result<()> {
    for names in [PLAIN, TLS] {
        let nodes = over(lab, &names)?;
        if names.wire == Wire::Tls {
            idle(lab)?;
        }
        drop(nodes);
        lab.store.remove(names.object)?;
        lab.store.remove(names.disk)?;
    }
    Ok(())
}

/// Produces the same to a node of each kind of log, in turns, and puts as much without a node. Returns the nodes.
fn over(lab: &mut Lab, names: &Names) -> Result<[Node; 2]> {
    let node = |lab: &Lab, cluster, wal| {
        let settings = [&SETTINGS[..], &[wal]].concat();
        lab.node(cluster, &settings, names.wire)
    };
    let object = node(lab, names.object, "highwater.wal=object")?;
    let disk = node(lab, names.disk, "highwater.wal=disk")?;
    let case = names.case;
    // what a process does only once is not counted
    one(lab, &object, case, "warm")?;
    one(lab, &disk, case, "warm")?;
    for round in 0..lab.rounds {
        let topic = format!("cost-{round}");
        let of_object = one(lab, &object, case, &topic)?;
        let of_disk = one(lab, &disk, case, &topic)?;
        let bare = bare::puts(&lab.store, names.wire, &format!("{}/{topic}", names.disk))?;
        let figures = [
            ("cpu s/GiB, object", of_object),
            ("cpu s/GiB, disk", of_disk),
            ("cpu s/GiB, bare puts", bare),
            ("cpu object / disk", of_object / of_disk),
            ("cpu (disk + bare) / disk", (of_disk + bare) / of_disk),
        ];
        for (metric, value) in figures {
            lab.report.note(case, metric, value);
        }
        lab.progress(case, &format!("{figures:?}"))?;
    }
    Ok([object, disk])
}

/// Counts the requests of nodes that nobody uses.
fn idle(lab: &mut Lab) -> Result<()> {
    let before = lab.settle();
    let idle = if lab.is_quick { IDLE / 4 } else { IDLE };
    pause(idle);
    let requests = lab.store.proxy.counts().since(&before);
    lab.report
        .note("idle", "requests/minute", real(requests.all()));
    lab.progress("idle", &format!("{requests:?}"))
}

/// Produces to one node until everything is uploaded, notes its requests, and returns its processor time per GiB.
fn one(lab: &mut Lab, node: &Node, case: &'static str, topic: &str) -> Result<f64> {
    let (pid, is_warm) = (node.pid()?, topic != "warm");
    let before = lab.settle();
    let cpu = machine::cpu(pid)?;
    let extent = lab.bytes(ByteSize::mib(if is_warm { 512 } else { 128 }));
    let run = lab.run(
        node,
        topic,
        &Load::of_one_partition(ByteSize::mib(1), 5),
        &extent,
    )?;
    let counts = lab.settle().since(&before);
    let cpu = (machine::cpu(pid)? - cpu).as_secs_f64();
    let gib = run.figures.gib();
    if is_warm && counts.wal_puts > 0 {
        let billed = counts.puts + counts.lists + counts.gets;
        lab.report
            .note(case, "puts/GiB, object", real(counts.puts) / gib);
        lab.report
            .note(case, "billed/GiB, object", real(billed) / gib);
        lab.report
            .note(case, "deletes/GiB, object", real(counts.deletes) / gib);
    } else if is_warm {
        lab.report
            .note(case, "puts/GiB, disk", real(counts.puts) / gib);
    }
    lab.progress(case, &format!("{topic}: {counts:?}"))?;
    Ok(cpu / gib)
}
