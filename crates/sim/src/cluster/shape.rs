//! Which nodes a cluster has, and what each of them does.

use highwater_runtime::SeededRng;
use highwater_types::NodeId;

use crate::host::{Host, name};
use crate::options::PORT;
use crate::workload::Controller;

/// The number of brokers; their ids begin at 1.
const BROKERS: i32 = 3;
/// The id of the first controller that is no broker.
const CONTROLLERS_FROM: i32 = 100;
/// The port of the controllers' listener.
const CONTROLLER_PORT: u16 = PORT + 1;

/// The nodes of a cluster, by role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) brokers: Vec<NodeId>,
    /// The voters. They may be the brokers themselves.
    pub(super) controllers: Vec<NodeId>,
}

impl Shape {
    /// One controller, three, or brokers that are the controllers too.
    pub(super) fn draw(rng: &SeededRng) -> Self {
        let ids = |from, count| (from..from + count).map(NodeId).collect();
        let brokers = ids(1, BROKERS);
        let controllers = match rng.below(4) {
            0 | 1 => ids(CONTROLLERS_FROM, 1),
            2 => ids(CONTROLLERS_FROM, 3),
            _ => ids(1, BROKERS),
        };
        Self {
            brokers,
            controllers,
        }
    }

    /// All nodes, each of them once.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        let others = self.controllers.iter().filter(|id| !self.is_broker(**id));
        self.brokers.iter().chain(others).copied().collect()
    }

    pub(super) fn is_broker(&self, id: NodeId) -> bool {
        self.brokers.contains(&id)
    }

    fn is_controller(&self, id: NodeId) -> bool {
        self.controllers.contains(&id)
    }

    /// Whether the brokers are the controllers.
    pub(super) fn is_combined(&self) -> bool {
        self.brokers == self.controllers
    }

    /// The controllers, as an operator adds them to the voters; none if the only one of them stays one.
    pub(super) fn quorum(&self) -> Vec<Controller> {
        let controller = |id: &NodeId| Controller {
            id: *id,
            name: name(*id),
            port: CONTROLLER_PORT,
        };
        let several = self
            .controllers
            .iter()
            .filter(|_| self.controllers.len() > 1);
        several.map(controller).collect()
    }

    /// Gives a node its roles.
    pub(super) fn configure(&self, host: &mut Host, id: NodeId) {
        let voters = self.controllers.iter();
        let voters = voters.map(|id| format!("{id}@{}:{CONTROLLER_PORT}", name(*id)));
        let voters: Vec<String> = voters.collect();
        host.set(&[
            ("controller.quorum.voters", voters.join(",")),
            ("controller.listener.names", "CONTROLLER".to_owned()),
        ]);
        let of_controller = format!("CONTROLLER://{}:{CONTROLLER_PORT}", name(id));
        let (roles, listeners) = match (self.is_broker(id), self.is_controller(id)) {
            (true, true) => {
                let of_broker = format!("PLAINTEXT://0.0.0.0:{PORT}");
                ("broker,controller", format!("{of_broker},{of_controller}"))
            }
            (true, false) => ("broker", format!("PLAINTEXT://0.0.0.0:{PORT}")),
            (false, _) => {
                host.unset("advertised.listeners");
                ("controller", of_controller)
            }
        };
        host.set(&[
            ("process.roles", roles.to_owned()),
            ("listeners", listeners),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_few_seeds_have_every_shape() {
        let drawn = (0..20).map(|seed| {
            let shape = Shape::draw(&SeededRng::from_seed(seed));
            (shape.controllers.len(), shape.nodes().len())
        });
        let all: BTreeSet<_> = drawn.collect();
        assert_eq!(all, [(1, 4), (3, 6), (3, 3)].into());
    }
}
