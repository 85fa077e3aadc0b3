//! The behaviour at a failing store, tested against a server of our own, because a real store does not fail on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_io::RealDevice;
use highwater_runtime::{Tasks, WallClock, reasons};
use object_store::StaticCredentialProvider;
use object_store::aws::{AwsCredential, AwsCredentialProvider};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::answer::NoCredentials;
use super::cached::{Cached, Issuer, Lifetime};
use super::{Bucket, S3Storage, client_options};
use crate::{IoClass, ObjectKey, ObjectStorage, ObjectVersion, PutMode, S3Config, StorageError};

/// The server's action once it has read a request: it sends this answer, or hangs up after nothing or half an answer.
pub(super) type Script = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

pub(super) struct Server {
    pub(super) endpoint: String,
    requests: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

pub(super) async fn serve(script: Script) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let endpoint = format!("http://{}", listener.local_addr().expect("is bound"));
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            connections.spawn(answer(socket, Arc::clone(&script), Arc::clone(&counter)));
        }
    });
    Server {
        endpoint,
        requests,
        _serving: serving,
    }
}

async fn answer(mut socket: TcpStream, script: Script, requests: Arc<AtomicUsize>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match socket.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length:")?
                .trim()
                .parse()
                .ok()
        });
        let mut body = vec![0; length.unwrap_or(0)];
        socket.read_exact(&mut body).await.expect("a whole body");
        requests.fetch_add(1, Ordering::Relaxed);
        let Some(answer) = script(&head) else { return };
        socket.write_all(answer.as_bytes()).await.expect("is read");
        if !answer.contains("\r\n\r\n") {
            return;
        }
    }
}

pub(super) fn response(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(super) fn refusal(status: &str, code: &str) -> String {
    let body = format!("<Error><Code>{code}</Code><Message>because</Message></Error>");
    response(status, "", &body)
}

fn always(answer: Option<String>) -> Script {
    Arc::new(move |_| answer.clone())
}

/// A bucket at a server, with keys to sign requests.
pub(super) async fn bucket(endpoint: &str) -> Bucket {
    let keys = StaticCredentialProvider::new(AwsCredential {
        key_id: "id".to_owned(),
        secret_key: "secret".to_owned(),
        token: None,
    });
    bucket_as(endpoint, Arc::new(keys)).await
}

async fn bucket_as(endpoint: &str, credentials: AwsCredentialProvider) -> Bucket {
    let config = S3Config {
        endpoint: Some(endpoint.to_owned()),
        ..S3Config::default()
    };
    let client = client_options(&config, &RealDevice).await;
    let client = client.expect("no file is needed");
    let bucket = Bucket::of(
        ("bucket", "prefix"),
        &config,
        "us-east-1",
        (client, credentials),
    );
    bucket.expect("needs no server yet")
}

async fn store(endpoint: &str) -> S3Storage {
    bucket(endpoint).await.storage("highwater-x")
}

async fn put(store: &S3Storage, mode: PutMode) -> Result<ObjectVersion, StorageError> {
    let body = vec![Bytes::from_static(b"one "), Bytes::from_static(b"body")];
    store
        .put(&ObjectKey::new("data/1"), body, mode, IoClass::Upload)
        .await
}

fn outcome(put: &Result<ObjectVersion, StorageError>) -> &'static str {
    match put {
        Ok(_) => "ok",
        Err(StorageError::NotFound { .. }) => "not found",
        Err(StorageError::Precondition { .. }) => "precondition",
        Err(StorageError::Full { .. }) => "full",
        Err(StorageError::Unknown { .. }) => "unknown",
        Err(StorageError::Failed { .. }) => "failed",
    }
}

#[tokio::test]
async fn a_put_says_whether_it_was_carried_out_and_is_sent_once() {
    let ok = response("200 OK", "etag: \"tag\"\r\n", "");
    for (answer, expected) in [
        (Some(ok), "ok"),
        (
            Some(refusal("412 Precondition Failed", "PreconditionFailed")),
            "precondition",
        ),
        (
            Some(refusal("409 Conflict", "ConditionalRequestConflict")),
            "failed",
        ),
        (Some(refusal("403 Forbidden", "AccessDenied")), "failed"),
        (Some(refusal("404 Not Found", "NoSuchBucket")), "failed"),
        (Some(refusal("400 Bad Request", "RequestTimeout")), "failed"),
        (Some(refusal("429 Too Many Requests", "SlowDown")), "failed"),
        (
            Some(refusal("500 Internal Server Error", "InternalError")),
            "unknown",
        ),
        (
            Some(refusal("503 Service Unavailable", "SlowDown")),
            "unknown",
        ),
        (Some(refusal("504 Gateway Timeout", "")), "unknown"),
        (
            Some(refusal("507 Insufficient Storage", "XMinioStorageFull")),
            "full",
        ),
        // the request may have been carried out, and the connection is cut before or within the answer
        (None, "unknown"),
        (Some("HTTP/1.1 200 OK\r\netag:".to_owned()), "unknown"),
    ] {
        let text = answer.clone().unwrap_or_default();
        let server = serve(always(answer)).await;
        let store = store(&server.endpoint).await;
        for mode in [
            PutMode::IfAbsent,
            PutMode::IfVersion(ObjectVersion("t".to_owned())),
        ] {
            server.requests.store(0, Ordering::Relaxed);
            let put = put(&store, mode.clone()).await;
            assert_eq!(outcome(&put), expected, "{mode:?} {text}: {put:?}");
            assert_eq!(
                server.requests.load(Ordering::Relaxed),
                1,
                "{mode:?} {text}"
            );
        }
    }
}

