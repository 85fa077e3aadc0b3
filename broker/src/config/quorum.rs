//! The roles of a process, and the controllers of its cluster, by the rules of Kafka's `KafkaConfig`.

use std::collections::BTreeSet;

use highwater_types::NodeId;

use super::listeners::{Advertised, Listener, address};

/// The roles of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles {
    /// It serves clients.
    pub broker: bool,
    /// It holds the metadata, and may decide changes to it.
    pub controller: bool,
}

/// An address of `controller.quorum.voters`, or of `controller.quorum.bootstrap.servers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// The node, if it is known.
    pub node: Option<NodeId>,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The part of a configuration that says how the nodes of a cluster reach each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quorum {
    /// The roles of this process.
    pub roles: Roles,
    /// The names of the listeners that serve other nodes' calls to a controller.
    pub listeners: Vec<String>,
    /// The addresses at which other nodes reach this controller; none without that role.
    pub advertised: Vec<Advertised>,
    /// The controllers; none if this process is the only one, and no other node has to reach it.
    pub controllers: Vec<Controller>,
}

/// The settings as they are given.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given<'a> {
    pub(super) node: NodeId,
    pub(super) roles: &'a str,
    pub(super) listener_names: &'a str,
    pub(super) voters: &'a str,
    pub(super) bootstrap: &'a str,
    pub(super) inter_broker: Option<&'a str>,
    pub(super) inter_broker_protocol: Option<&'a str>,
}

const NAMES: &str = "controller.listener.names";
const VOTERS: &str = "controller.quorum.voters";
const BOOTSTRAP: &str = "controller.quorum.bootstrap.servers";
const INTER_BROKER: &str = "inter.broker.listener.name";
const INTER_BROKER_PROTOCOL: &str = "security.inter.broker.protocol";

/// The numbers of voters that a quorum may have.
const VOTERS_COUNTS: [usize; 3] = [1, 3, 5];

/// The elements of a list, without the spaces around them.
fn list(text: &str) -> impl Iterator<Item = &str> {
    let elements = text.split(',').map(str::trim);
    elements.filter(|element| !element.is_empty())
}

/// The names of the controller listeners, which Kafka compares without regard to case.
pub(super) fn listener_names(text: &str) -> Vec<String> {
    list(text).map(str::to_ascii_uppercase).collect()
}

/// Resolves the settings; `listeners` are all listeners of the process.
///
/// # Errors
/// All violations.
pub(super) fn resolve(given: Given<'_>, listeners: &[Listener]) -> Result<Quorum, Vec<String>> {
    let mut errors = Vec::new();
    let has_role = |role| list(given.roles).any(|given| given == role);
    let quorum = Quorum {
        roles: Roles {
            broker: has_role("broker"),
            controller: has_role("controller"),
        },
        listeners: listener_names(given.listener_names),
        advertised: Vec::new(),
        controllers: controllers(given, &mut errors),
    };
    quorum.check_listeners(listeners, &mut errors);
    quorum.check_controllers(given.node, &mut errors);
    quorum.check_inter_broker(given, listeners, &mut errors);
    match errors.is_empty() {
        true => Ok(quorum),
        false => Err(errors),
    }
}

/// The controllers: the voters, or else the addresses to begin with, as in Kafka.
fn controllers(given: Given<'_>, errors: &mut Vec<String>) -> Vec<Controller> {
    let (setting, text) = match list(given.voters).next() {
        Some(_) => (VOTERS, given.voters),
        None => (BOOTSTRAP, given.bootstrap),
    };
    let mut found: Vec<Controller> = Vec::new();
    for text in list(text) {
        let read = match setting {
            VOTERS => voter(text),
            _ => bootstrap(text),
        };
        match read {
            Ok(controller) => {
                let is_same =
                    |other: &Controller| controller.node.is_some() && other.node == controller.node;
                if let Some(node) = controller.node
                    && found.iter().any(is_same)
                {
                    errors.push(format!("{setting}: node {node} is named twice"));
                }
                found.push(controller);
            }
            Err(why) => errors.push(format!("{setting}: {why}")),
        }
    }
    let count = list(text).count();
    if setting == VOTERS && !VOTERS_COUNTS.contains(&count) {
        errors.push(format!(
            "{setting}: it names {count} voters, and a quorum has 1, 3 or 5: an even number survives no more failures \
             than one voter fewer, and each voter makes a change slower"
        ));
    }
    found
}

