//! The session that a connection has negotiated with its client.

use std::sync::Arc;

use highwater_protocol::StrBytes;

use crate::auth::Principal;

/// The most characters that are kept of the name of a client's software, and of its version.
const SOFTWARE_CHARS_MAX: usize = 64;

/// The properties of a connection's client. A session never changes while a request is served: a handler that
/// negotiates answers with a new session, which applies from the next request on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Session {
    /// The client's principal; `None` while the client still has to authenticate.
    pub principal: Option<Arc<Principal>>,
    /// The name and version of the client's software, as it tells them (KIP-511).
    pub(super) software: Option<Box<str>>,
    /// Whether the listener is on TLS and the client has shown no certificate.
    pub(crate) lacks_certificate: bool,
}

impl Session {
    /// The session of a new connection on a listener without authentication.
    #[must_use]
    pub(crate) fn anonymous() -> Self {
        Self {
            principal: Some(Arc::new(Principal::anonymous())),
            ..Self::default()
        }
    }

    /// The session of a new connection on a listener of TLS, whose client shows no certificate.
    #[must_use]
    pub(super) fn without_certificate() -> Self {
        Self {
            lacks_certificate: true,
            ..Self::anonymous()
        }
    }

    /// The session of a new connection of a principal that has authenticated.
    #[must_use]
    pub(super) fn of(principal: Principal) -> Self {
        Self {
            principal: Some(Arc::new(principal)),
            ..Self::default()
        }
    }

    /// The same session, with the name and version that the client's software tells.
    #[must_use]
    pub(crate) fn with_software(&self, name: &StrBytes, version: &StrBytes) -> Self {
        let cut = |text: &str| text.chars().take(SOFTWARE_CHARS_MAX).collect::<String>();
        let software = format!("{} {}", cut(name), cut(version));
        Self {
            software: Some(software.into()),
            ..self.clone()
        }
    }

    /// The name and version of the client's software, for the log; empty if the client has not sent them.
    #[must_use]
    pub(crate) fn software(&self) -> &str {
        self.software.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // I11
    #[test]
    fn of_a_long_name_a_session_keeps_little() {
        let long = StrBytes::from("x".repeat(30_000));
        let session = Session::anonymous().with_software(&long, &StrBytes::from("4.4.0"));
        let cut = "x".repeat(SOFTWARE_CHARS_MAX);
        assert_eq!(session.software(), format!("{cut} 4.4.0"));
        assert_eq!(session.principal, Session::anonymous().principal);
    }
}
