//! Producing and consuming at once, to measure how long a record takes from its sending until a consumer has it.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use highwater_types::Uuid;

use crate::consume::{Consumer, Fetches, Span};
use crate::figures::Figures;
use crate::machine;
use crate::produce::{self, Extent, Load, Sent};

/// The figures of both sides of one run.
#[derive(Debug)]
pub(crate) struct Both {
    /// Latencies until the acknowledgement.
    pub(crate) produced: Figures,
    /// Latencies until the consumer has the batch.
    pub(crate) consumed: Figures,
}

/// Produces over one connection while another reads everything, and ends when all of it is read. No other client may
/// write to the topic.
pub(crate) fn run(
    bootstrap: &str,
    topic: Uuid,
    (load, fetches): (&Load, &Fetches),
    extent: &Extent,
    span: &Span,
) -> Result<Both> {
    let load = Load {
        connections: 1,
        ..load.clone()
    };
    let partitions: Vec<i32> = (0..load.partitions).collect();
    let sent = Sent::new(load.partitions);
    let mut consumer = Consumer::open(bootstrap, topic, &partitions, span, fetches)?;
    let over = AtomicBool::new(false);
    let batches_sent = std::sync::atomic::AtomicU64::new(u64::MAX);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<Figures> {
            machine::sharpen_timers()?;
            let mut latency = crate::figures::Latency::new()?;
            while consumer.figures.batches < batches_sent.load(Ordering::Acquire) {
                consumer.fetch(|partition, _batch| {
                    let due = sent.pop(partition)?;
                    latency.record(machine::now().saturating_duration_since(due));
                    Ok(())
                })?;
                if over.load(Ordering::Acquire) {
                    break;
                }
            }
            Ok(Figures {
                latency,
                ..consumer.figures
            })
        });
        let produced = produce::run(bootstrap, topic, &load, extent, Some(&sent));
        match &produced {
            Ok(figures) => batches_sent.store(figures.batches, Ordering::Release),
            Err(_) => over.store(true, Ordering::Release),
        }
        let consumed = reader.join().ok().context("the consumer failed")?;
        let (produced, mut consumed) = (produced?, consumed?);
        consumed.elapsed = produced.elapsed;
        Ok(Both { produced, consumed })
    })
}
