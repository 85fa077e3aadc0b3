//! The steps of a start in the metadata: the node registers, closes its former epochs once their content is registered,
//! and waits for the partitions that the active controller gives it (rules E).

use std::sync::Arc;
use std::time::Duration;

use highwater_kraft_meta::command::{
    self, CloseEpoch, Closing, Endpoint, FenceEpoch, RegisterNode, Sealed, WalKind,
};
use highwater_kraft_meta::{
    Action, EpochImage, EpochState, MetadataImage, MetadataStore, MetadataVersion, NodeImage,
    Outcome, PartitionImage, ProposeError, Rejection,
};
use highwater_runtime::{Backoff, SeededRng};
use highwater_s3stream::Recovered;
use highwater_types::{NodeEpoch, NodeId, TopicId, Uuid, WalPosition};
use highwater_wal::Known;
use tokio::time::{Instant, sleep, timeout};

use crate::config::{Advertised, Config};
use crate::data_dir::Directory;
use crate::heartbeats::Heartbeats;
use crate::machine::Machine;
use crate::node_error::NodeError;
use crate::stream_metadata;

/// How long a stop waits until the controllers have heard that the epoch ends. Without that its session just runs out.
const END_DEADLINE: Duration = Duration::from_secs(2);
/// How long a registration whose outcome is unknown is repeated.
const REPEAT_MAX: Duration = Duration::from_secs(30);
/// The bounds of the wait before a closing whose outcome is unknown is sent again.
const REST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long a start waits until the partitions of its former epochs have leaders. The active controller may have just
/// started; then it hears the live brokers first, which takes a session.
const LEADERS_DEADLINE: Duration = Duration::from_secs(30);

/// Registers a start of this node with its addresses; `wal` is the kind of its WAL, and `after` the last epoch that the
/// node had when its logs were read (D2). Returns its epoch and the WAL's floor (E1, E2). While another process with this
/// node's id and another data directory lives, it waits (E2). If the answer is lost, because the active controller died,
/// it is sent again.
///
/// # Errors
/// [`ProposeError`]; [`Rejection::Changed`] if another start of the node has registered since the logs were read; and
/// [`Rejection::InSession`] if the log on this directory's disk is needed, and a process may live that has another copy of
/// it.
pub(crate) async fn register(
    config: &Config,
    machine: &Machine,
    advertised: &[Advertised],
    (wal, after): (WalKind, NodeEpoch),
    (metadata, directory): (&dyn MetadataStore, &Directory),
) -> Result<(NodeEpoch, WalPosition), ProposeError> {
    let endpoint = |told: &Advertised| Endpoint {
        listener: told.name.clone(),
        host: told.host.clone(),
        port: told.port.into(),
    };
    let register = RegisterNode {
        node: config.node_id.0,
        incarnation: machine.rng.next_id().to_vec(),
        endpoints: advertised.iter().map(endpoint).collect(),
        wal: wal.into(),
        after: after.0,
        directory: directory.id.0.to_vec(),
        place: directory.place.clone(),
        rack: config.rack().to_owned(),
        metadata_version: MetadataVersion::NEWEST.record(),
    };
    let mut has_waited = false;
    let begun = Instant::now();
    loop {
        let registered = metadata.propose(Action::RegisterNode(register.clone()).into());
        match registered.await {
            Err(ProposeError::Rejected(Rejection::InSession(epoch))) => {
                let image = metadata.image();
                let node = image.node(config.node_id);
                if node.is_some_and(|node| bound_by(node, directory.id).is_some()) {
                    return Err(ProposeError::Rejected(Rejection::InSession(epoch)));
                }
                if !has_waited {
                    tracing::warn!(
                        node_id = config.node_id.0,
                        node_epoch = epoch.0,
                        "another process with this node.id was heard a moment ago, with another data directory or with one of \
                         which this one is a copy: this start waits until its session is over, for ever if that process \
                         goes on"
                    );
                }
                has_waited = true;
            }
            // a repeat is the same registration (E2)
            Err(ProposeError::Unavailable(reason))
                if has_waited || begun.elapsed() < REPEAT_MAX =>
            {
                tracing::info!(reason, "the registration is sent again");
            }
            registered => {
                return match registered? {
                    (_, Outcome::Registered { epoch, floor, .. }) => Ok((epoch, floor)),
                    (at, _) => Ok((NodeEpoch(at.0), WalPosition::default())),
                };
            }
        }
        sleep(config.heartbeat_interval()).await;
    }
}

