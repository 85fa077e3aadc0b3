//! Shared parts of this crate's tests: a node in a temporary directory, and images of clusters of several nodes.

use std::path::Path;
use std::sync::Arc;

use highwater_client::{Connection, Options};
use highwater_io::net::TcpNetwork;
use highwater_io::{Faults, FaultyDevice, RealDevice};
use highwater_kraft_meta::command::{
    AssignLeaders, CloseEpoch, Closing, CommitObject, CreateTopic, DeleteTopic, Duty, Endpoint,
    FenceEpoch, GiveUpEpoch, HandedOver, MovePartitions, OpenStreams, PartitionMove, Recovered,
    RegisterNode, Replicas, SetDuty, StreamEpoch, WalKind,
};
use highwater_kraft_meta::{Action, MetadataImage, MetadataStore, NodeImage, Outcome, TopicImage};
use highwater_protocol::Request;
use highwater_types::{LogIndex, NodeEpoch, NodeId, TopicId};
use tempfile::TempDir;

use crate::broker::Broker;
use crate::config::Config;
use crate::node::{Machine, Node};
use crate::topics::NewTopic;

/// The configuration of a test's node: a port that the machine chooses, and a small write-ahead log.
pub(crate) fn config(data: &Path, more: &[(&str, &str)]) -> Config {
    let data = data.display().to_string();
    let common = [
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("highwater.data.dir", data.as_str()),
        ("highwater.admin.listener", ""),
        ("highwater.wal.size", "64MiB"),
    ];
    let settings = common.iter().chain(more);
    let settings = settings.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let settings: Vec<_> = settings.collect();
    Config::load(None, [], &settings).expect("is sound")
}

/// A machine whose disk fails on demand.
pub(crate) fn faulty_machine(faults: &Arc<Faults>) -> Machine {
    Machine {
        device: Arc::new(FaultyDevice::new(Arc::new(RealDevice), Arc::clone(faults))),
        ..Machine::real()
    }
}

/// A running node whose disk fails on demand.
pub(crate) struct TestNode {
    pub(crate) node: Node,
    pub(crate) faults: Arc<Faults>,
    _dir: TempDir,
}

impl TestNode {
    /// Starts a node with these settings in addition to the common ones.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let faults = Arc::new(Faults::default());
        let node = Node::start(config(dir.path(), settings), faulty_machine(&faults)).await;
        Self {
            node: node.expect("starts"),
            faults,
            _dir: dir,
        }
    }

    pub(crate) fn broker(&self) -> &Arc<Broker> {
        self.node.broker()
    }

    pub(crate) async fn stop(self) {
        self.node.stop().await.expect("stops");
    }

    /// Gives the partitions of a topic to another broker, as the controllers do when this node's epoch has ended. The
    /// node goes on, like a node that has not learnt of the end.
    pub(crate) async fn give_away(&self, topic: &str, to: i32) {
        let metadata = &self.broker().metadata;
        let own = self.broker().config.node_id;
        let to = self.register(to).await;
        // The node itself registers with these fields when it starts again.
        let again = propose(metadata, |image| register(image, own.0, &[]));
        let again = epoch_of(again.await);
        let former = self.broker().epoch;
        propose(metadata, |_| close(own.0, former, again)).await;
        propose(metadata, |image| assign(image, to, topic, None)).await;
    }

    /// Registers another broker, which says nothing.
    pub(crate) async fn register(&self, node: i32) -> NodeEpoch {
        let endpoints = [("PLAINTEXT", "other", 19092)];
        let registered = propose(&self.broker().metadata, |image| {
            register(image, node, &endpoints)
        });
        epoch_of(registered.await)
    }

    /// Deletes a topic.
    pub(crate) async fn delete(&self, topic: &str) {
        propose(&self.broker().metadata, |image| delete(image, topic)).await;
    }
}

/// Sends a request as a client does, and waits for the answer.
pub(crate) async fn ask<R: Request>(node: &Node, request: &R, version: i16) -> R::Response {
    let answer = connect(node).await.call(request, version).await;
    answer.expect("is answered")
}

/// Connects a client to a node.
pub(crate) async fn connect(node: &Node) -> Connection {
    let address = node.address().expect("it listens");
    let (host, port) = (address.ip().to_string(), address.port());
    let client = Connection::open(&TcpNetwork, &host, port, Options::default()).await;
    client.expect("connects")
}

/// Makes a topic of one partition.
pub(crate) fn one_partition(name: &str) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: 1,
        replication_factor: 1,
        ..NewTopic::default()
    }
}

async fn propose(
    metadata: &Arc<dyn MetadataStore>,
    action: impl FnOnce(&MetadataImage) -> Action,
) -> Outcome {
    let action = action(&metadata.image());
    let proposed = metadata.propose(action.into()).await;
    proposed.expect("is taken").1
}

fn epoch_of(outcome: Outcome) -> NodeEpoch {
    match outcome {
        Outcome::Registered { epoch, .. } => epoch,
        other => panic!("{other:?}"),
    }
}

