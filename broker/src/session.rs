//! A broker on the disk WAL acknowledges only what became durable within its session (D5). Its log can't be sealed, so an
//! operator may give the log up when the session is over.

use std::sync::Arc;

use highwater_kraft_meta::command::WalKind;
use highwater_runtime::Tasks;
use highwater_wal::{ConfirmedBatch, ConfirmedSink, WriteAheadLog};

use crate::config::Config;
use crate::heartbeats::Heartbeats;
use crate::wal;

/// Whether a broker may acknowledge only within its session: its log is on its disk, and there may be other controllers
/// than this process, which always hears itself.
pub(crate) fn is_needed(config: &Config) -> bool {
    wal::chosen(config) == WalKind::Disk && !config.quorum.is_sole_voter()
}

/// Hands durable batches on while the controllers hear from this broker. Otherwise the log holds them back.
#[derive(Debug)]
struct InSession {
    sink: Arc<dyn ConfirmedSink>,
    heartbeats: Heartbeats,
}

impl ConfirmedSink for InSession {
    fn confirmed(&self, batches: Vec<ConfirmedBatch>) {
        self.sink.confirmed(batches);
    }

    fn may_confirm(&self) -> bool {
        !self.heartbeats.is_cut_off()
    }
}

/// The sink of this broker's log.
pub(crate) fn sink(
    config: &Config,
    heartbeats: &Heartbeats,
    sink: Arc<dyn ConfirmedSink>,
) -> Arc<dyn ConfirmedSink> {
    match is_needed(config) {
        true => Arc::new(InSession {
            sink,
            heartbeats: heartbeats.clone(),
        }),
        false => sink,
    }
}

/// Lets the log acknowledge what it holds back, whenever the controllers have heard from this broker.
pub(crate) fn confirm_when_heard(
    config: &Config,
    heartbeats: &Heartbeats,
    log: &Arc<dyn WriteAheadLog>,
    tasks: &Tasks,
) {
    if is_needed(config) {
        let log = Arc::clone(log);
        heartbeats.after_each(tasks, move || log.confirm());
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::fixture::config;

    // D5: a node that is its own controller always hears itself, and the seal ends what an object WAL acknowledges
    #[test]
    fn only_a_broker_whose_disk_wal_others_may_give_up_looks_at_its_session() {
        let data = TempDir::new().expect("a directory");
        let is_needed = |more: &[(&str, &str)]| is_needed(&config(data.path(), more));
        assert!(!is_needed(&[]), "a single node");
        let cluster = [
            ("controller.listener.names", "CONTROLLER"),
            ("controller.quorum.bootstrap.servers", "127.0.0.1:9100"),
            ("highwater.object.storage", "file:///tmp/objects"),
            ("node.id", "2"),
        ];
        let broker = [&cluster[..], &[("process.roles", "broker")]].concat();
        let on = |wal| [&broker[..], &[("highwater.wal", wal)]].concat();
        assert!(is_needed(&on("disk")));
        assert!(!is_needed(&on("object")));
        let voters = "2@127.0.0.1:9102,3@127.0.0.1:9103,4@127.0.0.1:9104";
        let combined = [
            ("controller.listener.names", "CONTROLLER"),
            ("controller.quorum.voters", voters),
            (
                "listeners",
                "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:9102",
            ),
            ("highwater.object.storage", "file:///tmp/objects"),
            ("highwater.wal", "disk"),
            ("node.id", "2"),
        ];
        assert!(is_needed(&combined), "the others decide too");
    }
}
