//! Health and metrics over HTTP. The test is a process of its own, because the recorder of metrics belongs to the
//! process.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use highwater_broker::node::Machine;
use highwater_client::Connection;
use highwater_kafka_peer::process::free_port;
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::{FetchRequest, HeartbeatRequest};
use highwater_tests::{
    Panicking, T0, TestNode, batch, commit, find_coordinator, http_get as get, http_get_whole,
    join, large_batch, produce_request, until,
};
use tempfile::TempDir;

/// A node with its admin address, and the text of `/metrics`.
struct Admin {
    node: TestNode,
    address: String,
}

impl Admin {
    async fn start() -> Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let settings = [
            ("highwater.admin.listener", address.as_str()),
            ("group.initial.rebalance.delay.ms", "0"),
            ("offsets.topic.num.partitions", "1"),
            ("highwater.memory.limit", "64MiB"),
            // Nothing is uploaded before there is much to upload.
            ("highwater.upload.interval.ms", "600000"),
            ("max.connections.per.ip", "40"),
        ];
        let machine = Machine {
            authorizer: Arc::new(Panicking),
            ..Machine::real()
        };
        let node = TestNode::start_local_on(TempDir::new()?, &settings, machine).await?;
        Ok(Self { node, address })
    }

    async fn metrics(&self) -> Result<String> {
        let (status, text) = get(&self.address, "/metrics").await?;
        assert_eq!(status, 200);
        Ok(text)
    }

    /// The value of a series.
    async fn value(&self, series: &str) -> Result<f64> {
        value(&self.metrics().await?, series)
    }

    /// Waits until the value of a series is as expected.
    async fn becomes(&self, series: &str, must: impl Fn(f64) -> bool) -> Result<()> {
        until(series, async || Ok(must(self.value(series).await?))).await
    }
}

fn value(text: &str, series: &str) -> Result<f64> {
    let of = |line: &'_ str| {
        line.strip_prefix(series)?
            .strip_prefix(' ')
            .map(str::to_owned)
    };
    let line = text.lines().find_map(of);
    let line = line.with_context(|| format!("no {series} in {text}"))?;
    Ok(line.trim().parse()?)
}

fn every_metric_is_described(text: &str) {
    let described: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next())
        .collect();
    let series = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in series {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let is_known = described.iter().any(|one| name.starts_with(one));
        let is_ours = name.starts_with("highwater_") || name.starts_with("process_");
        assert!(is_known && is_ours, "{name} is not described");
    }
}

async fn fetch(client: &mut Connection, topic: &str, max_wait_ms: i32) -> Result<i16> {
    let request = FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        ..highwater_tests::fetch(topic, 0, 1 << 20)
    };
    let answer = client.call(&request, 12).await?;
    Ok(answer.responses[0].partitions[0].error_code)
}

async fn drive_records(admin: &Admin) -> Result<()> {
    let mut client = admin.node.client().await?;
    client.produce("t", 0, batch(1, T0)).await?;
    let bytes = batch(1, T0).len().to_string().parse::<f64>()?;
    assert_eq!(fetch(&mut client, "t", 1000).await?, 0);
    assert_eq!(
        fetch(&mut client, "missing", 0).await?,
        ErrorCode::UnknownTopicOrPartition.code()
    );
    let text = admin.metrics().await?;
    for (series, expected) in [
        ("highwater_broker_requests_total{api=\"Produce\"}", 1.0),
        (
            "highwater_broker_request_seconds_count{api=\"Produce\"}",
            1.0,
        ),
        (
            "highwater_broker_request_seconds_bucket{api=\"Produce\",le=\"+Inf\"}",
            1.0,
        ),
        ("highwater_broker_request_seconds_count{api=\"Fetch\"}", 2.0),
        ("highwater_broker_fetch_wait_seconds_count", 2.0),
        (
            "highwater_broker_record_bytes_total{direction=\"in\"}",
            bytes,
        ),
        (
            "highwater_broker_record_bytes_total{direction=\"out\"}",
            bytes,
        ),
        ("highwater_broker_records_total{direction=\"in\"}", 1.0),
        ("highwater_broker_records_total{direction=\"out\"}", 1.0),
        (
            "highwater_broker_request_errors_total{api=\"Fetch\",error=\"UNKNOWN_TOPIC_OR_PARTITION\"}",
            1.0,
        ),
        ("highwater_broker_partitions{state=\"open\"}", 1.0),
        ("highwater_broker_partitions{state=\"not_open\"}", 0.0),
        (
            "highwater_build_info{version=\"0.1.0\",commit=\"unknown\"}",
            1.0,
        ),
        ("highwater_broker_connections", 1.0),
        (
            "highwater_controller_registered_brokers{state=\"active\"}",
            1.0,
        ),
        (
            "highwater_controller_registered_brokers{state=\"fenced\"}",
            0.0,
        ),
    ] {
        assert_eq!(value(&text, series)?, expected, "{series}");
    }
    for series in [
        "highwater_disk_log_sync_seconds_count{log=\"wal-writer\"}",
        "highwater_disk_log_sync_seconds_count{log=\"raft-writer\"}",
        "highwater_broker_disk_free_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
        "highwater_broker_heartbeat_age_seconds",
    ] {
        assert!(value(&text, series)? > 0.0, "{series}");
    }
    every_metric_is_described(&text);
    Ok(())
}

