//! Opens the stores of a node's records and metadata, then the streams of its broker. Until the broker registers, the
//! metadata does not change, so a start that is refused leaves no epoch and condemns nothing, and is refused again for the
//! same reason (D2). The controller starts before that; it deletes only objects that are condemned already (G1).

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use highwater_io::DirLock;
use highwater_kraft_meta::command::WalKind;
use highwater_kraft_meta::{
    MetadataStore, NodeImage, Observer, ObserverMetadata, ProposeError, Quorum, RaftMetadata,
    Rejection,
};
use highwater_object_storage::{Claim, ObjectStorage, Opened, Opener, RequestCounts};
use highwater_partition_log::KafkaDeltaFold;
use highwater_runtime::{TaskKind, Tasks, reasons};
use highwater_s3stream::{ObjectStreamStore, Ports, Recovered, Writer};
use highwater_types::{NodeEpoch, Uuid, WalPosition};
use highwater_wal::{SealedWal, WalError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::config::{Advertised, Config};
use crate::controller::Reaper;
use crate::data_dir::{DataDir, Directory};
use crate::fence;
use crate::heartbeats::Heartbeats;
use crate::machine::Machine;
use crate::node_error::NodeError;
use crate::quorum::NetworkTransport;
use crate::registration;
use crate::session;
use crate::starting::Phase;
use crate::store_opening;
use crate::stream_metadata::KraftStreamMetadata;
use crate::takeover::Takeover;
use crate::wal::{FoundLogs, Logs, catch_up};

/// What a start finds: the stores, the logs of a broker, and the lock of the data directory.
pub(crate) type Found = (Stores, Option<FoundLogs>, DirLock);

/// For how many sessions a start waits for a process that may have another copy of its data directory. Another active
/// controller counts anew.
const SESSIONS_WAITED: u32 = 3;

/// The stores of a node, open and unchanged. They serve both roles of a node, the controller's and the broker's.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) metadata: Arc<dyn MetadataStore>,
    pub(crate) objects: Arc<dyn ObjectStorage>,
    /// The requests to the object store.
    pub(crate) requests: Arc<RequestCounts>,
    /// How the node opens the object store again, which has its claim now.
    pub(crate) opener: Opener,
    /// The data directory (E2).
    pub(crate) directory: Directory,
}

/// The streams that a broker writes, open.
pub(crate) struct BrokerStreams {
    pub(crate) streams: ObjectStreamStore,
    /// The node epoch that writes them.
    pub(crate) epoch: NodeEpoch,
    /// Its heartbeats.
    pub(crate) heartbeats: Heartbeats,
    /// The number of batches recovered from the write-ahead log.
    pub(crate) recovered: u64,
}

/// Opens the metadata, reads the WAL, and opens the object store. The lock is the data directory's. A node without the
/// role `controller` follows the metadata of the controllers, and one without the role `broker` has no WAL. The first
/// tasks are the node's, and the others its broker's.
///
/// # Errors
/// [`NodeError`].
pub(crate) async fn open(
    config: &Config,
    machine: &Machine,
    (tasks, of_broker): (&Tasks, &Tasks),
    phase: &watch::Sender<Phase>,
    controllers: &Arc<NetworkTransport>,
) -> Result<Found, NodeError> {
    if config.lacks_common_store() {
        return Err(NodeError::OwnStore);
    }
    let data_dir = DataDir::open(config, machine).await?;
    let roles = config.quorum.roles;
    let voter = match roles.controller {
        true => Some(Arc::new(
            open_voter(config, machine, controllers, tasks).await?,
        )),
        false => None,
    };
    let metadata: Arc<dyn MetadataStore> = match &voter {
        Some(voter) => Arc::<RaftMetadata>::clone(voter),
        None => Arc::new(observe(machine, controllers, tasks).await?),
    };
    controllers.describe_by(&metadata);
    let tasks = (tasks, of_broker);
    match look(config, machine, tasks, phase, (&metadata, &data_dir)).await {
        Ok((stores, logs)) => {
            if let Some(voter) = voter {
                voter.admit_observers();
            }
            Ok((stores, logs, data_dir.into_lock()))
        }
        Err(error) => {
            end(&*metadata).await;
            Err(error)
        }
    }
}

