//! Planned moves: the longest time between two acknowledgements of a producer that follows the leader.

use std::time::Duration;

use anyhow::{Context, Result};

use super::processes::{BROKERS, Cluster};
use super::{Lab, TOPIC};
use crate::admin::Admin;
use crate::batch::Batch;
use crate::follower::{Follower, await_view, until_done};
use crate::machine::{self, pause};

/// How long the producer goes on before and after a move.
const BESIDE: Duration = Duration::from_millis(300);

/// Moves the leadership of a partition from broker to broker while it is written, one record at a time.
pub(super) fn moves(lab: &mut Lab, cluster: &mut Cluster) -> Result<()> {
    let mut admin = Admin::open(&cluster.addresses()[0])?;
    let topic = admin.create_replicated(TOPIC, 1, i16::try_from(BROKERS.len())?)?;
    let batch = Batch::build(1024, 1024, machine::timestamp()?)?;
    let mut producer = Follower::new(cluster.addresses(), (TOPIC, topic, 0), &batch)?;
    until_done(|| producer.produce())?;
    for round in 0..lab.moves {
        let is_led = |view: &crate::admin::View| view.leader(0).is_some();
        let (view, _) = await_view(&cluster.addresses()[0], TOPIC, is_led)?;
        let (leader, _) = view.leader(0).context("it has a leader")?;
        let mut replicas = BROKERS.to_vec();
        replicas.rotate_left(1 + usize::try_from(leader)? % BROKERS.len());
        let first = replicas.iter().position(|id| *id != leader);
        let first = first.context("there are others")?;
        replicas.swap(0, first);
        let to = replicas[0];
        let (gap, usual) = std::thread::scope(|scope| -> Result<(Duration, Duration)> {
            let moving = scope.spawn(|| -> Result<()> {
                pause(BESIDE);
                let mut admin = Admin::open(&cluster.addresses()[0])?;
                admin.lead(TOPIC, 0, &replicas)?;
                let is_moved =
                    |view: &crate::admin::View| view.leader(0).is_some_and(|(id, _)| id == to);
                await_view(&cluster.addresses()[0], TOPIC, is_moved)?;
                pause(BESIDE);
                Ok(())
            });
            let mut gaps = Vec::new();
            let mut last = machine::now();
            while !moving.is_finished() {
                let at = until_done(|| producer.produce())?;
                gaps.push(at - last);
                last = at;
            }
            let moved = moving.join();
            moved.unwrap_or_else(|_panic| anyhow::bail!("the operator failed"))?;
            gaps.sort_unstable();
            let longest = gaps.last().copied().context("something was written")?;
            Ok((longest, gaps[gaps.len() / 2]))
        })
        .with_context(|| format!("move {round}"))?;
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let figures = [("longest gap ms", ms(gap)), ("usual ack ms", ms(usual))];
        lab.note_all("moves", cluster.system, &figures)?;
    }
    admin.delete_topic(TOPIC)
}
