//! The store's HTTP client in the shape that the AWS libraries expect, so that the process has one HTTP and one TLS
//! implementation, which trusts the same authorities everywhere.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpConnector as _, HttpError, HttpErrorKind, HttpRequestBody, HttpResponseBody,
    ReqwestConnector,
};
use tokio::time::timeout;

/// The limit on the size of an answer: the answers are credentials and settings.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The time for an answer where the AWS libraries set none, so that every request ends.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Connections for requests that do not concern objects. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Connections(object_store::client::HttpClient);

impl Connections {
    /// Makes connections with a store's options. Plain HTTP is allowed too, because an instance's metadata service uses
    /// it.
    pub(super) fn new(options: ClientOptions) -> Result<Self, String> {
        let client = ReqwestConnector::default().connect(&options.with_allow_http(true));
        Ok(Self(client.map_err(|error| error.to_string())?))
    }
}

impl HttpClient for Connections {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        // the client has a connect timeout of its own
        let connect = settings.connect_timeout().unwrap_or_default();
        SharedHttpConnector::new(Connector {
            client: self.0.clone(),
            limit: connect + settings.read_timeout().unwrap_or(ANSWER_MAX),
        })
    }
}

#[derive(Debug)]
struct Connector {
    client: object_store::client::HttpClient,
    limit: Duration,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (client, limit) = (self.client.clone(), self.limit);
        HttpConnectorFuture::new(async move {
            let answered = timeout(limit, answer(&client, request)).await;
            answered.unwrap_or_else(|elapsed| {
                Err(ConnectorError::timeout(
                    format!("no answer within {limit:?}: {elapsed}").into(),
                ))
            })
        })
    }
}

async fn answer(
    client: &object_store::client::HttpClient,
    request: HttpRequest,
) -> Result<HttpResponse, ConnectorError> {
    let request = request.try_into_http1x();
    let request = request.map_err(|error| ConnectorError::user(error.into()))?;
    let (parts, body) = request.into_parts();
    let body = body.bytes().map(Bytes::copy_from_slice);
    let body =
        body.ok_or_else(|| ConnectorError::user("the body of a request is a stream".into()))?;
    let request = http::Request::from_parts(parts, HttpRequestBody::from(body));
    let answer = client.execute(request).await.map_err(failed)?;
    let (parts, body) = answer.into_parts();
    let body = SdkBody::from(whole(body).await?);
    let answer = HttpResponse::try_from(http::Response::from_parts(parts, body));
    answer.map_err(|error| ConnectorError::other(error.into(), None))
}

async fn whole(body: HttpResponseBody) -> Result<Bytes, ConnectorError> {
    let mut read = BytesMut::new();
    let mut parts = body.bytes_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(failed)?;
        if read.len() + part.len() > ANSWER_BYTES_MAX {
            let why = format!("an answer of more than {ANSWER_BYTES_MAX} bytes");
            return Err(ConnectorError::other(why.into(), None));
        }
        read.extend_from_slice(&part);
    }
    Ok(read.freeze())
}

fn failed(error: HttpError) -> ConnectorError {
    match error.kind() {
        HttpErrorKind::Timeout => ConnectorError::timeout(error.into()),
        HttpErrorKind::Connect | HttpErrorKind::Request | HttpErrorKind::Interrupted => {
            ConnectorError::io(error.into())
        }
        _ => ConnectorError::other(error.into(), None),
    }
}
