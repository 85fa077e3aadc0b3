//! `highwater start`.

use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use highwater_broker::node::{Machine, NodeProcess};
use highwater_broker::telemetry;
use tokio::time::sleep;

use crate::{ConfigArgs, config};

/// The time in which a stop ends, whatever hangs: Kubernetes kills a process 30 seconds after SIGTERM, without a word.
const STOP_MAX: Duration = Duration::from_secs(28);

/// Runs a node until Ctrl-C or SIGTERM. A second signal ends the process at once.
pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    // I11: the allocator asks for huge pages, and a huge page is resident whole even if only a few kilobytes of it are
    // used.
    let small_pages = rustix::thread::disable_transparent_huge_pages(true);
    let config = config::load(args)?;
    telemetry::init();
    if let Err(error) = small_pages {
        tracing::warn!(%error, "huge pages cannot be turned off: memory may exceed its limit");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(async move {
        let mut stop = Signals::listen()?;
        let machine = Machine {
            commit: env!("HIGHWATER_COMMIT"),
            ..Machine::real()
        };
        let mut starting = pin!(NodeProcess::start(config, machine));
        let mut process = tokio::select! {
            started = &mut starting => started?,
            // Acknowledged records are in the write-ahead log, even if a start is interrupted.
            reason = stop.next() => {
                tracing::info!(reason, "stopped while starting");
                end(0);
            }
        };
        if let Some(node) = process.node() {
            config::say(&node.banner())?;
        }
        let ended = tokio::select! {
            reason = stop.next() => {
                tracing::info!(reason, "stopping");
                Ok(())
            }
            why = process.ended() => {
                tracing::error!(reason = why, "stopping");
                Err(anyhow::anyhow!(why))
            }
        };
        let mut stopping = pin!(process.stop());
        let stopped = tokio::select! {
            stopped = &mut stopping => stopped.map_err(anyhow::Error::from),
            reason = stop.next() => {
                tracing::warn!(reason, "a second signal ends the process in the middle of a stop");
                end(1);
            }
            () = sleep(STOP_MAX) => {
                tracing::error!("the node does not stop within {STOP_MAX:?}: the process ends");
                end(1);
            }
        };
        ended.and(stopped)
    });
    runtime.shutdown_background();
    outcome
}

/// Ends the process in the middle of a start or a stop, as a kill does. Neither is dropped before: a thread may wait for a
/// disk, and the data directory has to stay locked until that thread has ended, which is when the process has (A5).
#[expect(clippy::exit, reason = "what runs must not be dropped")]
fn end(code: i32) -> ! {
    std::process::exit(code)
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