fn voter(text: &str) -> Result<Controller, String> {
    let wrong = || format!("{text} is not of the form id@host:port");
    let (node, rest) = text.split_once('@').ok_or_else(wrong)?;
    let node: i32 = node.parse().map_err(|_cause| wrong())?;
    if node < 0 {
        return Err(wrong());
    }
    let controller = bootstrap(rest).map_err(|why| format!("{text}: {why}"))?;
    Ok(Controller {
        node: Some(NodeId(node)),
        ..controller
    })
}

fn bootstrap(text: &str) -> Result<Controller, String> {
    let (host, port) = address(text).map_err(|why| format!("{text}: {why}"))?;
    match host.as_str() {
        "" | "0.0.0.0" | "::" => Err(format!("{text} is no address that other nodes can reach")),
        _ => Ok(Controller {
            node: None,
            host,
            port,
        }),
    }
}

impl Quorum {
    /// The voters that form the quorum with a controller; none if it is configured with addresses alone, and joins a
    /// quorum.
    #[must_use]
    pub fn voters(&self, own: NodeId) -> BTreeSet<NodeId> {
        match self.controllers.is_empty() {
            true => [own].into(),
            false => self
                .controllers
                .iter()
                .filter_map(|voter| voter.node)
                .collect(),
        }
    }

    /// Whether this process alone decides changes to the metadata, for as long as it runs: no other one can be added.
    #[must_use]
    pub(crate) fn is_sole_voter(&self) -> bool {
        self.roles.controller && self.listeners.is_empty()
    }

    /// Whether a listener of this name serves calls to a controller.
    #[must_use]
    pub fn is_listener(&self, name: &str) -> bool {
        self.listeners.iter().any(|listener| listener == name)
    }

    fn check_listeners(&self, listeners: &[Listener], errors: &mut Vec<String>) {
        let Roles { broker, controller } = self.roles;
        let has = |name: &str| listeners.iter().any(|listener| listener.name == name);
        for name in &self.listeners {
            match (controller, has(name)) {
                (true, false) => errors.push(format!(
                    "{NAMES}: there is no listener {name} in listeners, which the role controller needs"
                )),
                (false, true) => errors.push(format!(
                    "{NAMES}: {name} is in listeners, and a process without the role controller serves no calls to a \
                     controller: remove it from listeners"
                )),
                _ => {}
            }
        }
        let is_for_clients = |listener: &&Listener| !self.is_listener(&listener.name);
        match listeners.iter().find(is_for_clients) {
            None if broker => errors.push(format!(
                "listeners: every listener is in {NAMES}, and the role broker needs one for clients"
            )),
            Some(other) if !broker => errors.push(format!(
                "listeners: {} is not in {NAMES}, and a process without the role broker serves no clients",
                other.name
            )),
            _ => {}
        }
    }

    fn check_controllers(&self, node: NodeId, errors: &mut Vec<String>) {
        let Roles { broker, controller } = self.roles;
        let is_alone =
            broker && controller && self.listeners.is_empty() && self.controllers.is_empty();
        if is_alone {
            return;
        }
        if self.listeners.is_empty() {
            errors.push(format!(
                "{NAMES}: the name of the controllers' listener is needed"
            ));
        }
        if self.controllers.is_empty() {
            errors.push(format!(
                "{VOTERS} or {BOOTSTRAP}: the address of the controller is needed"
            ));
        }
        let voters = self.controllers.iter().filter_map(|voter| voter.node);
        let voters: Vec<NodeId> = voters.collect();
        match (controller, voters.contains(&node)) {
            (true, false) if !voters.is_empty() => errors.push(format!(
                "{VOTERS}: node.id={node} has the role controller and is not among them"
            )),
            (false, true) => errors.push(format!(
                "{VOTERS}: node.id={node} is among them and does not have the role controller"
            )),
            _ => {}
        }
    }

