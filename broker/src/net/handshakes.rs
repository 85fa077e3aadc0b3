//! The beginning of a connection: the handshake of a listener on TLS, and what is told of those that fail.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use highwater_io::net::Socket;
use highwater_tls::{Cause, Context, Failure};

use super::{Seldom, Session};
use crate::auth::Principal;
use crate::metrics::tls as metrics;

/// The most causes that are remembered, so that each is told seldom. With more at a time, the further ones are not told.
const CAUSES_MAX: usize = 32;

/// How connections of one listener begin.
#[derive(Debug)]
pub(super) struct Handshakes {
    listener: Arc<str>,
    /// `None` on PLAINTEXT.
    context: Option<Arc<Context>>,
    /// The session of a client that shows no certificate.
    anonymous: Arc<Session>,
    /// When a cause was last told, with the subject of its certificate.
    told: Mutex<BTreeMap<(Cause, String), Seldom>>,
}

impl Handshakes {
    pub(super) fn new(listener: Arc<str>, context: Option<Arc<Context>>) -> Self {
        let anonymous = match &context {
            None => Session::anonymous(),
            Some(_) => Session::without_certificate(),
        };
        Self {
            listener,
            context,
            anonymous: Arc::new(anonymous),
            told: Mutex::default(),
        }
    }

    /// Makes the stream and the session of a client that has connected. The principal of a certificate is its subject
    /// (Kafka's `DefaultKafkaPrincipalBuilder`).
    pub(super) async fn begin(
        &self,
        socket: Box<dyn Socket>,
    ) -> Result<(Box<dyn Socket>, Arc<Session>), Failure> {
        let Some(context) = &self.context else {
            return Ok((socket, Arc::clone(&self.anonymous)));
        };
        let accepted = context.accept(socket).await;
        metrics::count_handshake(accepted.as_ref().err().map(|failure| failure.cause));
        let accepted = accepted?;
        let session = match accepted.certificate {
            None => Arc::clone(&self.anonymous),
            Some(certificate) => Arc::new(Session::of(Principal::user(certificate.subject))),
        };
        Ok((Box::new(accepted.socket), session))
    }

    /// Logs a failure, each cause seldom.
    pub(super) fn tell(&self, failure: &Failure, peer: SocketAddr) {
        let subject = failure.certificate.as_ref();
        let subject = subject.map(|certificate| certificate.subject.clone());
        let cause = (failure.cause, subject.unwrap_or_default());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= CAUSES_MAX && !told.contains_key(&cause) {
            told.retain(|_, seldom| !seldom.is_over());
            if told.len() >= CAUSES_MAX {
                return;
            }
        }
        if told.entry(cause).or_default().is_due() {
            drop(told);
            let listener = &self.listener;
            tracing::warn!(client = %peer, %listener, error = %failure, "TLS handshake failed");
        }
    }
}
