//! Clients of a listener that is on SSL.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use highwater_broker::auth::{Authorizer, Operation, Principal, Resource};
use highwater_broker::node::Machine;
use highwater_client::Connection;
use highwater_protocol::StrBytes;
use highwater_protocol::messages::describe_configs_request::DescribeConfigsResource;
use highwater_protocol::messages::{DescribeConfigsRequest, MetadataRequest};
use highwater_tests::{
    Certificates, T0, TestNode, connect, connect_tls, large_batch, produce_request, read,
    tls_client, until,
};
use highwater_tls::fixture::Authority;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Notes the principals of requests.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<String>>);

impl Authorizer for Seen {
    fn allows(&self, principal: &Principal, _: Operation, _: Resource<'_>) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(principal.to_string());
        true
    }
}

/// A node with a listener on SSL.
async fn start(
    files: &Certificates,
    auth: &str,
    authorizer: Arc<dyn Authorizer>,
) -> Result<TestNode> {
    let machine = Machine {
        authorizer,
        ..Machine::real()
    };
    let own = files.settings();
    let mut settings = vec![
        ("listeners", "SSL://127.0.0.1:0"),
        ("ssl.client.auth", auth),
    ];
    settings.extend(own.iter().map(|(key, value)| (*key, value.as_str())));
    TestNode::start_in(TempDir::new()?, &settings, machine).await
}

async fn create(client: &mut Connection, topic: &str) -> Result<()> {
    let request = highwater_client::create_topics(vec![highwater_client::new_topic(topic, 1, &[])]);
    let created = client.call(&request, 7).await?;
    assert_eq!(created.topics[0].error_code, 0);
    Ok(())
}

// KAFKA-BEHAVIOUR 30
#[tokio::test(flavor = "multi_thread")]
async fn clients_are_known_by_their_certificates_and_large_requests_pass() -> Result<()> {
    let authority = Authority::new("clients");
    let files = Certificates::new(&authority)?;
    let seen = Arc::new(Seen::default());
    let node = start(
        &files,
        "requested",
        Arc::clone(&seen) as Arc<dyn Authorizer>,
    )
    .await?;
    for (issuer, principal) in [
        (Some(&authority), "User:CN=alice"),
        (None, "User:ANONYMOUS"),
    ] {
        let mut client =
            connect_tls(node.address, &tls_client(issuer, "alice", &authority)).await?;
        let topic = if issuer.is_some() { "known" } else { "unknown" };
        create(&mut client, topic).await?;
        let batch = large_batch(900_000, T0);
        let answer = client
            .call(&produce_request(topic, 0, batch.clone(), -1), 9)
            .await?;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
        let (code, records) = read(&mut client, topic, 0).await?;
        assert!(code == 0 && records.len() == batch.len(), "{code}");
        let seen = std::mem::take(&mut *seen.0.lock().unwrap_or_else(PoisonError::into_inner));
        assert!(seen.iter().all(|seen| seen == principal), "{seen:?}");
        assert!(!seen.is_empty());
    }
    node.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_is_refused_on_ssl_and_other_clients_go_on() -> Result<()> {
    let authority = Authority::new("clients");
    let files = Certificates::new(&authority)?;
    let node = start(&files, "required", Arc::new(Seen::default())).await?;
    // a client that says nothing holds nobody up
    let silent = tokio::net::TcpStream::connect(node.address).await?;
    let mut plain = connect(node.address).await?;
    assert!(plain.versions().await.is_err());
    let mut raw = tokio::net::TcpStream::connect(node.address).await?;
    raw.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff])
        .await?;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), raw.read_to_end(&mut answer));
    read.await??;
    assert_eq!(answer[..2], [21, 3], "an alert of TLS, and nothing else");
    let unknown = Authority::new("others");
    for issuer in [None, Some(&unknown)] {
        let stranger = tls_client(issuer, "stranger", &authority);
        let mut stranger = connect_tls(node.address, &stranger).await?;
        let refused = stranger.versions().await.expect_err("is refused");
        assert!(format!("{refused:?}").contains("OwnRefused"), "{refused:?}");
    }
    let client = tls_client(Some(&authority), "client", &authority);
    let mut client = connect_tls(node.address, &client).await?;
    client.call(&MetadataRequest::default(), 9).await?;
    drop(silent);
    node.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_change_are_those_of_the_next_connections() -> Result<()> {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let files = Certificates::new(&first)?;
    let node = start(&files, "none", Arc::new(Seen::default())).await?;
    let mut before = connect_tls(node.address, &tls_client(None, "", &first)).await?;
    let trusting = tls_client(None, "", &second);
    assert!(connect_tls(node.address, &trusting).await.is_err());
    files.identify(&second, "node")?;
    until("the node shows its new certificate", async || {
        Ok(connect_tls(node.address, &trusting).await.is_ok())
    })
    .await?;
    before.call(&MetadataRequest::default(), 9).await?;
    node.stop().await?;
    Ok(())
}

// Kafka's type PASSWORD: neither the value nor its synonyms are told
#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_described_without_their_values() -> Result<()> {
    let node = TestNode::start(&[("ssl.key.password", "hunter2")]).await?;
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 4,
            resource_name: StrBytes::from("1"),
            configuration_keys: Some(vec![StrBytes::from("ssl.key.password")]),
        }],
        include_synonyms: true,
        ..Default::default()
    };
    let answer = node.client().await?.call(&request, 4).await?;
    let described = &answer.results[0].configs[0];
    assert!(
        described.is_sensitive && described.value.is_none(),
        "{described:?}"
    );
    assert_eq!((described.config_type, described.synonyms.len()), (9, 1));
    assert!(!format!("{answer:?}").contains("hunter2"), "{answer:?}");
    node.stop().await?;
    Ok(())
}
