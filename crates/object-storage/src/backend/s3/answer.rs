//! Derives a request's outcome from the HTTP answer, with connections that keep the answer's status.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::StatusCode;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};

use super::Unusable;
use crate::{ObjectKey, StorageError};

const ERROR_BYTES_MAX: usize = 16 << 10;

/// A refusal: the status and S3's own error code. `object_store` shows neither of them to a caller.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store answered {status} {code}: {message}")]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) code: String,
    message: String,
}

/// No source gave credentials, so the request was never sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("no credentials{why}")]
pub(super) struct NoCredentials {
    /// The source and the reason. The text continues one that begins with "no credentials".
    pub(super) why: String,
    /// Whether a service that may have credentials gave no answer. Another attempt may succeed.
    pub(super) is_silent: bool,
}

impl NoCredentials {
    /// The sources were asked, and have none.
    pub(super) fn because(why: String) -> Self {
        Self {
            why,
            is_silent: false,
        }
    }
}

impl From<NoCredentials> for Unusable {
    fn from(missing: NoCredentials) -> Self {
        match missing.is_silent {
            true => Self::NoAnswer(missing.to_string()),
            false => Self::Refused(missing.to_string()),
        }
    }
}

/// Connections whose errors keep the refusal's status and code.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(KeepRefusals(inner)))
    }
}

#[derive(Debug)]
struct KeepRefusals(HttpClient);

#[async_trait]
impl HttpService for KeepRefusals {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.0.execute(request).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let (parts, body) = answer.into_parts();
        let body = read_some(body).await?;
        let refused = refusal(status, &body);
        // `object_store` maps these itself; an answer that a missing bucket has, or a proxy without a way to the store, must
        // not be taken for a missing object
        let known = matches!(
            status,
            StatusCode::NOT_MODIFIED | StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT
        ) || (status == StatusCode::NOT_FOUND && refused.code == "NoSuchKey");
        if known {
            return Ok(HttpResponse::from_parts(
                parts,
                HttpResponseBody::from(body),
            ));
        }
        Err(HttpError::new(HttpErrorKind::Unknown, refused))
    }
}

async fn read_some(body: HttpResponseBody) -> Result<Bytes, HttpError> {
    let mut read = BytesMut::new();
    let mut parts = body.bytes_stream();
    while let Some(part) = parts.next().await {
        read.extend_from_slice(&part?);
        if read.len() >= ERROR_BYTES_MAX {
            read.truncate(ERROR_BYTES_MAX);
            break;
        }
    }
    Ok(read.freeze())
}

pub(super) fn refusal(status: StatusCode, body: &[u8]) -> Refused {
    let body = String::from_utf8_lossy(body);
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>"))?;
        Some(text.to_owned())
    };
    Refused {
        status,
        code: element("Code").unwrap_or_default(),
        message: element("Message").unwrap_or_default(),
    }
}

pub(super) fn cause<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The error of a failed read, which changes nothing and therefore has no unknown outcome.
pub(super) fn unread(key: &ObjectKey, error: object_store::Error) -> StorageError {
    let key = key.to_string();
    match error {
        object_store::Error::NotFound { .. } => StorageError::NotFound { key },
        error => StorageError::Failed {
            key,
            source: Box::new(error),
        },
    }
}

/// Whether a range begins at or after the object's end.
pub(super) fn is_past_the_end(error: &object_store::Error) -> bool {
    cause::<Refused>(error)
        .is_some_and(|refused| refused.status == StatusCode::RANGE_NOT_SATISFIABLE)
}

/// The error of a failed change: refused for certain, or perhaps carried out.
///
/// A 412 states that another object is there. A 409 states only that another request for the key was under way. Any
/// other answer below 500 is a refusal; with 500 and above the store, or a proxy before it, may have given up midway.
/// Without an answer, only a connection that was never made proves that nothing happened.
pub(super) fn unchanged(key: &ObjectKey, error: object_store::Error) -> StorageError {
    let certain = match &error {
        object_store::Error::Precondition { .. } => {
            return StorageError::Precondition {
                key: key.to_string(),
            };
        }
        object_store::Error::AlreadyExists { source, .. } => {
            if source.is::<object_store::Error>() {
                return StorageError::Precondition {
                    key: key.to_string(),
                };
            }
            true
        }
        object_store::Error::NotFound { .. } => true,
        _ if cause::<NoCredentials>(&error).is_some() => true,
        _ => match (cause::<Refused>(&error), cause::<HttpError>(&error)) {
            (Some(refused), _) if is_full(refused) => {
                return StorageError::Full {
                    key: key.to_string(),
                };
            }
            (Some(refused), _) => refused.status.is_client_error(),
            (None, Some(transport)) => transport.kind() == HttpErrorKind::Connect,
            (None, None) => false,
        },
    };
    let key = key.to_string();
    let source = Box::new(error);
    if certain {
        StorageError::Failed { key, source }
    } else {
        StorageError::Unknown { key, source }
    }
}

fn is_full(refused: &Refused) -> bool {
    refused.status == StatusCode::INSUFFICIENT_STORAGE
        || matches!(
            refused.code.as_str(),
            "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "QuotaExceeded"
        )
}
