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
/// The time between an acknowledgement and the next record.
const PACE: Duration = Duration::from_millis(10);
/// The time between two moves. Meanwhile the object WAL gets back the tokens for puts (W4) that the records of a move have
/// spent; without a token a record waits up to 100 ms, move or no move.
const REST: Duration = Duration::from_secs(7);

/// Moves the leadership of a partition from broker to broker while it is written, a record every 10 ms.
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
            let (mut gaps, mut acks) = (Vec::new(), Vec::new());
            let mut last = machine::now();
            while !moving.is_finished() {
                pause(PACE);
                let sent = machine::now();
                let at = until_done(|| producer.produce())?;
                gaps.push(at - last);
                acks.push(at - sent);
                last = at;
            }
            let moved = moving.join();
            moved.unwrap_or_else(|_panic| anyhow::bail!("the operator failed"))?;
            acks.sort_unstable();
            let longest = gaps.into_iter().max().context("something was written")?;
            Ok((longest, acks[acks.len() / 2]))
        })
        .with_context(|| format!("move {round}"))?;
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let figures = [("longest gap ms", ms(gap)), ("usual ack ms", ms(usual))];
        lab.note_all("moves", cluster.system, &figures)?;
        pause(REST);
    }
    admin.delete_topic(TOPIC)
}
