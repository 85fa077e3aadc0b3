//! Calls between nodes and the voters of the metadata's quorum, over the network.
//!
//! A call is a request with an API key of our own, on listeners that `controller.listener.names` names and nowhere
//! else. It uses the frames and headers of Kafka's protocol, so that limits and memory are the same as for clients.
//! What it carries is opaque here: `kraft-meta` encodes it.

mod calls;
mod clients;
mod listener;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use highwater_io::net::Network;
use highwater_kraft_meta::{Calls, Endpoint, MESSAGE_BYTES_MAX, MetadataStore, Transport, Voter};
use highwater_runtime::{Control, TaskKind, Tasks, WallClock};
use highwater_tls::{Context, TlsNetwork};
use highwater_types::NodeId;
use tokio::sync::watch;

use self::calls::NetworkCalls;
use self::clients::Clients;
use self::listener::ControllerListener;
use crate::addresses::Listening;
use crate::config::Config;
use crate::machine::Machine;
use crate::memory::RequestBudgets;
use crate::net::{self, Connections, FrameLimits, Limits, Patience};

/// The API key of a call. It is far from Kafka's.
const CALL: i16 = 0x4857;
/// The version of the call, which is version 1 of Kafka's request header and the opaque rest.
const CALL_VERSION: i16 = 0;
/// The answer is this byte and the opaque answer of the voter.
const ANSWERED: u8 = 0;
/// The answer is this byte and a text: the voter failed, and may have carried out the call.
const FAILED: u8 = 1;
/// The answer is this byte and a text: the call was certainly not carried out, and another attempt may succeed.
const NOT_CALLED: u8 = 2;
/// The bytes of a frame beside the message.
const HEAD_BYTES: usize = 256;
/// The largest frame, request or answer.
const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX + HEAD_BYTES;
/// The most connections of a controller's listeners: a few for each node.
const CONNECTIONS_MAX: usize = 4096;
/// The most connections from one address: of all nodes of one machine, each with a few. One machine alone cannot take
/// all connections from the others.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 256;
/// How long a connection may take for its first call. A node connects only when it has a call to send.
const FIRST_CALL: Duration = Duration::from_secs(5);
/// How long a connection may take for a further call, from the last answer on. A node drops a connection earlier, after
/// [`KEPT`], so that no call is sent while the connection closes.
const NEXT_CALL: Duration = Duration::from_secs(60);
/// How long a connection to a voter is kept while nothing uses it.
const KEPT: Duration = Duration::from_secs(30);
/// The bytes of read buffers that are kept for the next connections that read.
const READ_BUFFERS_BYTES: usize = 1 << 20;

/// The transport of a voter: it calls others by the network, and is called by the controller listeners. All of it works
/// on the runtime of the control work: a connection that a busy runtime has opened, for instance to propose a change,
/// would delay the heartbeat that is sent on it next.
#[derive(Debug)]
pub(crate) struct NetworkTransport {
    calls: Arc<NetworkCalls>,
    control: Control,
    voter: watch::Sender<Option<Voter>>,
    /// The metadata of this process, once it is open.
    metadata: watch::Sender<Option<Weak<dyn MetadataStore>>>,
    clock: WallClock,
    /// The names of the controllers' listeners.
    listeners: Vec<String>,
    /// The ports of its own listeners.
    ports: OnceLock<BTreeMap<String, u16>>,
}

impl NetworkTransport {
    /// The transport of a node to the controllers that it is configured with, over TLS if there is a context for it.
    pub(crate) fn new(
        config: &Config,
        machine: &Machine,
        control: &Control,
        tls: Option<Arc<Context>>,
    ) -> Self {
        let controllers = config.quorum.controllers.iter();
        // a controller whose id is not configured gets a number that no node has
        let addresses = (1..).zip(controllers).map(|(number, controller)| {
            let node = controller.node.unwrap_or(NodeId(-number));
            (node, (controller.host.clone(), controller.port))
        });
        let inner = Arc::clone(&machine.network);
        let network: Arc<dyn Network> = match tls {
            Some(context) => Arc::new(TlsNetwork { inner, context }),
            None => inner,
        };
        let (own, listeners) = (config.node_id, config.quorum.listeners.clone());
        let calls = NetworkCalls::new(network, (own, listeners), addresses.collect());
        Self {
            calls: Arc::new(calls),
            control: control.clone(),
            voter: watch::Sender::new(None),
            metadata: watch::Sender::new(None),
            clock: machine.clock.clone(),
            listeners: config.quorum.listeners.clone(),
            ports: OnceLock::new(),
        }
    }