/// Ends the metadata of a start that has failed, so that the next one finds its files free.
pub(crate) async fn end(metadata: &dyn MetadataStore) {
    if let Err(error) = metadata.shutdown().await {
        let error = reasons(&error);
        tracing::warn!(error, "the metadata does not end cleanly");
    }
}

/// Reads the logs and opens the object store.
async fn look(
    config: &Config,
    machine: &Machine,
    (tasks, of_broker): (&Tasks, &Tasks),
    phase: &watch::Sender<Phase>,
    (metadata, data_dir): (&Arc<dyn MetadataStore>, &DataDir),
) -> Result<(Stores, Option<FoundLogs>), NodeError> {
    let roles = config.quorum.roles;
    if roles.broker {
        catch_up(&**metadata).await;
    }
    phase.send_replace(Phase::WriteAheadLog);
    let directory = data_dir.directory();
    let logs = match roles.broker {
        true => Some(read_disk(config, machine, metadata, directory.id).await?),
        false => None,
    };
    phase.send_replace(Phase::ObjectStore);
    let opener = Opener {
        cluster: metadata.image().cluster(),
        node: config.node_id,
        claim: match roles.controller && !data_dir.remembers() {
            true => store_opening::claim(&**metadata).await?,
            false => Claim::Expect(metadata.image().store()),
        },
        has_own_directory: data_dir.has_store(),
    };
    let Opened {
        storage: objects,
        requests,
        id,
    } = store_opening::open(config, machine, tasks, opener).await?;
    if !data_dir.remembers() {
        store_opening::record(&**metadata, config, id).await?;
    }
    let logs = match logs {
        Some(logs) => Some(logs.read_objects(&objects, of_broker).await?),
        None => None,
    };
    data_dir.remember().await?;
    let stores = Stores {
        metadata: Arc::clone(metadata),
        objects,
        requests,
        opener: Opener {
            claim: Claim::Expect(id),
            ..opener
        },
        directory,
    };
    Ok((stores, logs))
}

/// Reads the logs of a broker that was fenced, for its next start beside stores that are open.
///
/// # Errors
/// [`NodeError`].
pub(crate) async fn find_logs(
    config: &Config,
    machine: &Machine,
    of_broker: &Tasks,
    phase: &watch::Sender<Phase>,
    stores: &Stores,
) -> Result<FoundLogs, NodeError> {
    catch_up(&*stores.metadata).await;
    phase.send_replace(Phase::WriteAheadLog);
    stores.directory.check(config, machine).await?;
    let logs = read_disk(config, machine, &stores.metadata, stores.directory.id).await?;
    Ok(logs.read_objects(&stores.objects, of_broker).await?)
}