    fn check_inter_broker(
        &self,
        given: Given<'_>,
        listeners: &[Listener],
        errors: &mut Vec<String>,
    ) {
        match given.inter_broker_protocol.map(|text| text.trim().to_ascii_uppercase()) {
            None => {}
            Some(protocol) if protocol == "PLAINTEXT" => {}
            // as in Kafka, the protocol is the name of the listener
            Some(protocol) if protocol == "SSL" => {
                let has = listeners.iter().any(|listener| listener.name == protocol);
                if self.roles.broker && !has {
                    errors.push(format!("{INTER_BROKER_PROTOCOL}: there is no listener {protocol}"));
                }
            }
            Some(protocol) => errors.push(format!(
                "{INTER_BROKER_PROTOCOL}: Highwater does not have {protocol} yet: use PLAINTEXT or SSL"
            )),
        }
        let Some(name) = given.inter_broker else {
            return;
        };
        if given.inter_broker_protocol.is_some() {
            errors.push(format!(
                "{INTER_BROKER}: only one of {INTER_BROKER} and {INTER_BROKER_PROTOCOL} may be set"
            ));
        }
        let name = name.trim().to_ascii_uppercase();
        let has = listeners.iter().any(|listener| listener.name == name);
        match (self.is_listener(&name), has) {
            (true, _) => errors.push(format!("{INTER_BROKER}: {name} is in {NAMES}")),
            (false, false) if self.roles.broker => {
                errors.push(format!("{INTER_BROKER}: there is no listener {name}"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Protocol;

    const BOTH: &str = "broker,controller";

    fn listeners(names: &[&str]) -> Vec<Listener> {
        let names = names.iter();
        let listener = |name: &&str| Listener {
            name: (*name).to_owned(),
            host: "localhost".to_owned(),
            port: 9092,
            protocol: Protocol::Plaintext,
        };
        names.map(listener).collect()
    }

    fn given(roles: &'static str) -> Given<'static> {
        Given {
            node: NodeId(1),
            roles,
            ..Given::default()
        }
    }

    fn refusals(given: Given<'_>, names: &[&str]) -> Vec<String> {
        resolve(given, &listeners(names)).err().unwrap_or_default()
    }

    #[test]
    fn a_process_with_both_roles_needs_nothing_else() {
        let alone = resolve(given(BOTH), &listeners(&["PLAINTEXT"])).expect("is sound");
        assert!(alone.roles.broker && alone.roles.controller);
        assert!(alone.listeners.is_empty() && alone.controllers.is_empty());
        assert!(alone.is_sole_voter() && alone.voters(NodeId(1)) == [NodeId(1)].into());
    }

    // config/server.properties of Kafka 4.x, and its broker.properties and controller.properties.
    #[test]
    fn the_properties_that_kafka_comes_with_are_sound() {
        let combined = Given {
            listener_names: "CONTROLLER",
            bootstrap: "localhost:9093",
            inter_broker: Some("PLAINTEXT"),
            ..given(BOTH)
        };
        let quorum = resolve(combined, &listeners(&["PLAINTEXT", "CONTROLLER"]));
        let quorum = quorum.expect("is sound");
        let controller = Controller {
            node: None,
            host: "localhost".to_owned(),
            port: 9093,
        };
        assert_eq!(quorum.controllers, [controller]);
        assert!(quorum.is_listener("CONTROLLER") && !quorum.is_listener("PLAINTEXT"));
        let broker = Given {
            node: NodeId(2),
            roles: "broker",
            ..combined
        };
        resolve(broker, &listeners(&["PLAINTEXT"])).expect("is sound");
        let controller = Given {
            roles: "controller",
            inter_broker: None,
            voters: "1@localhost:9093",
            ..combined
        };
        let quorum = resolve(controller, &listeners(&["CONTROLLER"])).expect("is sound");
        assert_eq!(
            quorum.controllers[0].node,
            Some(NodeId(1)),
            "voters come first"
        );
    }

    #[test]
    fn voters_are_read_and_what_is_wrong_with_them_is_said() {
        let with = |voters| Given {
            voters,
            listener_names: "CONTROLLER",
            ..given(BOTH)
        };
        for (voters, why) in [
            ("1", "1 is not of the form id@host:port"),
            ("x@a:1", "x@a:1 is not of the form id@host:port"),
            ("-1@a:1", "-1@a:1 is not of the form id@host:port"),
            ("1@a", "1@a: a: not of the form host:port"),
            ("1@a:x", "1@a:x: a:x: the port is from 0 to 65535"),
            (
                "1@0.0.0.0:1",
                "1@0.0.0.0:1: 0.0.0.0:1 is no address that other nodes can reach",
            ),
        ] {
            let told = refusals(with(voters), &["PLAINTEXT", "CONTROLLER"]);
            assert_eq!(told[0], format!("{VOTERS}: {why}"));
        }
        let told = refusals(with("1@a:1, 1@b:1"), &["PLAINTEXT", "CONTROLLER"]).join("\n");
        let both = told.contains("node 1 is named twice") && told.contains("it names 2 voters");
        assert!(both, "{told}");
    }

    #[test]
    fn a_quorum_has_one_three_or_five_voters() {
        let voters = ["1@a:1", "2@b:1", "3@c:1", "4@d:1", "5@e:1", "6@f:1"];
        for count in 1..=voters.len() {
            let named = voters[..count].join(",");
            let both = Given {
                voters: &named,
                listener_names: "CONTROLLER",
                ..given(BOTH)
            };
            match (
                count,
                resolve(both, &listeners(&["PLAINTEXT", "CONTROLLER"])),
            ) {
                (1 | 3 | 5, resolved) => {
                    let own = resolved.expect("is sound").voters(NodeId(1));
                    assert_eq!(own.len(), count);
                }
                (_, resolved) => {
                    let told = resolved.expect_err("is refused").join("\n");
                    let why = format!("it names {count} voters, and a quorum has 1, 3 or 5");
                    assert!(told.contains(&why), "{told}");
                }
            }
        }
        // a node may know the addresses alone, of any number of controllers
        let node = |roles| Given {
            bootstrap: "a:1,b:1",
            listener_names: "CONTROLLER",
            ..given(roles)
        };
        resolve(node("broker"), &listeners(&["PLAINTEXT"])).expect("is sound");
        let joins = resolve(node(BOTH), &listeners(&["PLAINTEXT", "CONTROLLER"]));
        let joins = joins.expect("is sound");
        assert!(joins.voters(NodeId(1)).is_empty(), "it joins a quorum");
        assert!(!joins.is_sole_voter());
    }

    /// The refusal of each combination names what is missing.
    fn assert_refused(cases: &[(Given<'_>, &[&str], &str)]) {
        for (given, names, why) in cases {
            let told = refusals(*given, names).join("\n");
            assert!(told.contains(why), "{why}: {told}");
        }
    }

    #[test]
    fn what_a_process_with_one_role_lacks_is_named() {
        let broker = given("broker");
        let controller = Given {
            listener_names: "C",
            ..given("controller")
        };
        let names = |listener_names| Given {
            listener_names,
            ..broker
        };
        let voters = |voters, given| Given { voters, ..given };
        let bootstrap = Given {
            bootstrap: "a:1",
            ..controller
        };
        assert_refused(&[
            (
                broker,
                &["PLAINTEXT"],
                "the name of the controllers' listener is needed",
            ),
            (
                broker,
                &["PLAINTEXT"],
                "the address of the controller is needed",
            ),
            (
                names("PLAINTEXT"),
                &["PLAINTEXT"],
                "PLAINTEXT is in listeners, and a process without the role controller",
            ),
            (
                voters("1@a:1", names("C")),
                &["PLAINTEXT"],
                "node.id=1 is among them and does not have the role controller",
            ),
            (
                voters("2@a:1", controller),
                &["C"],
                "node.id=1 has the role controller and is not among them",
            ),
            (
                bootstrap,
                &["C", "PLAINTEXT"],
                "PLAINTEXT is not in controller.listener.names",
            ),
        ]);
    }

    #[test]
    fn what_a_process_with_both_roles_lacks_is_named() {
        let both = given(BOTH);
        let names = |listener_names| Given {
            bootstrap: "a:1",
            listener_names,
            ..both
        };
        let unknown = Given {
            inter_broker: Some("X"),
            ..both
        };
        let tls = Given {
            inter_broker_protocol: Some("SSL"),
            ..both
        };
        let sasl = Given {
            inter_broker_protocol: Some("SASL_SSL"),
            ..both
        };
        assert_refused(&[
            (
                names("C"),
                &["PLAINTEXT"],
                "there is no listener C in listeners",
            ),
            (names("c"), &["C"], "the role broker needs one for clients"),
            (
                names(""),
                &["PLAINTEXT"],
                "the name of the controllers' listener is needed",
            ),
            (
                unknown,
                &["PLAINTEXT"],
                "inter.broker.listener.name: there is no listener X",
            ),
            (tls, &["PLAINTEXT"], "there is no listener SSL"),
            (sasl, &["PLAINTEXT"], "Highwater does not have SASL_SSL yet"),
        ]);
    }
}
