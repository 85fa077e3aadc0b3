//! Calls between nodes and the voters of the metadata's quorum, over the network.
//!
//! A call is a request with an API key of our own, on listeners that `controller.listener.names` names and nowhere
//! else. It uses the frames and headers of Kafka's protocol, so that limits and memory are the same as for clients.
//! What it carries is opaque here: `kraft-meta` encodes it.

mod calls;
mod listener;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use highwater_io::net::Network;
use highwater_kraft_meta::{Calls, MESSAGE_BYTES_MAX, Transport, Voter};
use highwater_runtime::{Control, TaskKind, Tasks};
use highwater_tls::{Context, TlsNetwork};
use highwater_types::NodeId;
use tokio::sync::watch;

use self::calls::NetworkCalls;
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
        let calls = NetworkCalls::new(network, config.node_id, addresses.collect());
        Self {
            calls: Arc::new(calls),
            control: control.clone(),
            voter: watch::Sender::new(None),
        }
    }

    /// The controllers.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.calls.nodes()
    }

    /// Serves the controller listeners. Calls are answered once the voter opens.
    pub(crate) fn listen(&self, acceptors: Vec<Listening>, tasks: &Tasks) {
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
        let service = Arc::new(ControllerListener::new(self.voter.subscribe()));
        let tasks = tasks.on_control();
        for listening in acceptors {
            let (connections, service) = (Arc::clone(&connections), Arc::clone(&service));
            let serving = net::serve(listening, connections, service, tasks.clone());
            tasks.spawn(TaskKind::Listener, serving);
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
}