impl FoundLogs {
    /// Registers the broker, uploads what its former epochs left in the WAL, and opens its streams.
    ///
    /// # Errors
    /// [`NodeError`]. Nothing refuses the start from here on; only a failure ends it.
    pub(crate) async fn recover(
        mut self,
        (stores, advertised): (&Stores, &[Advertised]),
        config: &Config,
        machine: &Machine,
        tasks: &Tasks,
        phase: &watch::Sender<Phase>,
    ) -> Result<BrokerStreams, NodeError> {
        let (node, metadata) = (config.node_id, &*stores.metadata);
        let (epoch, floor) = self
            .register((stores, advertised), config, machine, tasks)
            .await?;
        let heartbeats = Heartbeats::begin(
            Arc::clone(&stores.metadata),
            (node, epoch),
            (config.heartbeat_interval(), config.session()),
            (self.wal == WalKind::Object).then(|| Arc::clone(&stores.requests)),
            tasks,
        );
        let writer = Writer {
            cluster: metadata.image().cluster(),
            node,
            epoch,
            nonce: Uuid(machine.rng.next_id()),
            floor,
        };
        let streams = ObjectStreamStore::new(
            stream_config(config),
            self.ports(stores, epoch, tasks),
            writer,
        );
        phase.send_replace(Phase::Recovery(streams.clone()));
        let since = Instant::now();
        for former in registration::fenced(metadata, node) {
            // an epoch that is not closed had its log read, whatever the kind (D4)
            let Some(log) = self.read.get(&former.wal) else {
                continue;
            };
            let sealed = log.read.seal(former.epoch, former.floor).await?;
            let recovered = recover_log(&streams, sealed, &log.place).await?;
            let how = registration::closing(&recovered);
            let proposing = (metadata, &machine.rng);
            registration::close(proposing, (node, former.epoch), epoch, how).await?;
        }
        self.remove_ring(config, machine, &metadata.image()).await;
        let recovered = streams.recovery().batches;
        let elapsed_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let batches = recovered;
        tracing::info!(batches, elapsed_ms, "write-ahead log recovered");
        let log = self.read.remove(&self.wal);
        let log = log.expect("the log of the chosen kind was read").read;
        let sink = session::sink(config, &heartbeats, streams.durable_batches());
        let log = log.open(epoch, sink).await?;
        session::confirm_when_heard(config, &heartbeats, &log, tasks);
        // Batches that were uploaded before give their room back now; on a full disk nothing else may do so (D3).
        log.trim(registration::last(&metadata.image(), node).1);
        streams.attach(log);
        let takeover = Takeover {
            node,
            epoch,
            metadata: Arc::clone(&stores.metadata),
            streams: streams.clone(),
            logs: self.wals,
            rng: machine.rng.clone(),
        };
        tasks.spawn(TaskKind::Takeover, takeover.run());
        heartbeats.serve();
        let given = registration::wait_for_leaders(metadata, (node, epoch), &heartbeats).await;
        if let Err(fenced) = given {
            // the next start opens the same files
            fence::end_log(&streams).await?;
            return Err(fenced.into());
        }
        Ok(BrokerStreams {
            streams,
            epoch,
            heartbeats,
            recovered,
        })
    }

    /// Registers the broker. If another start of the node has registered since the logs were read, or a process may live that
    /// has another copy of the directory, they are read again first: a start recovers only from logs that it has read with all epochs before its own (D2).
    async fn register(
        &mut self,
        (stores, advertised): (&Stores, &[Advertised]),
        config: &Config,
        machine: &Machine,
        tasks: &Tasks,
    ) -> Result<(NodeEpoch, WalPosition), NodeError> {
        let (metadata, directory) = (&stores.metadata, &stores.directory);
        let given = directory.id;
        let mut sessions = 0;
        loop {
            let read = (self.wal, self.after);
            let asked = (&**metadata, directory);
            let registered = registration::register(config, machine, advertised, read, asked);
            match registered.await {
                Err(ProposeError::Rejected(Rejection::Changed)) => {
                    registration::changed(&**metadata, config.node_id, self.after).await;
                }
                // after a reboot, or at another mount, the directory itself waits for its last session
                Err(ProposeError::Rejected(Rejection::InSession(epoch))) => {
                    if sessions == SESSIONS_WAITED {
                        let (dir, node) = (config.data_dir.display().to_string(), config.node_id);
                        return Err(NodeError::Copied { dir, node, epoch });
                    }
                    sessions += 1;
                    tracing::warn!(
                        node_epoch = epoch.0,
                        "a process with this node.id and this directory.id was heard a moment ago: this start waits until \
                         its session is over, and is refused if that process goes on"
                    );
                    sleep(config.session()).await;
                }
                Err(ProposeError::Rejected(Rejection::OtherDirectory { epoch, recorded })) => {
                    return Err(registration::other_directory(
                        config, epoch, recorded, given,
                    ));
                }
                registered => return Ok(registered?),
            }
            catch_up(&**metadata).await;
            directory.check(config, machine).await?;
            let logs = read_disk(config, machine, metadata, given).await?;
            *self = logs.read_objects(&stores.objects, tasks).await?;
        }
    }