/// Waits until this node's image has another registration of the node than that of an epoch.
pub(crate) async fn changed(metadata: &dyn MetadataStore, node: NodeId, since: NodeEpoch) {
    let mut images = metadata.watch();
    let changed = images.wait_for(|image| last(image, node).0 != since);
    // an error means that the metadata has ended, which the next command says
    drop(changed.await);
}

/// Checks that a start has the data directory with the node's disk WAL, if that is not closed, and otherwise not one with
/// another node's (D2).
///
/// # Errors
/// [`NodeError::OtherDirectory`] or [`NodeError::OfOtherNode`].
pub(crate) fn check_directory(
    config: &Config,
    image: &MetadataImage,
    given: Uuid,
) -> Result<(), NodeError> {
    let node = image.node(config.node_id);
    if let Some((epoch, recorded)) = node.and_then(NodeImage::bound_to) {
        let recorded = command::uuid(recorded);
        return match recorded == given {
            true => Ok(()),
            false => Err(other_directory(config, epoch, recorded, given)),
        };
    }
    let bound = |(owner, node)| Some((owner, bound_by(node, given)?));
    match image.nodes().find_map(bound) {
        Some((owner, epoch)) => Err(NodeError::OfOtherNode {
            dir: config.data_dir.display().to_string(),
            node: config.node_id,
            owner,
            epoch,
        }),
        None => Ok(()),
    }
}

/// The epoch for whose log a node needs the data directory with this id (D2).
fn bound_by(node: &NodeImage, directory: Uuid) -> Option<NodeEpoch> {
    let bound = node.bound_to();
    bound.and_then(|(epoch, recorded)| (*recorded == directory.0).then_some(epoch))
}

/// The reason why a start with this data directory is refused.
pub(crate) fn other_directory(
    config: &Config,
    epoch: NodeEpoch,
    recorded: Uuid,
    given: Uuid,
) -> NodeError {
    NodeError::OtherDirectory {
        dir: config.data_dir.display().to_string(),
        node: config.node_id,
        epoch,
        recorded,
        given,
    }
}

/// Says that an epoch ends, once its log has ended: another start of the node need not wait for its session (E2), and
/// others take its partitions over at once.
pub(crate) async fn end(metadata: &dyn MetadataStore, node: NodeId, epoch: NodeEpoch) {
    let fence = FenceEpoch {
        node: node.0,
        epoch: epoch.0,
    };
    let fenced = metadata.propose(Action::FenceEpoch(fence).into());
    match timeout(END_DEADLINE, fenced).await {
        Ok(Ok(_)) | Ok(Err(ProposeError::Rejected(Rejection::Fenced(_)))) => {}
        Ok(Err(error)) => {
            tracing::info!(%error, "the end of this broker's session is not announced")
        }
        Err(_elapsed) => {
            tracing::info!("the end of this broker's session is not announced in time")
        }
    }
}

/// A former epoch of a node that is not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Former {
    pub(crate) epoch: NodeEpoch,
    pub(crate) wal: WalKind,
    /// The position from which its log is needed.
    pub(crate) floor: WalPosition,
}

