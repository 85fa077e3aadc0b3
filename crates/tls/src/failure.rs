//! Why a handshake failed.

use std::fmt;
use std::io;

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

use crate::Certificate;

/// The kinds of failures, a closed set for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The other side's certificate, or one of its chain, has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// It was issued by nobody who is trusted here.
    UnknownIssuer,
    /// The server's certificate has another name.
    WrongName,
    /// It is for another purpose: its extended key usage lacks that of a client, or of a server.
    WrongPurpose,
    /// It can't be accepted for another reason.
    WrongCertificate,
    /// The client has shown no certificate.
    NoCertificate,
    /// The other side refuses this side's certificate.
    OwnRefused,
    /// The other side refuses the handshake for another reason.
    Refused,
    /// The two sides have no version, cipher or signature in common.
    Incompatible,
    /// What came is not TLS.
    NotTls,
    /// The connection was closed during the handshake.
    Closed,
    /// The handshake took too long.
    Late,
    /// There is no key, or no trust, for this side of a connection.
    Unconfigured,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Expired,
        Self::NotYetValid,
        Self::UnknownIssuer,
        Self::WrongName,
        Self::WrongPurpose,
        Self::WrongCertificate,
        Self::NoCertificate,
        Self::OwnRefused,
        Self::Refused,
        Self::Incompatible,
        Self::NotTls,
        Self::Closed,
        Self::Late,
        Self::Unconfigured,
    ];

    /// The name for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::UnknownIssuer => "unknown_issuer",
            Self::WrongName => "wrong_name",
            Self::WrongPurpose => "wrong_purpose",
            Self::WrongCertificate => "wrong_certificate",
            Self::NoCertificate => "no_certificate",
            Self::OwnRefused => "own_refused",
            Self::Refused => "refused",
            Self::Incompatible => "incompatible",
            Self::NotTls => "not_tls",
            Self::Closed => "closed",
            Self::Late => "late",
            Self::Unconfigured => "unconfigured",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Expired => "the certificate of the other side, or one of its chain, has expired",
            Self::NotYetValid => {
                "the certificate of the other side, or one of its chain, is not valid yet"
            }
            Self::UnknownIssuer => {
                "the issuer of the other side's certificate is not in this side's truststore"
            }
            Self::WrongName => {
                "the server's certificate does not have the name of the host among its subject alternative names"
            }
            Self::WrongPurpose => {
                "the extended key usage of the other side's certificate does not allow this use"
            }
            Self::WrongCertificate => "the certificate of the other side is not accepted",
            Self::NoCertificate => "the client has shown no certificate",
            Self::OwnRefused => "the other side refuses this side's certificate",
            Self::Refused => "the other side refuses the handshake",
            Self::Incompatible => "the other side has no version or cipher in common",
            Self::NotTls => {
                "what came is not TLS: the other side's security protocol is not this side's"
            }
            Self::Closed => {
                "the connection was closed during the handshake: the other side's security protocol may not be this side's"
            }
            Self::Late => "the handshake took too long",
            Self::Unconfigured => "there is no keystore or no truststore for this side",
        }
    }
}

/// Why a handshake failed, and by which certificate. Another attempt fails as well, until a certificate or a setting is
/// changed; nothing of what was to be sent was read by the other side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// The kind.
    pub cause: Cause,
    /// The certificate that is at fault: the other side's, or with [`Cause::OwnRefused`] this side's.
    pub certificate: Option<Certificate>,
    /// What the TLS library says, if it says more.
    pub detail: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause.text())?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        match &self.certificate {
            Some(certificate) => write!(f, ": {certificate}"),
            None => Ok(()),
        }
    }
}

impl From<Failure> for io::Error {
    /// The kind says that nothing was sent.
    fn from(failure: Failure) -> Self {
        Self::new(io::ErrorKind::NotConnected, failure)
    }
}

impl Failure {
    /// A failure without a certificate.
    pub(crate) fn new(cause: Cause) -> Self {
        Self {
            cause,
            certificate: None,
            detail: None,
        }
    }

    /// The failure in an error of a stream of TLS, if that is one.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }

    /// The failure of a handshake: `refused` is the certificate that this side has refused, `own` its own.
    pub(crate) fn of_handshake(
        error: &io::Error,
        refused: Option<Certificate>,
        own: Option<&Certificate>,
    ) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        let Some(tls) = tls else {
            return Self {
                detail: Some(error.to_string()),
                ..Self::new(Cause::Closed)
            };
        };
        let cause = cause_of(tls);
        let certificate = match cause {
            Cause::OwnRefused => own.cloned(),
            _ => refused,
        };
        let is_told = matches!(cause, Cause::NoCertificate | Cause::UnknownIssuer);
        Self {
            cause,
            certificate,
            detail: (!is_told).then(|| tls.to_string()),
        }
    }

    /// The failure in the first answer of a server that refuses the client's certificate: in TLS 1.3 the client has
    /// finished its handshake before. `None` for any other error.
    pub(crate) fn of_first_read(error: &io::Error, own: Option<&Certificate>) -> Option<Self> {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref())?;
        let cause = cause_of(tls);
        let is_alert = matches!(cause, Cause::OwnRefused | Cause::Refused);
        is_alert.then(|| Self::of_handshake(error, None, own))
    }
}

fn cause_of(error: &Error) -> Cause {
    match error {
        Error::NoCertificatesPresented => Cause::NoCertificate,
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Cause::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Cause::NotYetValid
            }
            CertificateError::UnknownIssuer => Cause::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Cause::WrongName
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Cause::WrongPurpose
            }
            _ => Cause::WrongCertificate,
        },
        Error::AlertReceived(alert) => match alert {
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired => Cause::OwnRefused,
            AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
                Cause::Incompatible
            }
            _ => Cause::Refused,
        },
        Error::PeerIncompatible(_) => Cause::Incompatible,
        Error::InvalidMessage(_) => Cause::NotTls,
        _ => Cause::WrongCertificate,
    }
}