    fn ports(&self, stores: &Stores, epoch: NodeEpoch, tasks: &Tasks) -> Ports {
        let metadata = Arc::clone(&stores.metadata);
        Ports {
            storage: Arc::clone(&stores.objects),
            metadata: Arc::new(KraftStreamMetadata { metadata, epoch }),
            fold: Arc::new(KafkaDeltaFold),
            tasks: tasks.clone(),
            memory: self.memory.clone(),
        }
    }
}

/// Reads the log on the node's own disk, after a look whether the metadata knows it in another data directory, or another
/// node's in this one.
async fn read_disk<'a>(
    config: &'a Config,
    machine: &'a Machine,
    metadata: &Arc<dyn MetadataStore>,
    directory: Uuid,
) -> Result<Logs<'a>, NodeError> {
    registration::check_directory(config, &metadata.image(), directory)?;
    let mut logs = Logs::new(config, machine, Arc::clone(metadata));
    let read = logs.read_disk().await;
    let node = config.node_id;
    let image = metadata.image();
    let epoch = image.node(node).and_then(NodeImage::last_on_disk);
    read.map_err(|source| match (source, epoch) {
        (source @ WalError::Damaged { .. }, Some(epoch)) => NodeError::LogLost {
            node,
            epoch,
            source,
        },
        (source, _) => source.into(),
    })?;
    Ok(logs)
}

/// Brings the batches that a former epoch left in its log into objects.
async fn recover_log(
    streams: &ObjectStreamStore,
    sealed: SealedWal,
    place: &str,
) -> Result<Recovered, NodeError> {
    if let SealedWal::Replay { bytes, .. } = sealed {
        tracing::info!(bytes, "recovering the write-ahead log");
    }
    let recovered = streams.recover(sealed).await;
    recovered.map_err(|source| NodeError::Recover {
        path: place.to_owned(),
        source,
    })
}

/// Opens the metadata as a voter, on the runtime of the control work. It is boxed here, so that it is compiled once for
/// its callers in several crates; the same holds for [`observe`].
pub(crate) fn open_voter<'a>(
    config: &'a Config,
    machine: &'a Machine,
    controllers: &'a Arc<NetworkTransport>,
    tasks: &'a Tasks,
) -> BoxFuture<'a, Result<RaftMetadata, NodeError>> {
    async move {
        let raft = highwater_kraft_meta::Config {
            dir: config.data_dir.join("metadata"),
            node: config.node_id,
            cluster: Uuid(machine.rng.next_id()),
            seed: machine.rng.next_u64(),
            new_log_seed: machine.rng.next_id(),
            new_directory_id: Uuid(machine.rng.next_id()),
            snapshot_entries: config.snapshot_entries(),
            snapshot_bytes: config.snapshot_bytes(),
        };
        let quorum = Quorum {
            session: config.session(),
            voters: config.quorum.voters(config.node_id),
            bootstrap: controllers.bootstrap(),
            endpoints: controllers.endpoints(config),
            transport: Arc::<NetworkTransport>::clone(controllers),
        };
        let (device, threads) = (Arc::clone(&machine.device), Arc::clone(&machine.threads));
        let opened = async move { RaftMetadata::open_in(quorum, raft, device, &*threads).await };
        let opened = tasks.control().run(opened.boxed()).await;
        Ok(opened.map_err(NodeError::Control)??)
    }
    .boxed()
}