/// The former epochs of a node that are not closed, oldest first. Their floors are final, because the image has applied
/// the fence (W7). The disk WAL is one log over all epochs of the node, so its highest floor holds for each of them.
pub(crate) fn fenced(metadata: &dyn MetadataStore, node: NodeId) -> Vec<Former> {
    let image = metadata.image();
    let Some(own) = image.node(node) else {
        return Vec::new();
    };
    let on_disk = own
        .epochs
        .values()
        .filter(|epoch| epoch.wal == WalKind::Disk);
    let on_disk = on_disk.map(|epoch| epoch.floor).max().unwrap_or_default();
    let floor = |former: &EpochImage| match former.wal {
        WalKind::Disk => on_disk,
        WalKind::Object => former.floor,
    };
    let former = own.fenced().map(|(epoch, image)| Former {
        epoch,
        wal: image.wal,
        floor: floor(image),
    });
    former.collect()
}

/// The way in which an epoch is closed, once its log is recovered (E3).
pub(crate) fn closing(recovered: &Recovered) -> Closing {
    match recovered {
        Recovered::Uploaded => Closing::Recovered(command::Recovered {}),
        Recovered::Sealed(sealed) => Closing::Sealed(Sealed {
            at: Some(sealed.at.into()),
            index: sealed.index.map(Into::into),
            bytes: sealed.bytes,
            claims: stream_metadata::claims(&sealed.claims),
        }),
    }
}

/// Closes a former epoch, whose content is registered by now (E3). While the outcome is unknown the same command is sent
/// again, because its index has a number that is in flight until it is decided (U2, W8).
///
/// # Errors
/// [`ProposeError::Rejected`].
pub(crate) async fn close(
    (metadata, rng): (&dyn MetadataStore, &SeededRng),
    (node, former): (NodeId, NodeEpoch),
    by: NodeEpoch,
    how: Closing,
) -> Result<(), ProposeError> {
    let close = CloseEpoch {
        node: node.0,
        epoch: former.0,
        by: by.0,
        how: Some(how),
    };
    let mut rests = Backoff::new(REST.0, REST.1, rng.clone());
    let mut is_repeat = false;
    loop {
        let closed = metadata.propose(Action::CloseEpoch(close.clone()).into());
        match closed.await {
            Err(ProposeError::Unavailable(reason)) => {
                tracing::info!(reason, "the closing of an epoch is sent again");
            }
            // an earlier attempt closed it: a closed epoch on the disk WAL leaves the metadata
            Err(ProposeError::Rejected(Rejection::Changed))
                if is_repeat && !is_unclosed(&metadata.image(), node, former) =>
            {
                return Ok(());
            }
            closed => return closed.map(drop),
        }
        is_repeat = true;
        sleep(rests.next_wait()).await;
    }
}

fn is_unclosed(image: &MetadataImage, node: NodeId, epoch: NodeEpoch) -> bool {
    image.node(node).is_some_and(|own| own.is_unclosed(epoch))
}

/// Waits until the active controller has heard that this broker serves, and has given every partition that former epochs
/// of this node led to a broker, this one or another one, and every partition that no broker ever led (E4). So a client
/// that knew this node is answered at once when the start is over, and what is created then may be led here. A start that
/// has waited for long goes on without them.
///
/// # Errors
/// [`ProposeError`]: this epoch was fenced meanwhile.
pub(crate) async fn wait_for_leaders(
    metadata: &dyn MetadataStore,
    (node, epoch): (NodeId, NodeEpoch),
    heartbeats: &Heartbeats,
) -> Result<(), ProposeError> {
    let is_open = |image: &MetadataImage| image.node(node).is_some_and(|own| own.is_open(epoch));
    // only these can be without a leader for longer, so that no change costs a look at all partitions
    let mut waits_for = leaderless(&metadata.image(), node, epoch);
    if !waits_for.is_empty() {
        let partitions = waits_for.len();
        tracing::info!(
            partitions,
            "waiting until the active controller has given the partitions of this broker's former epochs to brokers"
        );
    }
    let mut images = metadata.watch();
    let is_over = |image: &Arc<MetadataImage>| {
        waits_for.retain(|(topic, index)| {
            let topic = image.topic_by_id(*topic);
            let partition = topic.and_then(|topic| topic.partition(*index));
            partition.is_some_and(|partition| is_leaderless(partition, node, epoch))
        });
        waits_for.is_empty() || !is_open(image)
    };
    let given = async {
        heartbeats.served().await;
        drop(images.wait_for(is_over).await);
    };
    // both arms are cancellation safe
    let is_fenced = tokio::select! {
        _given_or_late = timeout(LEADERS_DEADLINE, given) => !is_open(&metadata.image()),
        () = heartbeats.fenced() => true,
    };
    if is_fenced {
        return Err(ProposeError::Rejected(Rejection::Fenced(epoch)));
    }
    if !waits_for.is_empty() {
        let partitions = waits_for.len();
        tracing::warn!(
            partitions,
            "the active controller has given no leader to partitions of this broker's former epochs; the start goes on"
        );
    }
    Ok(())
}

