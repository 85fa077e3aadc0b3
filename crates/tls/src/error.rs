//! Why settings of TLS can't be used.

use std::io;

use crate::Certificate;

/// Why a key, a chain or the trust can't be used. The operator has to change the place that it names.
#[derive(Debug, thiserror::Error)]
#[error("{place}")]
pub struct Error {
    /// The file, or the setting that has the text.
    pub place: String,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a key, a chain or the trust.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file can't be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// The file is larger than any file of certificates.
    #[error("is larger than limit={limit} bytes")]
    Large {
        /// The largest size, bytes.
        limit: u64,
    },
    /// A section is not PEM.
    #[error("is not PEM: the section {label} {why}")]
    Pem {
        /// The label of the section.
        label: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A store of Java is in place of PEM.
    #[error(
        "is a JKS or PKCS12 store, not PEM: convert it by `keytool -importkeystore -srckeystore STORE -destkeystore \
         store.p12 -deststoretype PKCS12` and `openssl pkcs12 -in store.p12 -nodes -out store.pem`"
    )]
    JavaStore,
    /// There is no certificate.
    #[error("has no section BEGIN CERTIFICATE")]
    NoCertificate,
    /// There is no private key, or more than one.
    #[error(
        "has {count} private keys, and one is needed: a section BEGIN PRIVATE KEY or BEGIN ENCRYPTED PRIVATE KEY"
    )]
    Keys {
        /// The number of private keys.
        count: usize,
    },
    /// The private key is encrypted, and there is no password.
    #[error("has an encrypted private key: its password is needed, in ssl.key.password")]
    NoPassword,
    /// The private key is encrypted in a way that is not supported.
    #[error(
        "has a private key that is encrypted with {scheme}: convert it by `openssl pkcs8 -topk8 -v2 aes-256-cbc`, which \
         encrypts it with PBES2, PBKDF2 and AES"
    )]
    Scheme {
        /// The way of encryption.
        scheme: String,
    },
    /// The password does not decrypt the private key.
    #[error("has a private key that ssl.key.password does not decrypt")]
    Password,
    /// The private key is of a kind that is not supported, or damaged.
    #[error("has a private key that cannot be used: {0}")]
    Key(String),
    /// The private key is another certificate's.
    #[error("has a private key that is not the key of its first certificate: {0}")]
    OtherKey(Certificate),
    /// A certificate can't be read.
    #[error("has a certificate, number {number}, that cannot be used: {why}")]
    Certificate {
        /// The number of the certificate in the file, from 1.
        number: usize,
        /// The reason.
        why: String,
    },
    /// A certificate of the own chain has expired.
    #[error("has an expired certificate: {0}")]
    Expired(Certificate),
    /// A certificate of the own chain is not valid yet.
    #[error("has a certificate that is not valid before {}: {}", .0.not_before_text(), .0)]
    NotYetValid(Certificate),
    /// rustls refuses the settings.
    #[error("cannot be used: {0}")]
    Refused(String),
}

impl Problem {
    /// The error of this problem at a place.
    pub(crate) fn at(self, place: &str) -> Error {
        Error {
            place: place.to_owned(),
            problem: self,
        }
    }
}
