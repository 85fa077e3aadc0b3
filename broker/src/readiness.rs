//! Whether a node can serve clients, as `/health/ready` reports it.

use std::fmt::Write;

use highwater_kraft_meta::MetadataStore;
use highwater_runtime::reasons;
use highwater_s3stream::UploadStatus;
use highwater_types::NodeId;

use crate::broker::Broker;
use crate::partitions::Progress;

/// The state of each part that a node needs, a line each.
#[derive(Debug)]
pub(crate) struct Readiness {
    /// Whether clients are to be sent here.
    pub(crate) is_ready: bool,
    /// The text for people.
    pub(crate) text: String,
}

/// The state of each part of a broker.
struct Parts {
    metadata: Result<(), String>,
    /// Only of a broker that is a controller too.
    vote: Option<Result<(), String>>,
    log: Result<(), String>,
    produce: Result<(), String>,
    store: Result<(), String>,
    partitions: Result<(), String>,
}

impl Readiness {
    /// The current state. A node is degraded if partitions can't be opened, if uploads fail, if produce requests wait
    /// because of that, if a broker reaches no controller, or if a controller that is a broker too has no vote: it still
    /// serves the rest. An outage of the store therefore takes no broker away from its clients.
    pub(crate) fn of(broker: &Broker) -> Self {
        let uploads = broker.streams.uploads();
        let is_controller = broker.config.quorum.roles.controller;
        Self::of_parts(Parts {
            metadata: broker.metadata.check(),
            vote: is_controller.then(|| voting(&*broker.metadata, broker.config.node_id)),
            log: broker.streams.check_wal().map_err(|error| reasons(&error)),
            produce: held_back(&uploads),
            store: failing(&uploads),
            partitions: opened(broker.partitions.progress()),
        })
    }

    fn of_parts(parts: Parts) -> Self {
        let metadata = ("metadata", parts.metadata);
        let log = ("write-ahead log", parts.log);
        let produce = ("produce", parts.produce);
        let store = ("object store", parts.store);
        let partitions = ("partitions", parts.partitions);
        match parts.vote {
            Some(vote) => Self::told(
                [metadata, log],
                [("vote", vote), produce, store, partitions],
            ),
            None => Self::told([log], [metadata, produce, store, partitions]),
        }
    }

    /// The current state of a controller that is no broker. Without a vote it is not ready, so that what counts ready
    /// controllers, as a disruption budget of Kubernetes does, doesn't take it for one of those that a decision needs.
    pub(crate) fn of_controller(metadata: &dyn MetadataStore, node: NodeId) -> Self {
        let vote = ("vote", voting(metadata, node));
        Self::told([("metadata", metadata.check()), vote], [])
    }

    fn told<const N: usize, const M: usize>(
        needed: [(&str, Result<(), String>); N],
        wanted: [(&str, Result<(), String>); M],
    ) -> Self {
        let is_ready = needed.iter().all(|(_, state)| state.is_ok());
        let is_whole = wanted.iter().all(|(_, state)| state.is_ok());
        let summary = match (is_ready, is_whole) {
            (true, true) => "ready",
            (true, false) => "degraded",
            (false, _) => "not ready",
        };
        let mut text = format!("{summary}\n");
        for (name, state) in needed.into_iter().chain(wanted) {
            let state = state.err().unwrap_or_else(|| "ok".to_owned());
            writeln!(text, "{name}: {state}").expect("a String takes what is written");
        }
        Self { is_ready, text }
    }
}

fn voting(metadata: &dyn MetadataStore, node: NodeId) -> Result<(), String> {
    match metadata.has_vote() {
        true => Ok(()),
        false => Err(format!(
            "this controller is no voter: `highwater add-controller {node}` makes it one, after \
             `highwater remove-controller {node}` if it has lost its data directory"
        )),
    }
}

/// Most clients give up a produce request that waits this long.
const HELD_BACK_MAX_SECONDS: u64 = 10;

fn held_back(uploads: &UploadStatus) -> Result<(), String> {
    match uploads.held_back.map(|time| time.as_secs()) {
        Some(seconds) if seconds >= HELD_BACK_MAX_SECONDS => Err(format!(
            "waiting for room for {seconds} s, because nothing can be uploaded"
        )),
        _ => Ok(()),
    }
}

