//! Any bytes as a request: what a node must make of them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use highwater_broker::api;
use highwater_protocol::{ApiKey, Request, RequestHeader, for_each_api, messages};

use crate::connect;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// The connection was closed: it can't be read, or asks for no answer.
    Closed,
    /// It waits, for other members of its group say.
    Waits,
}

/// How long an answer may take that waits for nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends a request without its length, closes the client's own side, and waits for the answer.
///
/// # Errors
/// When the connection is closed though the request can be read and asks for an answer: a fault of the node.
pub async fn ask_oddly(address: SocketAddr, frame: &Bytes) -> Result<Outcome> {
    let mut client = connect(address).await?;
    let length = i32::try_from(frame.len())?.to_be_bytes();
    client.send_raw(&[&length[..], frame].concat()).await?;
    client.shutdown().await?;
    let Ok(answer) = tokio::time::timeout(PATIENCE, client.receive_raw()).await else {
        return Ok(Outcome::Waits);
    };
    if answer?.is_some() {
        return Ok(Outcome::Answered);
    }
    if let Some(asked) = wants_answer(frame) {
        bail!("the connection is closed instead of an answer to {asked}");
    }
    Ok(Outcome::Closed)
}

/// What a request asks, where it must be answered; `None` where it can't be read or asks for no answer.
#[must_use]
pub fn wants_answer(frame: &Bytes) -> Option<String> {
    let mut body = frame.clone();
    let header = RequestHeader::parse(&mut body).ok()?;
    let entry = api::find(header.api_key)?;
    if !(entry.min..=entry.max).contains(&header.api_version) {
        return None;
    }
    macro_rules! each {
        ($request:ident, $response:ident) => {
            if entry.key == <messages::$request as Request>::KEY {
                return of::<messages::$request>(body, header.api_version);
            }
        };
    }
    for_each_api!(each);
    None
}

fn of<R: Request>(body: Bytes, version: i16) -> Option<String> {
    let silent = R::KEY == ApiKey::Produce && acks(&body, version) == Some(0);
    let request = R::decode(body, version).ok().filter(|_| !silent)?;
    let mut asked = format!("{} {version} {request:?}", R::KEY.name());
    asked.truncate(asked.floor_char_boundary(4000));
    Some(asked)
}

fn acks(body: &Bytes, version: i16) -> Option<i16> {
    let request = messages::ProduceRequest::decode(body.clone(), version).ok()?;
    Some(request.acks)
}
