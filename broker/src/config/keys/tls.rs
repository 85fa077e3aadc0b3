//! TLS. Each setting may be given for one listener too, as `listener.name.<listener in lower case>.<setting>`.

use super::{Key, Kind, key, unset};

/// The values of `ssl.client.auth`.
const CLIENT_AUTH: &[&str] = &["required", "requested", "none"];
/// The versions of TLS that there are.
const PROTOCOLS: &[&str] = &["TLSv1.2", "TLSv1.3"];

/// By name.
pub(super) static KEYS: &[Key] = &[
    key(
        "ssl.client.auth",
        "none",
        Kind::OneOf(CLIENT_AUTH),
        "Whether clients of SSL listeners show a certificate: none, requested or required. A certificate that is shown is \
         always verified. Listeners of controller.listener.names always require one, unless \
         listener.name.<listener>.ssl.client.auth=requested: calls between nodes then still need one.",
    ),
    key(
        "ssl.enabled.protocols",
        "TLSv1.2,TLSv1.3",
        Kind::SomeOf(PROTOCOLS),
        "The versions of TLS.",
    ),
    key(
        "ssl.endpoint.identification.algorithm",
        "https",
        Kind::Text,
        "With https, a node verifies that the certificate of a controller has the controller's host among its subject \
         alternative names; if empty, it does not.",
    ),
    unset(
        "ssl.key.password",
        Kind::Password,
        "The password of an encrypted private key (PBES2 with AES).",
    ),
    unset(
        "ssl.keystore.certificate.chain",
        Kind::Password,
        "The node's certificate and those above it in PEM, instead of ssl.keystore.location.",
    ),
    unset(
        "ssl.keystore.key",
        Kind::Password,
        "The node's private key in PEM, instead of ssl.keystore.location.",
    ),
    unset(
        "ssl.keystore.location",
        Kind::Text,
        "A PEM file with the node's private key, its certificate and those above it. It is read again when it changes.",
    ),
    key(
        "ssl.keystore.type",
        "JKS",
        Kind::Text,
        "The format of the keystore. Only PEM is supported.",
    ),
    unset(
        "ssl.truststore.certificates",
        Kind::Password,
        "The certificates of the authorities that are trusted in PEM, instead of ssl.truststore.location.",
    ),
    unset(
        "ssl.truststore.location",
        Kind::Text,
        "A PEM file with the certificates of the authorities that are trusted: on a controllers' listener every \
         certificate that they issue is a node's. It is read again when it changes.",
    ),
    key(
        "ssl.truststore.type",
        "JKS",
        Kind::Text,
        "The format of the truststore. Only PEM is supported.",
    ),
];