fn failing(uploads: &UploadStatus) -> Result<(), String> {
    let failing = uploads.failing.map(|time| time.as_secs());
    failing.map_or(Ok(()), |seconds| {
        let why = &uploads.failed_by;
        Err(format!("every upload has failed for {seconds} s: {why}"))
    })
}

/// Whether all partitions are open, or how many are not.
pub(crate) fn opened(partitions: Progress) -> Result<(), String> {
    let Progress {
        open,
        opening,
        failed,
    } = partitions;
    match (opening, failed) {
        (0, 0) => Ok(()),
        (_, 0) => Err(format!("{open} open, {opening} being opened")),
        (0, _) => Err(format!("{failed} cannot be opened and will be tried again")),
        (_, _) => Err(format!(
            "{open} open, {opening} being opened, {failed} cannot be opened and will be tried again"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_needed_makes_it_ready_and_what_is_wanted_degrades_it() {
        let bad = || Err("broken".to_owned());
        for (needed, wanted, is_ready, text) in [
            (Ok(()), Ok(()), true, "ready\na: ok\nb: ok\n"),
            (Ok(()), bad(), true, "degraded\na: ok\nb: broken\n"),
            (bad(), Ok(()), false, "not ready\na: broken\nb: ok\n"),
        ] {
            let told = Readiness::told([("a", needed)], [("b", wanted)]);
            assert_eq!((told.is_ready, told.text.as_str()), (is_ready, text));
        }
    }

    // an outage of the store or of the controllers takes no broker away from its clients
    #[test]
    fn only_its_log_and_the_metadata_of_a_controller_make_a_broker_unready() {
        let told = |is_controller: bool, spoil: fn(&mut Parts)| {
            let mut parts = Parts {
                metadata: Ok(()),
                vote: is_controller.then_some(Ok(())),
                log: Ok(()),
                produce: Ok(()),
                store: Ok(()),
                partitions: Ok(()),
            };
            spoil(&mut parts);
            let told = Readiness::of_parts(parts);
            let summary = told.text.lines().next().expect("a summary").to_owned();
            assert_eq!(told.is_ready, summary != "not ready");
            summary
        };
        for (spoil, alone, as_controller) in [
            ((|_| {}) as fn(&mut Parts), "ready", "ready"),
            (
                |parts| parts.log = Err(String::new()),
                "not ready",
                "not ready",
            ),
            (
                |parts| parts.metadata = Err(String::new()),
                "degraded",
                "not ready",
            ),
            (
                |parts| parts.produce = Err(String::new()),
                "degraded",
                "degraded",
            ),
            (
                |parts| parts.store = Err(String::new()),
                "degraded",
                "degraded",
            ),
            (
                |parts| parts.partitions = Err(String::new()),
                "degraded",
                "degraded",
            ),
        ] {
            assert_eq!(told(false, spoil), alone);
            assert_eq!(told(true, spoil), as_controller);
        }
        let without_vote = told(true, |parts| parts.vote = Some(Err(String::new())));
        assert_eq!(without_vote, "degraded");
    }

    #[test]
    fn partitions_that_are_not_open_are_counted() {
        for ((opening, failed), told) in [
            ((0, 0), Ok(())),
            ((2, 0), Err("7 open, 2 being opened")),
            ((0, 3), Err("3 cannot be opened and will be tried again")),
            (
                (2, 3),
                Err("7 open, 2 being opened, 3 cannot be opened and will be tried again"),
            ),
        ] {
            let progress = Progress {
                open: 7,
                opening,
                failed,
            };
            assert_eq!(opened(progress), told.map_err(str::to_owned));
        }
    }

    #[test]
    fn produce_that_waits_for_long_is_told() {
        let status = |seconds| UploadStatus {
            held_back: Some(Duration::from_secs(seconds)),
            ..UploadStatus::default()
        };
        assert_eq!(held_back(&status(9)), Ok(()));
        let told = held_back(&status(10)).expect_err("is too long");
        assert!(told.contains("for 10 s"), "{told}");
    }
}
