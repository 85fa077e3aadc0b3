//! Every sync is needed: if the disk answers one class of syncs without doing them, the checker finds a loss.

use anyhow::{Result, ensure};
use highwater_sim::{Options, SyncClass, run};

/// The number of seeds, of which at least one must find each lie.
const SEEDS: u64 = 12;

fn is_seen(class: &str) -> Result<()> {
    let lie: SyncClass = class.parse().map_err(anyhow::Error::msg)?;
    let mut lies = 0;
    for seed in 0..SEEDS {
        let options = Options {
            seed,
            lie: Some(lie),
            ..Options::default()
        };
        match run(&options) {
            Ok(outcome) => lies += outcome.lies,
            Err(_found) => return Ok(()),
        }
    }
    ensure!(lies > 0, "no sync of class {class} was asked for");
    anyhow::bail!("{lies} syncs of class {class} were not done, and nothing was lost");
}

#[test]
fn the_write_ahead_log_needs_its_syncs() -> Result<()> {
    is_seen("wal-file")?;
    is_seen("wal-fill")?;
    is_seen("wal-dir")
}

#[test]
fn the_raft_log_needs_its_syncs() -> Result<()> {
    is_seen("raft-file")?;
    is_seen("raft-fill")?;
    is_seen("raft-dir")
}

#[test]
fn the_metadatas_snapshot_needs_its_syncs() -> Result<()> {
    is_seen("snapshot-file")?;
    is_seen("snapshot-dir")
}

#[test]
fn objects_need_their_syncs() -> Result<()> {
    is_seen("object-file")?;
    is_seen("object-dir")?;
    is_seen("object-parents")
}

#[test]
fn directories_need_their_syncs() -> Result<()> {
    is_seen("data-parents")
}
