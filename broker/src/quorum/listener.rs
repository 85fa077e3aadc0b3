//! The service of the controllers' listeners: it hands calls to the voter, and serves operators the few APIs that are about
//! the quorum.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use highwater_kraft_meta::{SMALL_MESSAGE_BYTES_MAX, Voter};
use highwater_protocol::RequestHeader;
use highwater_runtime::{BytePermit, reasons};
use tokio::sync::watch;

use super::clients::{Clients, REQUEST_BYTES_MAX};
use super::{ANSWERED, CALL, CALL_VERSION, FAILED, NOT_CALLED};
use crate::metrics::RefusedFrame;
use crate::net::{Answer, ConnectionInfo, Frame, RequestClass, Seldom, Served, Service, Session};

/// Serves the connections of controller listeners.
#[derive(Debug)]
pub(super) struct ControllerListener {
    voter: watch::Receiver<Option<Voter>>,
    clients: Clients,
    told: Arc<Mutex<Told>>,
}

/// The messages about clients, which must not fill the log, whatever they send on however many connections.
#[derive(Debug, Default)]
struct Told {
    refused: Seldom,
}

/// The answer to a call of a client that has shown no certificate on a listener of TLS.
const NO_CERTIFICATE: &str = "calls between nodes need a certificate, and the connection has shown none: set \
    ssl.keystore.location for the controllers' listener";

type Serving = Pin<Box<dyn Future<Output = Served<Ready<Answer>>> + Send>>;

impl ControllerListener {
    pub(super) fn new(voter: watch::Receiver<Option<Voter>>, clients: Clients) -> Self {
        Self {
            voter,
            clients,
            told: Arc::default(),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The class of every request.
    pub(super) fn class_of(_key: i16) -> RequestClass {
        RequestClass::default()
    }
}

async fn call(
    voter: Option<Voter>,
    header: RequestHeader,
    mut frame: Frame,
    body: Bytes,
) -> Answer {
    // a call may wait for half a minute, and those of clients must not keep the memory for that long
    if body.len() <= SMALL_MESSAGE_BYTES_MAX {
        frame.permit = BytePermit::empty();
    }
    let answered = match voter {
        Some(voter) => voter.answer(&body).await,
        None => Err(io::Error::new(
            io::ErrorKind::NotConnected,
            "the controller is still starting",
        )),
    };
    drop(body);
    let (status, body) = match answered {
        Ok(answer) => (ANSWERED, answer),
        Err(error) => {
            let status = match error.kind() {
                io::ErrorKind::NotConnected => NOT_CALLED,
                _ => FAILED,
            };
            (status, Bytes::from(reasons(&error)))
        }
    };
    answer(header.correlation_id, status, body, frame.permit)
}

fn answer(correlation_id: i32, status: u8, body: Bytes, permit: BytePermit) -> Answer {
    const REST_BYTES: usize = 5;
    let Ok(length) = i32::try_from(body.len() + REST_BYTES) else {
        return Answer::Close;
    };
    let mut head = BytesMut::with_capacity(9);
    head.put_i32(length);
    head.put_i32(correlation_id);
    head.put_u8(status);
    Answer::Frame(vec![head.freeze(), body], permit)
}

impl Service for ControllerListener {
    type Serving = Serving;
    type Answer = Ready<Answer>;

    fn serve(
        &self,
        connection: &Arc<ConnectionInfo>,
        session: &Arc<Session>,
        mut frame: Frame,
    ) -> Serving {
        let mut body = std::mem::take(&mut frame.body);
        let header = match RequestHeader::parse(&mut body) {
            Ok(header) => header,
            Err(error) => {
                RefusedFrame::Header.count();
                if self.told().refused.is_due() {
                    tracing::info!(client = %connection.peer, %error, "request header refused");
                }
                return Box::pin(ready(Served::Now(Answer::Close)));
            }
        };
        match (header.api_key, header.api_version) {
            (CALL, CALL_VERSION) if session.lacks_certificate => {
                RefusedFrame::Unauthenticated.count();
                if self.told().refused.is_due() {
                    tracing::warn!(
                        client = %connection.peer,
                        listener = %connection.listener,
                        "call refused: on TLS a node shows its certificate"
                    );
                }
                let why = Bytes::from_static(NO_CERTIFICATE.as_bytes());
                let refused = answer(header.correlation_id, NOT_CALLED, why, BytePermit::empty());
                Box::pin(ready(Served::Now(refused)))
            }
            (CALL, CALL_VERSION) => {
                let voter = self.voter.borrow().clone();
                Box::pin(async move { Served::Now(call(voter, header, frame, body).boxed().await) })
            }
            (api_key, api_version) => {
                let (connection, told) = (Arc::clone(connection), Arc::clone(&self.told));
                let (clients, may_change) = (self.clients.clone(), !session.lacks_certificate);
                Box::pin(async move {
                    // it may wait for a change of the voters, and must not keep memory for that long
                    drop(frame.permit);
                    let answered = match body.len() {
                        ..=REQUEST_BYTES_MAX => {
                            let from = (&*connection.listener, may_change);
                            clients.answer(from, header, body).await
                        }
                        _ => None,
                    };
                    Served::Now(answered.unwrap_or_else(|| {
                        refuse(&connection, &told, (api_key, api_version));
                        Answer::Close
                    }))
                })
            }
        }
    }
}

fn refuse(connection: &ConnectionInfo, told: &Mutex<Told>, api: (i16, i16)) {
    RefusedFrame::Unsupported.count();
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    if told.refused.is_due() {
        tracing::info!(
            client = %connection.peer,
            listener = %connection.listener,
            api_key = api.0,
            api_version = api.1,
            "request refused: this listener serves nodes of the cluster, and the description of the quorum, alone"
        );
    }
}