#[tokio::test]
async fn a_put_that_nobody_could_receive_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let endpoint = format!("http://{}", listener.local_addr().expect("is bound"));
    drop(listener);
    let put = put(&store(&endpoint).await, PutMode::IfAbsent).await;
    assert_eq!(outcome(&put), "failed", "{put:?}");
}

#[tokio::test]
async fn conditions_and_ranges_go_over_the_wire_as_s3_has_them() {
    let heads = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let server = serve(Arc::new(move |head: &str| {
        seen.lock()
            .expect("no panic")
            .push(head.to_ascii_lowercase());
        Some(response("200 OK", "etag: \"tag\"\r\n", ""))
    }))
    .await;
    let store = store(&server.endpoint).await;
    put(&store, PutMode::IfAbsent).await.expect("puts");
    put(
        &store,
        PutMode::IfVersion(ObjectVersion("\"t\"".to_owned())),
    )
    .await
    .expect("puts");
    let heads = heads.lock().expect("no panic");
    assert!(
        heads[0].starts_with("put /bucket/prefix/highwater-x/data/1 "),
        "{}",
        heads[0]
    );
    assert!(heads[0].contains("if-none-match: *\r\n"), "{}", heads[0]);
    assert!(heads[0].contains("content-length: 8\r\n"), "{}", heads[0]);
    // without TLS the payload is signed
    assert!(!heads[0].contains("unsigned-payload"), "{}", heads[0]);
    assert!(heads[1].contains("if-match: \"t\"\r\n"), "{}", heads[1]);
}

#[tokio::test]
async fn a_read_of_what_is_not_there_and_one_that_failed_differ() {
    for (answer, expected) in [
        (Some(refusal("404 Not Found", "NoSuchKey")), "not found"),
        (Some(refusal("404 Not Found", "NoSuchBucket")), "failed"),
        (
            Some(response("404 Not Found", "", "404 page not found\n")),
            "failed",
        ),
        (
            Some(refusal("503 Service Unavailable", "SlowDown")),
            "failed",
        ),
        (
            Some(response(
                "200 OK",
                "etag: \"t\"\r\nlast-modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
                "whole",
            )),
            "failed",
        ),
        (None, "failed"),
    ] {
        let server = serve(always(answer)).await;
        let store = store(&server.endpoint).await;
        let got = store
            .get(&ObjectKey::new("data/1"), 0..3, IoClass::ColdRead)
            .await;
        let got = got.map(|_| ObjectVersion(String::new()));
        assert_eq!(outcome(&got), expected, "{got:?}");
    }
    let server = serve(always(Some(refusal(
        "416 Range Not Satisfiable",
        "InvalidRange",
    ))))
    .await;
    let store = store(&server.endpoint).await;
    let past = store
        .get(&ObjectKey::new("data/1"), 5..9, IoClass::ColdRead)
        .await;
    assert_eq!(past.expect("is clipped"), Bytes::new());
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    #[derive(Debug)]
    struct Nobody;

    #[async_trait]
    impl Issuer for Nobody {
        async fn issue(&self) -> Result<(AwsCredential, Lifetime), NoCredentials> {
            Err(NoCredentials::because(" from nobody".to_owned()))
        }
    }

    let server = serve(always(None)).await;
    let nobody = Cached::new(Arc::new(Nobody), WallClock::system(), Tasks::default());
    let bucket = bucket_as(&server.endpoint, Arc::new(nobody)).await;
    let store = bucket.storage("highwater-x");
    let put = put(&store, PutMode::IfAbsent).await;
    assert_eq!(outcome(&put), "failed", "{put:?}");
    let told = reasons(&put.expect_err("there are none"));
    assert!(told.contains("no credentials from nobody"), "{told}");
    assert_eq!(server.requests.load(Ordering::Relaxed), 0);
}
