//! Opens the stores of a node's records and metadata. It changes nothing until the node registers, so a start that is
//! refused leaves no epoch and condemns nothing, and is refused again for the same reason (D2).

use std::sync::Arc;

use highwater_io::DirLock;
use highwater_kraft_meta::{MetadataStore, RaftMetadata};
use highwater_object_storage::{ObjectStorage, Opener};
use highwater_partition_log::KafkaDeltaFold;
use highwater_runtime::{ByteBudget, TaskKind, Tasks};
use highwater_s3stream::{ObjectStreamStore, Ports, Writer};
use highwater_types::{NodeEpoch, Uuid};
use highwater_wal::SealedWal;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{Advertised, Config};
use crate::controller::Reaper;
use crate::data_dir::DataDir;
use crate::machine::Machine;
use crate::node_error::NodeError;
use crate::starting::Phase;
use crate::stream_metadata::KraftStreamMetadata;
use crate::wal::ChosenWal;
use crate::{registration, wal};

/// The open stores.
pub(crate) struct Storage {
    pub(crate) metadata: Arc<dyn MetadataStore>,
    pub(crate) streams: ObjectStreamStore,
    pub(crate) epoch: NodeEpoch,
    /// The number of batches recovered from the write-ahead log.
    pub(crate) recovered: u64,
    /// The lock of the data directory.
    pub(crate) lock: DirLock,
}

/// Opens the metadata, reads the WAL, opens the object store, registers, and recovers.
///
/// # Errors
/// [`NodeError`].
pub(crate) async fn open(
    config: &Config,
    machine: &Machine,
    tasks: &Tasks,
    advertised: &[Advertised],
    phase: &watch::Sender<Phase>,
) -> Result<Storage, NodeError> {
    let data_dir = DataDir::open(config, Arc::clone(&machine.device)).await?;
    let metadata = open_metadata(config, machine).await?;
    phase.send_replace(Phase::WriteAheadLog);
    let plan = &config.memory;
    let memory = ByteBudget::with_reserve(plan.log_cache, plan.coordinators);
    let chosen = wal::choose(config, machine, memory.clone());
    let (registered, floor) = registration::last(&*metadata, config.node_id);
    let read = chosen.factory.read(registered, floor).await?;
    phase.send_replace(Phase::ObjectStore);
    let cluster = metadata.image().cluster();
    let opener = Opener {
        cluster,
        node: config.node_id,
        claim: data_dir.claim(),
    };
    let objects = open_objects(config, machine, tasks, opener).await?;
    let lock = data_dir.remember().await?;
    // From here on nothing refuses the start; only a failure ends it.
    let registered =
        registration::register(config, machine, advertised, chosen.kind, &*metadata).await?;
    let (epoch, floor) = registered;
    // The reaper starts before the log is recovered, because on a full store the recovery needs the room of condemned
    // objects (D3).
    let grace = config.millis("highwater.object.grace.ms");
    let reaper = Reaper::new(Arc::clone(&metadata), Arc::clone(&objects), grace);
    tasks.spawn(TaskKind::Reaper, reaper.run());
    let ports = Ports {
        storage: objects,
        metadata: Arc::new(KraftStreamMetadata {
            metadata: Arc::clone(&metadata),
            epoch,
        }),
        fold: Arc::new(KafkaDeltaFold),
        tasks: tasks.clone(),
        memory,
    };
    let writer = Writer {
        cluster,
        node: config.node_id,
        epoch,
        nonce: Uuid(machine.rng.next_id()),
        floor,
    };
    let streams = ObjectStreamStore::new(stream_config(config), ports, writer);
    phase.send_replace(Phase::Recovery(streams.clone()));
    let since = Instant::now();
    let mut recovered = 0;
    for fenced in registration::fenced(&*metadata, config.node_id) {
        let sealed = read.seal(fenced, floor).await?;
        let how = wal::closing(&sealed);
        recovered = recover(&chosen, &streams, sealed).await?;
        registration::close(&*metadata, config.node_id, fenced, epoch, how).await?;
    }
    let elapsed_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    let batches = recovered;
    tracing::info!(batches, elapsed_ms, "write-ahead log recovered");
    registration::lead(&*metadata, config.node_id, epoch).await?;
    let log = read.open(epoch, streams.durable_batches()).await?;
    // Batches that were uploaded before give their room back now; on a full disk nothing else may do so (D3).
    log.trim(registration::last(&*metadata, config.node_id).1);
    streams.attach(log);
    Ok(Storage {
        metadata,
        streams,
        epoch,
        recovered,
        lock,
    })
}

async fn open_metadata(
    config: &Config,
    machine: &Machine,
) -> Result<Arc<dyn MetadataStore>, NodeError> {
    let raft = highwater_kraft_meta::Config {
        dir: config.data_dir.join("metadata"),
        node: config.node_id,
        cluster: Uuid(machine.rng.next_id()),
        seed: machine.rng.next_u64(),
        new_log_seed: machine.rng.next_id(),
        snapshot_entries: config.snapshot_entries(),
        snapshot_bytes: config.snapshot_bytes(),
    };
    let device = Arc::clone(&machine.device);
    let opened = RaftMetadata::open(raft, device, &*machine.threads).await?;
    Ok(Arc::new(opened))
}

async fn open_objects(
    config: &Config,
    machine: &Machine,
    tasks: &Tasks,
    opener: Opener,
) -> Result<Arc<dyn ObjectStorage>, NodeError> {
    let ports = highwater_object_storage::Ports {
        device: Arc::clone(&machine.device),
        clock: machine.clock.clone(),
        tasks: tasks.clone(),
        rng: machine.rng.clone(),
    };
    let opened = highwater_object_storage::open(&config.object_storage, opener, ports);
    Ok(opened.await?.storage)
}

fn stream_config(config: &Config) -> highwater_s3stream::Config {
    highwater_s3stream::Config {
        upload_interval: config.millis("highwater.upload.interval.ms"),
        upload_bytes: config.size("highwater.upload.size"),
        block_cache_bytes: config.memory.block_cache,
        room_within: Reaper::deletes_within(config.millis("highwater.object.grace.ms")),
    }
}

async fn recover(
    chosen: &ChosenWal,
    streams: &ObjectStreamStore,
    sealed: SealedWal,
) -> Result<u64, NodeError> {
    if let SealedWal::Replay { bytes, .. } = sealed {
        tracing::info!(bytes, "recovering the write-ahead log");
    }
    let recovered = streams.recover(sealed).await;
    recovered.map_err(|source| NodeError::Recover {
        path: chosen.place.clone(),
        source,
    })
}
