//! A producer that sends one request at a time and follows the leader of its partition, and waits for what a cluster does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use highwater_client::Connection;
use highwater_types::Uuid;

use crate::admin::{Admin, View};
use crate::batch::{Batch, Frame};
use crate::machine::{self, pause};
use crate::socket::{connect, done};

/// The longest wait for anything that a cluster does by itself.
const PATIENCE: Duration = Duration::from_secs(60);
const TRY_EVERY: Duration = Duration::from_millis(2);

/// A producer of one partition.
pub(crate) struct Follower {
    brokers: Vec<String>,
    topic: String,
    partition: i32,
    frame: Frame,
    connection: Option<Connection>,
}

impl Follower {
    /// A producer of one partition of a topic, which asks these brokers for the leader.
    pub(crate) fn new(
        brokers: Vec<String>,
        (topic, id, partition): (&str, Uuid, i32),
        batch: &Batch,
    ) -> Result<Self> {
        Ok(Self {
            brokers,
            topic: topic.to_owned(),
            partition,
            frame: Frame::build(id, &[partition], batch)?,
            connection: None,
        })
    }

    /// Sends one request and waits for its answer. After a failure the next call asks for the leader again.
    pub(crate) fn produce(&mut self) -> Result<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let sent = done(connection.send_encoded(&mut self.frame.request))?;
        let answer = done(connection.receive(sent))?;
        let topics = answer.responses.iter();
        let mut parts = topics.flat_map(|topic| &topic.partition_responses);
        let part = parts.next().context("one partition is answered")?;
        ensure!(part.error_code == 0, "refused: {part:?}");
        self.connection = Some(connection);
        Ok(())
    }

    fn connect(&self) -> Result<Connection> {
        for broker in &self.brokers {
            let view = Admin::open(broker).and_then(|mut admin| admin.view(&self.topic));
            // a broker that is dead is passed over
            let Ok(view) = view else { continue };
            let (_, leader) = view.leader(self.partition).context("no leader lives")?;
            return Ok(connect(leader)?.0);
        }
        bail!("no broker answers");
    }
}

/// Asks a broker for its view of a topic until that is as wanted, and returns it with the time of the answer.
pub(crate) fn await_view(
    broker: &str,
    topic: &str,
    wanted: impl Fn(&View) -> bool,
) -> Result<(View, Instant)> {
    let since = machine::now();
    let mut admin = None;
    while since.elapsed() < PATIENCE {
        let view = match &mut admin {
            Some(admin) => Admin::view(admin, topic),
            None => Admin::open(broker).and_then(|opened| admin.insert(opened).view(topic)),
        };
        match view {
            Ok(view) if wanted(&view) => return Ok((view, machine::now())),
            Ok(_) => {}
            Err(_) => admin = None,
        }
        pause(TRY_EVERY);
    }
    bail!("the cluster does not come to the wanted state within {PATIENCE:?}");
}

/// Repeats a step until it succeeds, and returns the time at which it did.
pub(crate) fn until_done(mut step: impl FnMut() -> Result<()>) -> Result<Instant> {
    let since = machine::now();
    loop {
        match step() {
            Ok(()) => return Ok(machine::now()),
            Err(error) if since.elapsed() >= PATIENCE => return Err(error),
            Err(_) => pause(TRY_EVERY),
        }
    }
}