/// The last epoch that this node registered, or 0 without one, and the committed floor of its WAL.
pub(crate) fn last(image: &MetadataImage, node: NodeId) -> (NodeEpoch, WalPosition) {
    let Some(own) = image.node(node) else {
        return Default::default();
    };
    let last = own.epochs.get(&own.epoch);
    let floor = last.map_or_else(WalPosition::default, |epoch| epoch.floor);
    (own.epoch, floor)
}

/// What the metadata knows of this node's WAL of a kind, before the node registers, also if it was unregistered: its seals
/// are there for good, and its other objects until they are swept (W10, W12).
pub(crate) fn known(image: &MetadataImage, node: NodeId, kind: WalKind) -> Known {
    let Some(own) = image.remembered(node) else {
        return Known::default();
    };
    let is_needed = |epoch: &&EpochImage| {
        epoch.wal == kind && matches!(epoch.state, EpochState::Open | EpochState::Fenced)
    };
    let needed = own.epochs.values().rfind(is_needed);
    Known {
        registered: own.epoch,
        floor: needed.map(|epoch| epoch.floor),
        confirmed: needed.map_or_else(WalPosition::default, |epoch| epoch.confirmed),
    }
}

/// The partitions that a former epoch of this node led last, and those that no node ever led.
fn leaderless(image: &MetadataImage, node: NodeId, epoch: NodeEpoch) -> Vec<(TopicId, i32)> {
    let topics = image.topics();
    let leaderless = topics.flat_map(|topic| {
        let partitions = topic.partition_indexes().zip(&topic.partitions);
        let leaderless = partitions.filter(|(_, one)| is_leaderless(one, node, epoch));
        leaderless.map(|(index, _)| (topic.id, index))
    });
    leaderless.collect()
}