/// The command that registers a node's next start.
fn register(image: &MetadataImage, node: i32, endpoints: &[(&str, &str, u32)]) -> Action {
    let before = image.node(NodeId(node));
    let after = before.map_or(0, |before| before.epoch.0);
    let endpoint = |(listener, host, port): &(&str, &str, u32)| Endpoint {
        listener: (*listener).to_owned(),
        host: (*host).to_owned(),
        port: *port,
    };
    Action::RegisterNode(RegisterNode {
        node,
        incarnation: after.to_be_bytes().to_vec(),
        endpoints: endpoints.iter().map(endpoint).collect(),
        wal: WalKind::Disk.into(),
        after,
        // the start is of the same data directory, so that it takes over at once (E2)
        directory: before.map_or_else(Vec::new, |before| before.directory.clone()),
        place: String::new(),
        rack: String::new(),
        metadata_version: 0,
    })
}

fn close(node: i32, former: NodeEpoch, by: NodeEpoch) -> Action {
    Action::CloseEpoch(CloseEpoch {
        node,
        epoch: former.0,
        by: by.0,
        how: Some(Closing::Recovered(Recovered {})),
    })
}

fn delete(image: &MetadataImage, topic: &str) -> Action {
    let topic = image.topic(topic).expect("is there");
    let id = topic.id.0.to_vec();
    Action::DeleteTopic(DeleteTopic { id })
}

/// Gives all partitions whose leader's epoch is not open to an epoch, as the active controller does.
pub(crate) async fn lead(metadata: &dyn MetadataStore, to: NodeEpoch) {
    let image = metadata.image();
    let partitions = image.partitions();
    let leaderless = partitions.filter(|partition| image.live_leader(partition).is_none());
    let streams = leaderless.map(|partition| StreamEpoch {
        stream: partition.stream.0,
        leader_epoch: partition.leader_epoch.0,
    });
    let assign = AssignLeaders {
        node_epoch: to.0,
        streams: streams.collect(),
    };
    let assigned = metadata.propose(Action::AssignLeaders(assign).into());
    assigned.await.expect("is taken");
}

/// The command that gives one partition of a topic, or all, to an epoch.
fn assign(image: &MetadataImage, to: NodeEpoch, topic: &str, index: Option<usize>) -> Action {
    let topic = image.topic(topic).expect("is there");
    let numbered = topic.partitions.iter().enumerate();
    let chosen = numbered.filter(|(number, _)| index.is_none_or(|index| index == *number));
    let streams = chosen.map(|(_, partition)| StreamEpoch {
        stream: partition.stream.0,
        leader_epoch: partition.leader_epoch.0,
    });
    Action::AssignLeaders(AssignLeaders {
        node_epoch: to.0,
        streams: streams.collect(),
    })
}

/// A builder of images of a cluster, command by command.
#[derive(Debug, Default)]
pub(crate) struct ImageBuilder {
    image: MetadataImage,
    at: u64,
    topics: u8,
}

impl ImageBuilder {
    /// The present image.
    pub(crate) fn image(&self) -> Arc<MetadataImage> {
        Arc::new(self.image.clone())
    }

    /// A topic in the present image.
    pub(crate) fn topic(&self, name: &str) -> Arc<TopicImage> {
        Arc::clone(self.image.topic(name).expect("is there"))
    }

    fn apply(&mut self, action: Action) -> Outcome {
        self.at += 1;
        let applied = self.image.apply(LogIndex(self.at), action.into());
        applied.expect("is taken")
    }

    /// Starts a node; its endpoints consist of listener, host and port.
    pub(crate) fn register(&mut self, node: i32, endpoints: &[(&str, &str, u32)]) -> NodeEpoch {
        let register = register(&self.image, node, endpoints);
        epoch_of(self.apply(register))
    }

    /// Starts a node in a rack.
    pub(crate) fn register_in(&mut self, rack: &str, node: i32) {
        let registered = register(&self.image, node, &[("PLAINTEXT", "host", 9092)]);
        let Action::RegisterNode(mut register) = registered else {
            panic!("another command");
        };
        rack.clone_into(&mut register.rack);
        self.apply(Action::RegisterNode(register));
    }

    /// Says which leaderships a node may have.
    pub(crate) fn set_duty(&mut self, node: i32, duty: Duty) {
        let duty = duty.into();
        self.apply(Action::SetDuty(SetDuty { node, duty }));
    }

    /// Changes one partition.
    pub(crate) fn move_partition(&mut self, change: PartitionMove) {
        self.ask(vec![change]);
    }

    /// Gives up what only the log of a fenced node has.
    pub(crate) fn give_up(&mut self, node: i32, epoch: NodeEpoch) {
        let epoch = epoch.0;
        self.apply(Action::GiveUpEpoch(GiveUpEpoch { node, epoch }));
    }

    fn last_epoch(&self, node: i32) -> NodeEpoch {
        self.image.node(NodeId(node)).expect("registered").epoch
    }

    /// Fences a node's epoch.
    pub(crate) fn fence(&mut self, node: i32) {
        let epoch = self.last_epoch(node).0;
        self.apply(Action::FenceEpoch(FenceEpoch { node, epoch }));
    }