/// Follows the metadata of the controllers, on the runtime of the control work.
pub(crate) fn observe<'a>(
    machine: &'a Machine,
    controllers: &'a Arc<NetworkTransport>,
    tasks: &'a Tasks,
) -> BoxFuture<'a, Result<ObserverMetadata, NodeError>> {
    async move {
        let observer = Observer {
            voters: controllers.nodes(),
            calls: Arc::<NetworkTransport>::clone(controllers),
            cluster: None,
            rng: machine.rng.clone(),
        };
        let last = Mutex::new(String::new());
        let say = move |reason: &str| {
            // each attempt has a reason, usually the same one
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if *last != reason {
                tracing::warn!(reason, "waiting for a controller");
                reason.clone_into(&mut last);
            }
        };
        let opened = ObserverMetadata::open(observer, say).boxed();
        let opened = tasks.control().run(opened).await;
        Ok(opened.map_err(NodeError::Control)??)
    }
    .boxed()
}

fn stream_config(config: &Config) -> highwater_s3stream::Config {
    highwater_s3stream::Config {
        upload_interval: config.millis("highwater.upload.interval.ms"),
        upload_bytes: config.size("highwater.upload.size"),
        block_cache_bytes: config.memory.block_cache,
        room_within: Reaper::deletes_within(config.millis("highwater.object.grace.ms")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty_metadata::{self, FaultyMetadata};
    use crate::fixture::config;
    use crate::node::Node;

    // D2, R3: to an image that lags, the node's own log would look newer than the metadata
    #[tokio::test]
    async fn a_start_reads_its_logs_against_metadata_that_has_caught_up() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = config(dir.path(), &[("highwater.wal", "object")]);
        let (machine, tasks, node) = (Machine::real(), Tasks::default(), config.node_id);
        let metadata = faulty_metadata::open(node, &dir.path().join("metadata")).await;
        let metadata = Arc::new(FaultyMetadata::from(metadata));
        // the store of a cluster that has had a broker has its claim
        let opener = Opener {
            cluster: metadata.image().cluster(),
            node,
            claim: Claim::Make,
            has_own_directory: true,
        };
        let claimed = store_opening::open(&config, &machine, &tasks, opener).await;
        claimed.map(drop).expect("opens");
        faulty_metadata::registered_since(&metadata, node).await;
        let (epoch, _) = registration::last(&metadata.inner.image(), node);

        let data_dir = DataDir::open(&config, &machine).await.expect("opens");
        let phase = watch::Sender::new(Phase::WriteAheadLog);
        let followed: Arc<dyn MetadataStore> = Arc::<FaultyMetadata>::clone(&metadata);
        let both = (&tasks, &tasks);
        let found = look(&config, &machine, both, &phase, (&followed, &data_dir)).await;
        let (_, logs) = found.expect("nothing refuses it");
        assert_eq!(logs.expect("it is a broker").after, epoch);
        metadata.shutdown().await.expect("stops");
    }

    // D2: the default is a directory of the node's own
    #[tokio::test]
    async fn a_node_that_is_one_of_several_does_not_start_without_a_store_that_is_set() {
        for (roles, voters, listeners) in [
            ("controller", "1@127.0.0.1:1", "CONTROLLER://127.0.0.1:0"),
            ("broker", "2@127.0.0.1:1", "PLAINTEXT://127.0.0.1:0"),
            (
                "broker,controller",
                "1@127.0.0.1:1,2@127.0.0.1:2,3@127.0.0.1:3",
                "CONTROLLER://127.0.0.1:0,PLAINTEXT://127.0.0.1:0",
            ),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            let settings = [
                ("process.roles", roles),
                ("node.id", "1"),
                ("controller.listener.names", "CONTROLLER"),
                ("controller.quorum.voters", voters),
                ("listeners", listeners),
            ];
            let config = config(dir.path(), &settings);
            let refused = Node::start(config, Machine::real()).await;
            let refused = refused.map(drop).expect_err("is refused");
            assert!(matches!(refused, NodeError::OwnStore), "{roles}: {refused}");
        }
    }
}
