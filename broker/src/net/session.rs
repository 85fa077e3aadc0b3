//! What a connection has negotiated with its client.

use std::sync::Arc;

use highwater_protocol::StrBytes;

use crate::auth::Principal;

/// What a client may call its software and that one's version: what is longer is cut.
const SOFTWARE_CHARS_MAX: usize = 64;

/// Who a connection's requests come from. It never changes under a request: a handler that negotiates answers with another
/// one, which counts from the next request on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Session {
    /// Who the client is; `None` as long as it has to authenticate and has not.
    pub principal: Option<Arc<Principal>>,
    /// What the client's software calls itself, and its version (KIP-511).
    pub(super) software: Option<Box<str>>,
}

impl Session {
    /// That of a new connection of a listener that asks for no authentication.
    #[must_use]
    pub(crate) fn anonymous() -> Self {
        Self {
            principal: Some(Arc::new(Principal::anonymous())),
            ..Self::default()
        }
    }

    /// The same, where the software says what it is.
    #[must_use]
    pub(crate) fn with_software(&self, name: &StrBytes, version: &StrBytes) -> Self {
        let cut = |text: &str| text.chars().take(SOFTWARE_CHARS_MAX).collect::<String>();
        let software = format!("{} {}", cut(name), cut(version));
        Self {
            software: Some(software.into()),
            ..self.clone()
        }
    }

    /// What the client's software calls itself, for the log; empty where it has not said.
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
