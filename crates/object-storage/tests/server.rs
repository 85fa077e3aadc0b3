//! Tests against a real S3-compatible server: `HIGHWATER_TEST_S3` is its endpoint and `AWS_*` its keys; the bucket
//! `highwater` and the KMS key `highwater-key` have to exist. `cargo xtask test --only s3-minio` starts one. A server
//! without lifecycle rules and KMS runs all tests but those of the module `settings`.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use base64::Engine;
use bytes::Bytes;
use highwater_io::RealDevice;
use highwater_runtime::{SeededRng, Tasks, WallClock};
use highwater_types::{NodeId, Uuid};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpConnector, HttpRequestBody, ReqwestConnector};
use sha2::{Digest, Sha256};

use highwater_object_storage::{
    Claim, Config, IoClass, ObjectKey, OpenError, Opened, Opener, Ports, PutMode, S3Config,
    conformance, layout, open,
};

fn environment() -> BTreeMap<String, String> {
    std::env::vars().collect()
}

fn s3() -> S3Config {
    let endpoint = std::env::var("HIGHWATER_TEST_S3").expect("HIGHWATER_TEST_S3 is an endpoint");
    S3Config {
        endpoint: Some(endpoint),
        ..S3Config::default()
    }
}

async fn open_as(cluster: u8, name: &str, s3: S3Config) -> Result<Opened, OpenError> {
    let url = format!("s3://highwater/{name}-{}", std::process::id());
    let rng = SeededRng::from_seed(u64::from(cluster));
    let config = Config { url, s3 };
    open(&config, opener(cluster), ports(rng)).await
}

fn opener(cluster: u8) -> Opener {
    Opener {
        cluster: Uuid([cluster; 16]),
        node: NODE,
        claim: Claim::Make,
        has_own_directory: false,
    }
}

const NODE: NodeId = NodeId(1);

fn ports(rng: SeededRng) -> Ports {
    Ports {
        device: Arc::new(RealDevice),
        memory: None,
        clock: WallClock::system(),
        tasks: Tasks::default(),
        rng,
    }
}

#[tokio::test]
async fn a_server_conforms_and_passes_the_probe() {
    let opened = open_as(1, "conforms", s3()).await.expect("opens");
    conformance::run(&*opened.storage).await;
    conformance::replaces(&*opened.storage).await;
    let left: Vec<_> =
        futures::StreamExt::collect(opened.storage.list(&layout::probes(NODE), None)).await;
    assert!(left.is_empty(), "the probe leaves {left:?}");
}

#[tokio::test]
async fn a_large_object_of_many_parts_reads_back() {
    let opened = open_as(1, "large", s3()).await.expect("opens");
    let parts: Vec<Bytes> = (0..=255)
        .map(|part: u8| Bytes::from(vec![part; 64 << 10]))
        .collect();
    let key = ObjectKey::new("data/large");
    let put = opened
        .storage
        .put(&key, parts.clone(), PutMode::IfAbsent, IoClass::Upload);
    put.await.expect("puts");
    let (end, length) = opened
        .storage
        .get_suffix(&key, 10, IoClass::ColdRead)
        .await
        .expect("reads");
    assert_eq!((&end[..], length), (&[255; 10][..], 256 * (64 << 10)));
    let all = opened.storage.get(&key, 0..length, IoClass::ColdRead).await;
    assert!(all.expect("reads") == parts.concat());
}

#[tokio::test]
async fn another_clusters_prefix_refuses() {
    let first = open_as(1, "clusters", s3()).await.expect("opens");
    let key = ObjectKey::new("data/x");
    let put = first
        .storage
        .put(&key, Vec::new(), PutMode::IfAbsent, IoClass::Upload);
    put.await.expect("puts");
    let other = open_as(2, "clusters", s3()).await;
    assert!(
        matches!(other, Err(OpenError::OtherCluster { .. })),
        "{other:?}"
    );
    open_as(1, "clusters", s3()).await.expect("opens again");
}