async fn drive_connections(admin: &Admin) -> Result<()> {
    let refused =
        |reason: &str| format!("highwater_broker_frames_refused_total{{reason=\"{reason}\"}}");
    // The requests have an invalid length, a TLS handshake, a header without its end, an unknown API, and a body that
    // ends too early.
    let frames: [(&str, &[u8]); 5] = [
        ("length", &[0x7f, 0xff, 0xff, 0xff]),
        ("tls", &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("header", &[0, 0, 0, 4, 0, 3, 0, 0]),
        (
            "unsupported",
            &[0, 0, 0, 10, 0x70, 0, 0, 0, 0, 0, 0, 1, 255, 255],
        ),
        (
            "malformed",
            &[0, 0, 0, 12, 0, 3, 0, 1, 0, 0, 0, 1, 255, 255, 0, 0],
        ),
    ];
    for (reason, frame) in frames {
        let mut client = admin.node.client().await?;
        client.send_raw(frame).await?;
        assert!(client.is_closed().await, "{reason}");
        // it is counted once the connection has ended
        until(reason, async || {
            Ok(admin.value(&refused(reason)).await? >= 1.0)
        })
        .await?;
        assert_eq!(admin.value(&refused(reason)).await?, 1.0, "{reason}");
    }
    let accepted = "highwater_broker_connections_total{outcome=\"accepted\"}";
    assert!(admin.value(accepted).await? >= 6.0);
    let mut client = admin.node.client().await?;
    let heartbeat = HeartbeatRequest {
        group_id: "broken".into(),
        ..Default::default()
    };
    client.send(&heartbeat, 4).await?;
    assert!(client.is_closed().await);
    let panics = "highwater_broker_request_panics_total{api=\"Heartbeat\"}";
    assert_eq!(admin.value(panics).await?, 1.0);
    // This is one connection more than an address may have.
    let mut held = Vec::new();
    for _ in 0..41 {
        held.push(admin.node.client().await?);
    }
    let refused = "highwater_broker_connections_total{outcome=\"refused\"}";
    admin.becomes(refused, |value| value >= 1.0).await?;
    drop(held);
    let connections = "highwater_broker_connections";
    admin.becomes(connections, |value| value <= 2.0).await
}

/// Durable records wait for their upload. Then the store is away until produce waits too, and comes back.
async fn drive_uploads(admin: &Admin) -> Result<()> {
    for series in [
        "highwater_s3stream_upload_backlog_bytes",
        "highwater_s3stream_upload_oldest_seconds",
        "highwater_s3stream_wal_used_bytes",
        "highwater_s3stream_wal_limit_bytes",
        "highwater_broker_memory_used_bytes{budget=\"log_cache\"}",
        "highwater_broker_memory_limit_bytes{budget=\"log_cache\"}",
    ] {
        assert!(admin.value(series).await? > 0.0, "{series}");
    }
    let late = "highwater_object_storage_put_oldest_seconds{class=\"upload\"}";
    assert_eq!(admin.value(late).await?, 0.0, "no put is under way");
    let claims = "highwater_broker_metadata_claims";
    assert_eq!(admin.value(claims).await?, 0.0);
    let objects = admin.node.objects();
    let away = objects.with_extension("away");
    std::fs::rename(&objects, &away)?;
    std::fs::write(&objects, "no directory")?;
    let mut client = admin.node.client().await?;
    let large = large_batch(900_000, T0);
    let mut waiting = false;
    for _ in 0..40 {
        client
            .send(&produce_request("t", 0, large.clone(), -1), 12)
            .await?;
        waiting = admin
            .value("highwater_s3stream_produce_waiting_requests")
            .await?
            > 0.0;
        if waiting {
            break;
        }
    }
    ensure!(waiting, "memory has no end");
    let [failing, held] = [
        "highwater_s3stream_upload_failing_seconds",
        "highwater_s3stream_produce_held_back_seconds",
    ];
    admin.becomes(failing, |seconds| seconds > 0.0).await?;
    admin.becomes(held, |seconds| seconds > 0.0).await?;
    std::fs::remove_file(&objects)?;
    std::fs::rename(&away, &objects)?;
    admin.becomes(held, |seconds| seconds == 0.0).await?;
    admin.becomes(failing, |seconds| seconds == 0.0).await?;
    let [puts, bytes, seconds] = [
        "highwater_object_storage_requests_total{op=\"put\",class=\"upload\",outcome=\"ok\"}",
        "highwater_object_storage_bytes_total{op=\"put\",class=\"upload\"}",
        "highwater_object_storage_request_seconds_count{op=\"put\"}",
    ];
    for series in [puts, bytes, seconds, claims] {
        admin.becomes(series, |value| value > 0.0).await?;
    }
    Ok(())
}

async fn drive_groups(admin: &Admin) -> Result<()> {
    let mut client = admin.node.client().await?;
    find_coordinator(&mut client, "g").await?;
    let answer = client.call(&commit("g", "t", 0), 7).await?;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    let empty = "highwater_broker_groups{state=\"Empty\"}";
    assert_eq!(admin.value(empty).await?, 1.0);
    client.call(&join("other"), 2).await?;
    let rebalances = "highwater_broker_group_rebalances_total";
    assert_eq!(admin.value(rebalances).await?, 1.0);
    drive_detail(admin).await
}

async fn drive_detail(admin: &Admin) -> Result<()> {
    let (status, detail) = get(&admin.address, "/metrics/detail").await?;
    assert_eq!(status, 200);
    every_metric_is_described(&detail);
    let of_topic = "topic=\"t\",partition=\"0\"";
    for (series, expected) in [
        (
            format!("highwater_topic_partition_log_start_offset{{{of_topic}}}"),
            0.0,
        ),
        (
            format!("highwater_topic_partition_high_watermark{{{of_topic}}}"),
            1.0,
        ),
        (
            format!("highwater_group_committed_offset{{group=\"g\",{of_topic}}}"),
            0.0,
        ),
        (
            format!("highwater_group_lag_records{{group=\"g\",{of_topic}}}"),
            1.0,
        ),
    ] {
        assert_eq!(value(&detail, &series)?, expected, "{series}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_served_and_every_metric_is_described_and_changes() -> Result<()> {
    let admin = Admin::start().await?;
    assert_eq!(get(&admin.address, "/health/live").await?.0, 200);
    let (status, text) = get(&admin.address, "/health/ready").await?;
    assert_eq!(
        (status, text.lines().next()),
        (200, Some("ready")),
        "{text}"
    );
    assert_eq!(get(&admin.address, "/nowhere").await?.0, 404);
    for path in ["/metrics", "/metrics/detail"] {
        let answer = http_get_whole(&admin.address, path).await?;
        let is_typed = answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8");
        assert!(is_typed, "{path}: {}", &answer[..answer.len().min(300)]);
    }
    // Nothing was uploaded yet: the metric of an event that has not happened is zero, and not missing.
    let text = admin.metrics().await?;
    for outcome in ["ok", "failed"] {
        let upload = format!(
            "highwater_object_storage_requests_total{{op=\"put\",class=\"upload\",outcome=\"{outcome}\"}} 0"
        );
        assert!(text.contains(&upload), "{text}");
    }
    admin.node.create_topic("t", 1, &[]).await?;
    drive_records(&admin).await?;
    drive_connections(&admin).await?;
    drive_groups(&admin).await?;
    drive_uploads(&admin).await
}
