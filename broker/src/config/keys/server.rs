//! The process, its listeners and its connections.

use super::{Key, Kind, int, key, long, unset};

/// By name.
pub(super) static KEYS: &[Key] = &[
    unset(
        "advertised.listeners",
        Kind::List,
        "Addresses that clients are told to connect to; those of listeners when unset, with the machine's name for no host.",
    ),
    key(
        "connections.max.idle.ms",
        "600000",
        long(-1),
        "A connection without a request for this long is closed; -1 never.",
    ),
    key(
        "fetch.max.bytes",
        "57671680",
        int(1024),
        "The most record bytes one fetch answer holds.",
    ),
    key(
        "listener.security.protocol.map",
        "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        Kind::List,
        "The security protocol of each listener name.",
    ),
    key(
        "listeners",
        "PLAINTEXT://127.0.0.1:9092",
        Kind::List,
        "Addresses to listen on: NAME://host:port, joined by commas.",
    ),
    key(
        "max.connections",
        "2147483647",
        int(0),
        "The most connections in all.",
    ),
    key(
        "max.connections.per.ip",
        "2147483647",
        int(0),
        "The most connections from one address.",
    ),
    key(
        "max.connections.per.ip.overrides",
        "",
        Kind::List,
        "Other limits for single addresses: address:count, joined by commas.",
    ),
    key(
        "max.incremental.fetch.session.cache.slots",
        "1000",
        int(0),
        "The most incremental fetch sessions.",
    ),
    key("node.id", "1", int(0), "This node's number in the cluster."),
    key(
        "process.roles",
        "broker,controller",
        Kind::SomeOf(&["broker", "controller"]),
        "The roles of this process; a single node has both.",
    ),
    key(
        "socket.request.max.bytes",
        "104857600",
        Kind::Int {
            min: 1024,
            max: 268_435_456,
        },
        "The largest request.",
    ),
];
