//! The dashboards, alerts and runbooks of the chart. The test is a process of its own, because the recorder of metrics
//! belongs to the process.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use highwater_broker::node::Machine;
use highwater_kafka_peer::process::free_port;
use highwater_tests::{T0, TestNode, batch, http_get_whole};
use tempfile::TempDir;

const CHART: &str = "deploy/helm/highwater";
/// Metrics that a node has only with TLS, after a defect, or after a request to its store, and their sources.
const CONDITIONAL: &[(&str, &str)] = &[
    (
        "highwater_broker_request_panics_total",
        "broker/src/metrics/mod.rs",
    ),
    (
        "highwater_object_storage_request_seconds",
        "crates/object-storage/src/metrics.rs",
    ),
    (
        "highwater_broker_tls_certificate_expiry_seconds",
        "broker/src/metrics/tls.rs",
    ),
    (
        "highwater_broker_tls_handshakes_total",
        "broker/src/metrics/tls.rs",
    ),
];

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the workspace").to_path_buf()
}

/// Every name of a metric in a text, without the suffixes of a histogram.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c| !is_part(c));
    let names = words.filter(|word| word.starts_with("highwater_"));
    names
        .map(|name| {
            let suffixes = ["_bucket", "_sum", "_count"];
            let base = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
            base.unwrap_or(name).to_owned()
        })
        .collect()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_a_dashboard_or_an_alert_exists() -> Result<()> {
    let chart = root().join(CHART);
    let mut named = metrics_in(&read(&chart.join("alerts.yaml"))?);
    let mut dashboards = 0;
    for file in fs::read_dir(chart.join("dashboards"))? {
        named.extend(metrics_in(&read(&file?.path())?));
        dashboards += 1;
    }
    assert!(
        dashboards >= 4 && named.len() > 30,
        "{dashboards} {named:?}"
    );

    let address = format!("127.0.0.1:{}", free_port()?);
    let settings = [("highwater.admin.listener", address.as_str())];
    let node = TestNode::start_local_on(TempDir::new()?, &settings, Machine::real()).await?;
    let mut client = node.client().await?;
    client.produce("t", 0, batch(1, T0)).await?;
    let mut conditional = BTreeSet::new();
    for (name, source) in CONDITIONAL {
        let literal = format!("\"{name}\"");
        assert!(read(&root().join(source))?.contains(&literal), "{name}");
        conditional.insert((*name).to_owned());
    }
    named.retain(|name| !conditional.contains(name));
    let mut served = BTreeSet::new();
    for path in ["/metrics", "/metrics/detail"] {
        served.extend(metrics_in(&http_get_whole(&address, path).await?));
    }
    let missing: Vec<&String> = named.difference(&served).collect();
    assert!(missing.is_empty(), "no node has {missing:?}");
    node.stop().await?;
    Ok(())
}

/// Two releases of one Prometheus don't mix: an alert is about its own, and a dashboard about the one that is chosen.
#[test]
fn every_expression_selects_its_release() -> Result<()> {
    let chart = root().join(CHART);
    let mut texts = vec![(read(&chart.join("alerts.yaml"))?, "{SELECT")];
    let chosen = r#"{namespace=~\"$namespace\",app_kubernetes_io_instance=~\"$release\""#;
    for file in fs::read_dir(chart.join("dashboards"))? {
        texts.push((read(&file?.path())?, chosen));
    }
    for (text, selection) in texts {
        let mut expressions = 0;
        for line in text.lines().filter(|line| line.contains("expr")) {
            let selected = line.matches(selection).count();
            assert_eq!(line.matches("highwater_").count(), selected, "{line}");
            expressions += 1;
        }
        assert!(expressions > 0, "{text}");
    }
    Ok(())
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() -> Result<()> {
    let alerts = read(&root().join(CHART).join("alerts.yaml"))?;
    let alerts = alerts
        .lines()
        .filter_map(|line| line.strip_prefix("- alert: "));
    let alerts: BTreeSet<String> = alerts.map(str::to_owned).collect();
    let mut pages = BTreeSet::new();
    for page in fs::read_dir(root().join("docs/runbooks"))? {
        let path = page?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str());
        let name = name.context("a name is UTF-8")?;
        let text = read(&path)?;
        assert!(text.starts_with(&format!("# {name}\n")), "{name}");
        assert!(text.contains("\n## What to do\n"), "{name}");
        pages.insert(name.to_owned());
    }
    assert!(!alerts.is_empty());
    assert_eq!(alerts, pages);
    Ok(())
}