fn is_leaderless(partition: &PartitionImage, node: NodeId, epoch: NodeEpoch) -> bool {
    let leader = partition.leader;
    leader.is_none_or(|(leader, former)| leader == node && former < epoch)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use highwater_io::RealDevice;
    use highwater_kraft_meta::command::{CommitObject, CreateTopic, Replicas};
    use highwater_runtime::{TaskKind, Tasks};
    use highwater_types::Uuid;

    use super::*;
    use crate::controller;
    use crate::faulty_metadata::{self, FaultyMetadata};
    use crate::fixture::config;

    const NODE: NodeId = NodeId(1);
    const SESSION: Duration = Duration::from_secs(3);

    // E2: the active controller dies after it has decided
    #[tokio::test]
    async fn a_registration_whose_answer_is_lost_is_sent_again_and_is_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let metadata = FaultyMetadata::from(faulty_metadata::open(NODE, dir.path()).await);
        metadata.answers_lost.store(2, Ordering::Relaxed);
        let config = config(dir.path(), &[("broker.heartbeat.interval.ms", "10")]);
        let machine = Machine::real();
        let asked = (WalKind::Object, NodeEpoch(0));
        let directory = Directory::of(&RealDevice, dir.path(), Uuid([8; 16])).await;
        let registered = register(&config, &machine, &[], asked, (&metadata, &directory));
        let (epoch, _) = registered.await.expect("is registered");
        assert_eq!(metadata.answers_lost.into_inner(), 0);
        let image = metadata.inner.image();
        let node = image.node(config.node_id).expect("is registered");
        assert_eq!(node.epochs.keys().collect::<Vec<_>>(), [&epoch]);
    }

    // U2, W8
    #[tokio::test]
    async fn a_closing_whose_answer_is_lost_is_sent_again_and_is_no_refusal() {
        for wal in [WalKind::Disk, WalKind::Object] {
            let dir = tempfile::tempdir().expect("a directory");
            let metadata = FaultyMetadata::from(faulty_metadata::open(NODE, dir.path()).await);
            let mut epochs = Vec::new();
            for incarnation in 1..=2 {
                let register = RegisterNode {
                    node: NODE.0,
                    incarnation: vec![incarnation],
                    wal: wal.into(),
                    after: last(&metadata.image(), NODE).0.0,
                    ..RegisterNode::default()
                };
                let registered = metadata.propose(Action::RegisterNode(register).into());
                let (at, _) = registered.await.expect("registers");
                epochs.push(NodeEpoch(at.0));
            }
            let position = |epoch| WalPosition { epoch, at: 1 };
            let how = match wal {
                WalKind::Disk => closing(&Recovered::Uploaded),
                WalKind::Object => Closing::Sealed(Sealed {
                    at: Some(position(epochs[0]).into()),
                    ..Sealed::default()
                }),
            };
            metadata.answers_lost.store(2, Ordering::Relaxed);
            let proposing = (&metadata as &dyn MetadataStore, &SeededRng::from_seed(1));
            let former = (NODE, epochs[0]);
            let closed = close(proposing, former, epochs[1], how.clone()).await;
            closed.expect("is closed");
            assert_eq!(metadata.answers_lost.load(Ordering::Relaxed), 0);
            assert_eq!(fenced(&metadata, NODE), []);
            // the first answer says whether there was something to close
            let again = close(proposing, former, epochs[1], how).await;
            let is_refused = matches!(again, Err(ProposeError::Rejected(Rejection::Changed)));
            assert_eq!(is_refused, wal == WalKind::Disk, "{again:?}");
        }
    }

    // D2: the disk WAL is one log, and its floor never goes back. A start that dies while it recovers has moved the floor
    // in its own epoch, and leaves two epochs to the next one.
    #[tokio::test]
    async fn every_epoch_of_a_disk_wal_is_recovered_from_the_highest_floor() {
        let dir = tempfile::tempdir().expect("a directory");
        let metadata = faulty_metadata::open(NODE, dir.path()).await;
        let propose = async |action: Action| {
            let proposed = metadata.propose(action.into());
            proposed.await.expect("is taken");
        };
        let mut epochs = Vec::new();
        for (incarnation, floor) in [(1, 70), (2, 90), (3, 90)] {
            let (after, _) = last(&metadata.image(), NODE);
            let register = RegisterNode {
                node: NODE.0,
                incarnation: vec![incarnation],
                after: after.0,
                wal: WalKind::Disk.into(),
                ..RegisterNode::default()
            };
            propose(Action::RegisterNode(register)).await;
            let (epoch, _) = last(&metadata.image(), NODE);
            epochs.push(epoch);
            let position = WalPosition { epoch, at: floor };
            let confirmed = WalPosition {
                epoch,
                at: floor + 5,
            };
            let commit = CommitObject {
                node: NODE.0,
                node_epoch: epoch.0,
                number: 1,
                lowest_in_flight: 1,
                floor: Some(position.into()),
                confirmed: Some(confirmed.into()),
                recovering: incarnation > 1,
                ..CommitObject::default()
            };
            if incarnation < 3 {
                propose(Action::CommitObject(commit)).await;
            }
        }
        let highest = WalPosition {
            epoch: epochs[1],
            at: 90,
        };
        let former = |epoch| Former {
            epoch,
            wal: WalKind::Disk,
            floor: highest,
        };
        let expected = [former(epochs[0]), former(epochs[1])];
        assert_eq!(fenced(&metadata, NODE), expected);
        let known = known(&metadata.image(), NODE, WalKind::Disk);
        let confirmed = WalPosition { at: 95, ..highest };
        assert_eq!((known.floor, known.confirmed), (Some(highest), confirmed));
        metadata.shutdown().await.expect("stops");
    }

    // R3, W10: a broker that was unregistered and comes back finds its own log, or the seals of it
    #[tokio::test]
    async fn the_log_of_a_node_that_was_unregistered_is_known() {
        let dir = tempfile::tempdir().expect("a directory");
        let metadata = faulty_metadata::open(NODE, dir.path()).await;
        let propose = async |action: Action| {
            let proposed = metadata.propose(action.into());
            proposed.await.expect("is taken");
        };
        let other = NodeId(2);
        for node in [NODE, other] {
            let register = RegisterNode {
                node: node.0,
                incarnation: vec![1],
                wal: WalKind::Object.into(),
                ..RegisterNode::default()
            };
            propose(Action::RegisterNode(register)).await;
        }
        let (epoch, floor) = last(&metadata.image(), NODE);
        let (by, _) = last(&metadata.image(), other);
        let (node, of) = (NODE.0, epoch.0);
        propose(Action::FenceEpoch(FenceEpoch { node, epoch: of })).await;
        let sealed = Closing::Sealed(Sealed {
            at: Some(floor.into()),
            ..Sealed::default()
        });
        let rng = SeededRng::from_seed(1);
        let closed = close((&metadata, &rng), (NODE, epoch), by, sealed).await;
        closed.expect("closes");
        propose(Action::UnregisterNode(command::UnregisterNode { node })).await;
        let known = || known(&metadata.image(), NODE, WalKind::Object);
        assert_eq!((known().registered, known().floor), (epoch, None));
        assert_eq!(last(&metadata.image(), NODE).0, NodeEpoch(0));
        propose(Action::EpochSwept(command::EpochSwept { node, epoch: of })).await;
        assert_eq!((known().registered, known().floor), (epoch, None));
        metadata.shutdown().await.expect("stops");
    }

    // Each command is larger than all that the log may hold.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_start_proposes_waits_for_the_snapshots_it_needs() {
        let dir = tempfile::tempdir().expect("a directory");
        for start in 0..3 {
            let store: Arc<dyn MetadataStore> =
                Arc::new(faulty_metadata::open(NODE, dir.path()).await);
            let metadata = &*store;
            let (after, _) = last(&metadata.image(), NODE);
            let register = RegisterNode {
                node: NODE.0,
                incarnation: vec![start],
                after: after.0,
                wal: WalKind::Disk.into(),
                ..RegisterNode::default()
            };
            let registered = metadata.propose(Action::RegisterNode(register).into());
            registered.await.expect("registers");
            if start == 0 {
                let create = CreateTopic {
                    name: "t".to_owned(),
                    id: vec![1; 16],
                    partitions: vec![Replicas { nodes: vec![1] }; 6000],
                    ..CreateTopic::default()
                };
                let created = metadata.propose(Action::CreateTopic(create).into());
                created.await.expect("creates");
            }
            let (epoch, _) = last(&metadata.image(), NODE);
            for Former { epoch: former, .. } in fenced(metadata, NODE) {
                let how = closing(&Recovered::Uploaded);
                let rng = SeededRng::from_seed(1);
                let closed = close((metadata, &rng), (NODE, former), epoch, how).await;
                closed.expect("closes");
            }
            let tasks = Tasks::default();
            let assigner = controller::assigner::run(Arc::clone(&store), SESSION);
            tasks.spawn(TaskKind::Assigner, assigner);
            let heartbeats = Heartbeats::begin(
                Arc::clone(&store),
                (NODE, epoch),
                (SESSION / 3, SESSION),
                None,
                &tasks,
            );
            heartbeats.serve();
            let waited = wait_for_leaders(metadata, (NODE, epoch), &heartbeats).await;
            waited.expect("is not fenced");
            assert_eq!(leaderless(&metadata.image(), NODE, epoch), []);
            tasks.stop().await;
            metadata.shutdown().await.expect("stops");
        }
    }
}