    /// Starts a node again with the same endpoints, and closes its former epoch.
    pub(crate) fn restart(&mut self, node: i32) -> NodeEpoch {
        let before = self.image.node(NodeId(node)).expect("registered").clone();
        let endpoints = before.endpoints.iter();
        let endpoints = endpoints.map(|one| (one.listener.as_str(), one.host.as_str(), one.port));
        let epoch = self.register(node, &endpoints.collect::<Vec<_>>());
        self.apply(close(node, before.epoch, epoch));
        epoch
    }

    /// Creates a topic with these replicas of each partition, the first live one of which leads.
    pub(crate) fn create(&mut self, name: &str, partitions: &[&[i32]]) -> TopicId {
        let id = self.add(name, partitions);
        for (index, replicas) in partitions.iter().enumerate() {
            let live = |id: &&i32| {
                self.image
                    .node(NodeId(**id))
                    .is_some_and(NodeImage::is_live)
            };
            if let Some(leader) = replicas.iter().find(live) {
                self.lead(*leader, name, index);
            }
        }
        id
    }

    /// Creates a topic with these replicas of each partition, none of which has a leader.
    pub(crate) fn add(&mut self, name: &str, partitions: &[&[i32]]) -> TopicId {
        self.topics += 1;
        let replicas = |nodes: &&[i32]| Replicas {
            nodes: nodes.to_vec(),
        };
        let create = CreateTopic {
            name: name.to_owned(),
            id: vec![self.topics; 16],
            partitions: partitions.iter().map(replicas).collect(),
            ..CreateTopic::default()
        };
        self.apply(Action::CreateTopic(create));
        self.topic(name).id
    }

    /// Notes that an operator chose the replicas of a topic.
    pub(crate) fn choose(&mut self, name: &str) {
        let topic = self.topic(name);
        let moves = topic.partitions.iter().map(|partition| PartitionMove {
            replicas: Some(Replicas {
                nodes: partition.replicas.iter().map(|id| id.0).collect(),
            }),
            by_operator: true,
            ..PartitionMove::of(partition)
        });
        self.ask(moves.collect());
    }

    /// Asks for moves, each of which is taken.
    pub(crate) fn ask(&mut self, moves: Vec<PartitionMove>) {
        let moved = self.apply(Action::MovePartitions(MovePartitions { moves }));
        let Outcome::Moved(moved) = moved else {
            panic!("another answer");
        };
        assert!(moved.iter().all(Result::is_ok), "{moved:?}");
    }

    /// Opens all partitions that a live node leads: its epoch holds them from then on.
    pub(crate) fn open_led(&mut self, node: i32) {
        let epoch = self.last_epoch(node);
        let image = self.image.clone();
        let led = image.partitions();
        let led = led.filter(|one| one.leader == Some((NodeId(node), epoch)));
        let streams = led.map(|one| StreamEpoch {
            stream: one.stream.0,
            leader_epoch: one.leader_epoch.0,
        });
        self.apply(Action::OpenStreams(OpenStreams {
            node_epoch: epoch.0,
            streams: streams.collect(),
        }));
    }

    /// Lets the leaders hand over all partitions that are to move.
    pub(crate) fn end_moves(&mut self) {
        let image = self.image.clone();
        for (node, epoch) in image.live() {
            let led = image.partitions();
            let led = led.filter(|one| one.leader == Some((node, epoch)) && one.moving.is_some());
            let led: Vec<_> = led.collect();
            let streams = led.iter().map(|one| StreamEpoch {
                stream: one.stream.0,
                leader_epoch: one.leader_epoch.0,
            });
            let open = OpenStreams {
                node_epoch: epoch.0,
                streams: streams.collect(),
            };
            self.apply(Action::OpenStreams(open));
            let handed_over = led.iter().map(|one| HandedOver {
                stream: one.stream.0,
                leader_epoch: one.leader_epoch.0,
                end: 0,
            });
            let uploads = self
                .image
                .node(node)
                .and_then(|node| node.epochs.get(&epoch));
            let number = uploads.map_or(0, |epoch| epoch.last_upload) + 1;
            self.apply(Action::CommitObject(CommitObject {
                node: node.0,
                node_epoch: epoch.0,
                number,
                lowest_in_flight: number,
                handed_over: handed_over.collect(),
                ..CommitObject::default()
            }));
        }
    }

    /// Asks for moves, and lets the leaders carry them out.
    pub(crate) fn carry_out(&mut self, moves: Vec<PartitionMove>) {
        self.ask(moves);
        self.end_moves();
    }

    /// Deletes a topic.
    pub(crate) fn delete(&mut self, name: &str) {
        let delete = delete(&self.image, name);
        self.apply(delete);
    }

    /// Gives a partition without a leader, or whose leader's epoch is closed, to a node's last epoch.
    pub(crate) fn lead(&mut self, node: i32, topic: &str, index: usize) {
        let to = self.last_epoch(node);
        let assign = assign(&self.image, to, topic, Some(index));
        let Outcome::Assigned(assigned) = self.apply(assign) else {
            panic!("another answer");
        };
        assigned[0].as_ref().expect("is given");
    }
}