#[tokio::test]
async fn a_bucket_that_is_not_there_says_so() {
    let config = Config {
        url: "s3://no-such-bucket".to_owned(),
        s3: s3(),
    };
    let missing = open(&config, opener(1), ports(SeededRng::from_seed(1))).await;
    let missing = missing.expect_err("is refused").to_string();
    assert!(missing.contains("NoSuchBucket"), "{missing}");
}

#[tokio::test]
async fn process_with_wrong_keys() {
    // the test below runs this one as a process with an environment of its own
    if environment()
        .get("AWS_SECRET_ACCESS_KEY")
        .map(String::as_str)
        != Some("wrong")
    {
        return;
    }
    let wrong = open_as(1, "keys", s3()).await.expect_err("is refused");
    println!("{wrong}");
}

#[test]
fn keys_that_are_wrong_say_so() {
    let binary = std::env::current_exe().expect("this binary");
    let mut process = Command::new(binary);
    process.args(["--exact", "process_with_wrong_keys"]);
    process.args(["--nocapture"]);
    let ended = process.env("AWS_SECRET_ACCESS_KEY", "wrong").output();
    let told = ended.expect("runs").stdout;
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("SignatureDoesNotMatch"), "{told}");
}

mod settings {
    use super::*;

    #[tokio::test]
    async fn objects_are_encrypted_with_the_kms_key() {
        let with = |key: &str| S3Config {
            kms_key: Some(key.to_owned()),
            ..s3()
        };
        let opened = open_as(1, "kms", with("highwater-key"))
            .await
            .expect("opens");
        let key = ObjectKey::new("data/x");
        let body = vec![Bytes::from_static(b"secret")];
        let put = opened
            .storage
            .put(&key, body, PutMode::IfAbsent, IoClass::Upload);
        put.await.expect("puts");
        let got = opened.storage.get(&key, 0..9, IoClass::ColdRead).await;
        assert_eq!(got.expect("reads"), "secret");
        let unknown = open_as(1, "kms", with("no-such-key")).await;
        let unknown = unknown.expect_err("is refused").to_string();
        assert!(unknown.contains("ms"), "{unknown}");
    }

    /// Signs a request as the store does, which has no call for it.
    async fn set_lifecycle(rules: String) {
        let of = |name: &str| environment().remove(name).unwrap_or_default();
        let credential = AwsCredential {
            key_id: of("AWS_ACCESS_KEY_ID"),
            secret_key: of("AWS_SECRET_ACCESS_KEY"),
            token: None,
        };
        let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&rules));
        let mut request =
            http::Request::put(format!("{}/highwater?lifecycle", of("HIGHWATER_TEST_S3")))
                .header("x-amz-checksum-sha256", digest)
                .body(HttpRequestBody::from(rules))
                .expect("a sound request");
        AwsAuthorizer::new(&credential, "s3", "us-east-1")
            .try_authorize(&mut request, None)
            .expect("signs");
        let options = ClientOptions::new().with_allow_http(true);
        let client = ReqwestConnector::default()
            .connect(&options)
            .expect("connects");
        let answer = client.execute(request).await.expect("answers");
        assert!(answer.status().is_success(), "{answer:?}");
    }

    #[tokio::test]
    async fn a_bucket_whose_rule_deletes_our_objects_is_refused() {
        // the prefix is this test's alone, since the other tests use the same bucket
        let prefix = format!("expires-{}/", std::process::id());
        let rules = format!(
            "<LifecycleConfiguration><Rule><ID>sweep</ID><Status>Enabled</Status><Filter><Prefix>{prefix}</Prefix></Filter>\
             <Expiration><Days>7</Days></Expiration></Rule></LifecycleConfiguration>"
        );
        set_lifecycle(rules).await;
        let refused = open_as(1, "expires", s3())
            .await
            .expect_err("is refused")
            .to_string();
        assert!(refused.contains("lifecycle rule sweep"), "{refused}");
        open_as(1, "stays", s3())
            .await
            .expect("another prefix opens");
    }
}
