//! Arbitrary bytes as a request, and the answer that a node must give to them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use highwater_broker::api;
use highwater_protocol::{ApiKey, Request, RequestHeader, for_each_api, messages};

use crate::connect;

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The node answered it.
    Answered,
    /// The node closed the connection, because the request can't be parsed or asks for no answer.
    Closed,
    /// The request waits, for instance for other members of its group.
    Waits,
}

/// The time limit for an answer that waits for nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends a request without its length, closes the client's own side, and waits for the answer.
///
/// # Errors
/// The node closed the connection although the request can be parsed and asks for an answer, which is a fault of the
/// node.
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

/// The API of a request that must be answered; `None` if the request can't be parsed or asks for no answer.
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
