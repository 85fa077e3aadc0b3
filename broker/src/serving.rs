//! The connections of clients, within the limits that the configuration and the machine set.

use std::sync::Arc;

use highwater_io::net::Network;
use highwater_runtime::{TaskKind, Tasks};
use highwater_types::limits::ADMIN_CONNECTIONS_MAX;

use crate::addresses::Listening;
use crate::api;
use crate::broker::Broker;
use crate::dispatch::Dispatch;
use crate::net::{self, Connections, Limits, Patience};

/// Serves the clients of a broker on its listeners, until the tasks are stopped.
pub(crate) fn serve(
    broker: &Arc<Broker>,
    network: &dyn Network,
    acceptors: Vec<Listening>,
    tasks: &Tasks,
) -> Arc<Connections> {
    let config = &broker.config;
    let count = |name: &str| usize::try_from(config.int(name)).unwrap_or(0);
    let idle_ms = config.long("connections.max.idle.ms");
    let machine_max = network.connections_max();
    let machine_max = machine_max.saturating_sub(ADMIN_CONNECTIONS_MAX).max(1);
    let limits = Limits {
        frames: config.frames(),
        patience: match idle_ms {
            0.. => Patience::Idle(config.millis("connections.max.idle.ms")),
            _ => Patience::Endless,
        },
        connections_max: count("max.connections").min(machine_max),
        connections_per_ip_max: count("max.connections.per.ip"),
        read_buffers_bytes: usize::try_from(config.memory.read_buffers).unwrap_or(usize::MAX),
        connections_per_ip: config.connections_per_ip.clone(),
    };
    let connections = Connections::new(limits, broker.budgets.clone(), api::class_of);
    let service = Arc::new(Dispatch::new(Arc::clone(broker)));
    for listening in acceptors {
        let (connections, service) = (Arc::clone(&connections), Arc::clone(&service));
        let serving = net::serve(
            listening,
            connections,
            service,
            (tasks.clone(), TaskKind::Connection),
        );
        tasks.spawn(TaskKind::Listener, serving);
    }
    connections
}
