//! `highwater cordon`, `highwater drain` and `highwater uncordon`.

use std::time::Duration;

use anyhow::bail;
use highwater_broker::duties::{Draining, Duties, Duty};
use highwater_broker::node::Machine;
use tokio::time::{Instant, sleep};

use crate::operate::run;
use crate::{DrainArgs, DutyArgs, config};

/// How often a drain looks how far the broker is.
const LOOK: Duration = Duration::from_millis(200);
/// How often it says so at most.
const SAY: Duration = Duration::from_secs(1);

/// Says which leaderships a broker may have.
pub(crate) fn set(args: &DutyArgs, duty: Duty) -> anyhow::Result<()> {
    run(&args.config, async |settings| {
        let duties = Duties::open(&settings, &Machine::real(), args.node).await?;
        let done = duties.set(duty).await;
        duties.close().await?;
        done?;
        let node = args.node;
        config::say(&match duty {
            Duty::Full => {
                format!("Broker {node} may lead again, and is given its share within seconds.\n")
            }
            Duty::Cordoned => format!("Broker {node} is cordoned: it gets no new leaderships.\n"),
            Duty::Draining => format!("Broker {node} hands over what it leads.\n"),
        })
    })
}

/// Drains a broker, and waits until it leads nothing.
pub(crate) fn drain(args: &DrainArgs) -> anyhow::Result<()> {
    let within = Duration::from_secs(args.timeout.into());
    let node = args.duty.node;
    run(&args.duty.config, async |settings| {
        let duties = Duties::open(&settings, &Machine::real(), node).await?;
        let drained = match duties.set(Duty::Draining).await {
            Ok(()) => wait(&duties, node, within).await,
            Err(error) => Err(error.into()),
        };
        duties.close().await?;
        drained
    })
}

async fn wait(duties: &Duties, node: i32, within: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    let mut said: Option<(Draining, Instant)> = None;
    loop {
        let now = duties.draining();
        if now.led == 0 {
            return config::say(&format!(
                "Broker {node} is drained: it leads no partition.\n"
            ));
        }
        let is_due = said.is_none_or(|(before, at)| before != now && at.elapsed() >= SAY);
        if is_due {
            config::say(&progress(node, now))?;
            said = Some((now, Instant::now()));
        }
        if Instant::now() >= deadline {
            bail!(
                "broker {node} still leads {} partition(s) after {} s, and goes on handing them over",
                now.led,
                within.as_secs()
            );
        }
        sleep(LOOK).await;
    }
}

fn progress(node: i32, now: Draining) -> String {
    let hint = match now {
        Draining { is_live: false, .. } => {
            ", but does not run: others lead them once what it wrote is taken over"
        }
        Draining { others: 0, .. } => {
            ", and no other broker may lead them: start one, or uncordon one"
        }
        _ => "",
    };
    format!("Broker {node} leads {} partition(s){hint}.\n", now.led)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_that_cannot_go_on_says_why() {
        let now = Draining {
            led: 3,
            is_live: true,
            others: 1,
        };
        assert_eq!(progress(2, now), "Broker 2 leads 3 partition(s).\n");
        let alone = progress(2, Draining { others: 0, ..now });
        assert!(alone.contains("uncordon one"), "{alone}");
        let dead = Draining {
            is_live: false,
            ..now
        };
        let dead = progress(2, dead);
        assert!(dead.contains("does not run"), "{dead}");
    }
}