    /// The controllers.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.calls.nodes()
    }

    /// Describes the quorum to clients of the controller listeners by this metadata from now on.
    pub(crate) fn describe_by(&self, metadata: &Arc<dyn MetadataStore>) {
        self.metadata.send_replace(Some(Arc::downgrade(metadata)));
    }

    /// The controllers that are configured by their address alone.
    pub(crate) fn bootstrap(&self) -> Vec<NodeId> {
        let nodes = self.nodes().into_iter();
        nodes.filter(|node| node.0 < 0).collect()
    }

    /// The configured addresses of controllers, and those at which others reach this one.
    pub(crate) fn endpoints(&self, config: &Config) -> BTreeMap<NodeId, Vec<Endpoint>> {
        let quorum = &config.quorum;
        let listener = quorum.listeners.first().cloned().unwrap_or_default();
        let configured = quorum.controllers.iter().filter_map(|known| {
            let endpoint = Endpoint {
                listener: listener.clone(),
                host: known.host.clone(),
                port: known.port.into(),
            };
            Some((known.node?, vec![endpoint]))
        });
        let mut endpoints: BTreeMap<_, _> = configured.collect();
        let own = quorum.advertised.iter().map(|told| {
            let bound = self.ports.get().and_then(|ports| ports.get(&told.name));
            let port = if told.port == 0 { bound } else { None };
            Endpoint {
                listener: told.name.clone(),
                host: told.host.clone(),
                port: port.copied().unwrap_or(told.port).into(),
            }
        });
        let own: Vec<Endpoint> = own.collect();
        if !own.is_empty() {
            endpoints.insert(config.node_id, own);
        }
        endpoints
    }

    /// Serves the controller listeners. Calls are answered once the voter opens.
    pub(crate) fn listen(&self, acceptors: Vec<Listening>, tasks: &Tasks) {
        let ports = acceptors.iter().filter_map(|listening| {
            let address = listening.acceptor.local_addr().ok()?;
            Some((listening.name.to_string(), address.port()))
        });
        self.ports.get_or_init(|| ports.collect());
        let limits = Limits {
            frames: FrameLimits {
                held: FRAME_BYTES_MAX,
                read: FRAME_BYTES_MAX,
            },
            patience: Patience::Request {
                first: FIRST_CALL,
                next: NEXT_CALL,
            },
            connections_max: CONNECTIONS_MAX,
            connections_per_ip_max: CONNECTIONS_PER_ADDRESS_MAX,
            read_buffers_bytes: READ_BUFFERS_BYTES,
            connections_per_ip: BTreeMap::new(),
        };
        let budgets = RequestBudgets::of_controller(FRAME_BYTES_MAX);
        let connections = Connections::new(limits, budgets, ControllerListener::class_of);
        let service = Arc::new(ControllerListener::new(
            self.voter.subscribe(),
            Clients {
                metadata: self.metadata.subscribe(),
                clock: self.clock.clone(),
                listeners: self.listeners.clone(),
            },
        ));
        let tasks = tasks.on_control();
        for listening in acceptors {
            let (connections, service) = (Arc::clone(&connections), Arc::clone(&service));
            let on = (tasks.clone(), TaskKind::NodeConnection);
            let serving = net::serve(listening, connections, service, on);
            tasks.spawn(TaskKind::NodeListener, serving);
        }
    }
}

impl Transport for NetworkTransport {
    fn serve(&self, voter: Voter) {
        self.voter.send_replace(Some(voter));
    }
}

#[async_trait]
impl Calls for NetworkTransport {
    async fn call(&self, to: NodeId, request: Bytes, within: Duration) -> io::Result<Bytes> {
        let calls = Arc::clone(&self.calls);
        let call = async move { calls.call(to, request, within).await };
        self.control.run(call.boxed()).await?
    }

    fn learn(&self, addresses: &BTreeMap<NodeId, Vec<Endpoint>>) {
        self.calls.learn(addresses);
    }
}
