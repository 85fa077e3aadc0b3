//! The process, its listeners and its connections.

use super::{Key, Kind, int, key, long, unset};

/// Kafka's replica selectors.
const REPLICA_SELECTORS: &[&str] = &[
    "org.apache.kafka.common.replica.LeaderSelector",
    "org.apache.kafka.common.replica.RackAwareReplicaSelector",
];

/// By name.
pub(super) static KEYS: &[Key] = &[
    unset(
        "advertised.listeners",
        Kind::List,
        "The addresses that clients use to connect. If unset, the value of listeners is used, with the machine's name \
         where a listener has no host.",
    ),
    key(
        "auto.leader.rebalance.enable",
        "true",
        Kind::Bool,
        "Whether the active controller moves leaderships, so that every broker leads its share, and whether a broker tells \
         its load for that. All nodes need the same value.",
    ),
    key(
        "broker.heartbeat.interval.ms",
        "500",
        int(1),
        "How often a broker tells the active controller that it lives; at most a third of broker.session.timeout.ms.",
    ),
    unset(
        "broker.rack",
        Kind::Text,
        "The rack of this broker, such as its availability zone.",
    ),
    key(
        "broker.session.timeout.ms",
        "3000",
        int(100),
        "How long a broker counts as alive after its last heartbeat. Then it is fenced, and other brokers take its \
         partitions over. A broker that was paused for longer starts again by itself. All nodes of a cluster need the same \
         value.",
    ),
    key(
        "config.providers",
        "",
        Kind::SomeOf(&["env"]),
        "With env, ${env:NAME} in a value of the file stands for the environment variable NAME.",
    ),
    unset(
        "config.providers.env.class",
        Kind::OneOf(&["org.apache.kafka.common.config.provider.EnvVarConfigProvider"]),
        "The class of the provider env, which Kafka needs.",
    ),
    key(
        "connections.max.idle.ms",
        "600000",
        long(-1),
        "The idle time after which a connection is closed; -1 means never.",
    ),
    key(
        "controller.listener.names",
        "",
        Kind::List,
        "The names of the listeners that serve other nodes' calls to a controller. A process that is broker and \
         controller alone needs none.",
    ),
    key(
        "controller.quorum.bootstrap.servers",
        "",
        Kind::List,
        "Addresses of controllers, host:port, for nodes that are not given controller.quorum.voters; a node asks them for \
         the others. A controller starts without a vote, unless the only address is its own.",
    ),
    key(
        "controller.quorum.voters",
        "",
        Kind::List,
        "The controllers that form the cluster, id@host:port: one, three or five, the same on every node. Once it is formed, \
         its metadata says which there are.",
    ),
    key(
        "fetch.max.bytes",
        "57671680",
        int(1024),
        "The maximum bytes of records in a response to a fetch request.",
    ),
    unset(
        "inter.broker.listener.name",
        Kind::Text,
        "The name of the listener for calls between brokers.",
    ),
    key(
        "leader.imbalance.check.interval.seconds",
        "5",
        int(1),
        "How often the active controller looks whether every broker leads its share, and how often a broker tells its load. \
         All nodes need the same value.",
    ),
    key(
        "leader.imbalance.per.broker.percentage",
        "10",
        int(0),
        "By how much a broker may lead more than its share before leaderships are moved, in percent.",
    ),
    key(
        "listener.security.protocol.map",
        "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        Kind::List,
        "The security protocol of each listener: NAME:PROTOCOL, separated by commas. PLAINTEXT and SSL \
         are supported.",
    ),
    key(
        "listeners",
        "PLAINTEXT://127.0.0.1:9092",
        Kind::List,
        "The addresses to listen on: NAME://host:port, separated by commas.",
    ),
    key(
        "max.connections",
        "2147483647",
        int(0),
        "The maximum number of connections.",
    ),
    key(
        "max.connections.per.ip",
        "2147483647",
        int(0),
        "The maximum number of connections from one IP address.",
    ),
    key(
        "max.connections.per.ip.overrides",
        "",
        Kind::List,
        "Limits for single IP addresses that override max.connections.per.ip: address:count, separated by commas.",
    ),
    key(
        "max.incremental.fetch.session.cache.slots",
        "1000",
        int(0),
        "The maximum number of incremental fetch sessions.",
    ),
    key(
        "node.id",
        "1",
        int(0),
        "The id of this node in the cluster.",
    ),
    key(
        "process.roles",
        "broker,controller",
        Kind::SomeOf(&["broker", "controller"]),
        "The roles of this process: broker, controller, or both.",
    ),
    unset(
        "replica.selector.class",
        Kind::OneOf(REPLICA_SELECTORS),
        "org.apache.kafka.common.replica.RackAwareReplicaSelector sends consumers that are far behind to a replica in their \
         rack (client.rack), which reads the object store in place of the leader. Unset, the leader serves them.",
    ),
    key(
        "security.inter.broker.protocol",
        "PLAINTEXT",
        Kind::Text,
        "The security protocol between brokers: PLAINTEXT or SSL. It names the listener for calls between brokers, of which \
         there are none.",
    ),
    key(
        "socket.request.max.bytes",
        "104857600",
        Kind::Int {
            min: 1024,
            max: 268_435_456,
        },
        "The maximum bytes of a request. highwater.memory.limit may allow less.",
    ),
];
