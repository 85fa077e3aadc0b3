//! The chart: what it renders is what Kubernetes and the broker accept, and wrong values are refused with the reason.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::schemas;
use crate::certificates;
use crate::jars::has;
use crate::programs;
use crate::report::{Outcome, say};
use crate::rust::{output_of, run};
use crate::server::Kind;

pub(super) const CHART: &str = "deploy/helm/highwater";
/// Values for which the chart is tested.
pub(super) const MATRIX: &str = "deploy/helm/highwater/ci";
const PROCESSES: &str = "tests/kubernetes/processes.sh";
const BINARY: &str = "target/release/highwater";
/// Kinds of other projects, whose schemas Kubernetes does not have.
const FOREIGN: &str = "Certificate,PodMonitor,PrometheusRule";

/// The file for the chart's own jobs, which is no configuration of a node.
const CLIENT: &str = "client";
/// Where the pods of these jobs have the certificates that the file names.
const CLIENT_CERTIFICATES: &str = "/etc/highwater/tls/internal";
/// An address at which nothing answers.
const NO_BROKER: &str = "127.0.0.1:1";
/// The variable of a pod with its ordinal.
const POD_INDEX: &str = "${env:POD_INDEX}";
/// The brokers of the suite with processes.
const PROCESS_BROKERS: usize = 4;

/// Changes of values that leave the brokers as they are.
const KEEP_BROKERS: [&str; 5] = [
    "broker.replicas=5",
    "broker.unregisterStopped=false",
    "networkPolicy.enabled=false",
    "topics[0].name=more,topics[0].partitions=1",
    "jobs.nodeSelector.x=y",
];
/// Changes of values that change a broker's file or its pod, and so replace the brokers.
const REPLACE_BROKERS: [&str; 7] = [
    "commonAnnotations.x=y",
    "commonLabels.x=y",
    "config.num\\.partitions=3",
    "broker.rack.label=zone",
    "broker.rack.byOrdinal={a,b}",
    "listeners.internal.port=9099",
    "listeners.external[0].name=MORE,listeners.external[0].port=9098,\
     listeners.external[0].type=NodePort,listeners.external[0].advertisedHost=a-{ordinal},\
     listeners.external[0].firstNodePort=32000",
];

/// Settings: the value of every node, and that of the brokers in its place, which templates take for empty.
const OVERRIDDEN: [(&str, &str, &str); 3] = [
    ("auto.create.topics.enable", "true", "false"),
    ("log.retention.hours", "7", "0"),
    ("log.cleanup.policy", "compact", ""),
];

/// Values that must be refused, and what the refusal says.
const REFUSED: &[(&str, &str)] = &[
    ("objectStorage.bucket=", "objectStorage.bucket is needed"),
    ("unknown=1", "additional properties 'unknown' not allowed"),
    (
        "listeners.internal.tls.existingSecret=certificate",
        "listeners.internal: tls has a certificate and is not enabled",
    ),
    (
        "broker.heap.limit=2Gi",
        "additional properties 'heap' not allowed",
    ),
    (
        "broker.memory.limit=64Mi",
        "broker.memory.limit is 64Mi, and 128Mi is the least",
    ),
    ("broker.memory.limit=much", "'/broker/memory/limit'"),
    ("controller.replicas=2", "value must be one of 1, 3, 5"),
    ("broker.wal=ram", "value must be one of 'object', 'disk'"),
    (
        "broker.terminationGracePeriodSeconds=31",
        "broker.terminationGracePeriodSeconds must be 33 or more",
    ),
    (
        "listeners.internal.tls.enabled=true",
        "listeners.internal: tls needs existingSecret",
    ),
    (
        "config.node\\.id=7",
        "config: node.id follows from other values",
    ),
    (
        "listeners.external[0].name=INTERNAL,listeners.external[0].port=9094,\
         listeners.external[0].type=ClusterIP,listeners.external[0].advertisedHost=a",
        "the name INTERNAL is used twice",
    ),
    (
        "listeners.external[0].name=OUT,listeners.external[0].port=9092,\
         listeners.external[0].type=ClusterIP,listeners.external[0].advertisedHost=a",
        "the port 9092 of OUT is used twice",
    ),
    (
        "listeners.external[0].name=OUT,listeners.external[0].port=9094,\
         listeners.external[0].type=NodePort,listeners.external[0].advertisedHost=a",
        "OUT needs firstNodePort or nodePorts",
    ),
    (
        "listeners.external[0].name=OUT,listeners.external[0].port=9094,\
         listeners.external[0].type=NodePort,listeners.external[0].advertisedHost=a,\
         listeners.external[0].firstNodePort=31090,listeners.external[0].bootstrapNodePort=31092",
        "the node port 31092 is used twice",
    ),
    (
        "listeners.controller.port=9644",
        "the port 9644 is that of the metrics",
    ),
    (
        "broker.wal=disk,broker.persistentVolumeClaimRetentionPolicy.whenScaled=Delete",
        "may delete records that are not uploaded",
    ),
    (
        "broker.wal=disk,broker.persistence.size=512Mi",
        "with wal: disk 1Gi is the least",
    ),
    (
        "listeners.internal.port=9644",
        "listeners.internal: the port 9644 is that of the metrics",
    ),
    (
        "listeners.external[0].name=OUT,listeners.external[0].port=9094,\
         listeners.external[0].type=LoadBalancer,listeners.external[0].advertisedHost=a",
        "all brokers of OUT tell the same address",
    ),
    (
        "listeners.external[0].name=OUT,listeners.external[0].port=9094,\
         listeners.external[0].type=NodePort,listeners.external[0].advertisedHost=a,\
         listeners.external[0].firstNodePort=9000",
        "'/listeners/external/0/firstNodePort'",
    ),
    (
        "broker.autoscaling.enabled=true,broker.autoscaling.minReplicas=7",
        "minReplicas is 7, and maxReplicas is 6",
    ),
    (
        "controller.podDisruptionBudget.maxUnavailable=2",
        "without 2 of 3 controllers nothing can be decided; 1 is the most",
    ),
    (
        "controller.podDisruptionBudget.maxUnavailable=100%",
        "'/controller/podDisruptionBudget/maxUnavailable'",
    ),
];

/// The suite.
pub(crate) fn check() -> Result<Outcome> {
    if !programs::has_go() {
        return Ok(Outcome::Skipped("go is missing".to_owned()));
    }
    if !has("openssl", "version") {
        return Ok(Outcome::Skipped("openssl is missing".to_owned()));
    }
    let helm = programs::HELM.build()?;
    let kubeconform = programs::KUBECONFORM.build()?;
    let schemas = schemas::make()?;
    let mut matrix = std::fs::read_dir(MATRIX)?
        .map(|file| Ok(file?.path()))
        .collect::<Result<Vec<_>>>()?;
    matrix.sort();
    ensure!(matrix.len() >= 3, "{MATRIX} has too few values");
    for values in &matrix {
        let name = values.display();
        let accepted = accepted(&helm, values, |rendered| {
            conforms(&kubeconform, &schemas, rendered)
        });
        let count = accepted.with_context(|| name.to_string())?;
        say(&format!("{name}: {count} configurations"));
    }
    for (set, why) in REFUSED {
        let mut template = Command::new(&helm);
        template.args(["template", "rel", CHART, "--set", "objectStorage.bucket=b"]);
        let output = template.args(["--set", set]).output()?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "{set} is not refused");
        ensure!(
            told.contains(why),
            "{set} is refused without `{why}`: {told}"
        );
    }
    Ok(Outcome::Passed)
}

/// Checks what the chart renders with the values of a file, and returns the number of configurations in it.
fn accepted(helm: &Path, values: &Path, conforms: impl Fn(&str) -> Result<()>) -> Result<usize> {
    let rendered = render(helm, values, &[])?;
    let is_same = rendered == render(helm, values, &[])?;
    ensure!(is_same, "it renders otherwise the second time");
    conforms(&rendered)?;
    replaces(helm, values, &rendered)?;
    overrides(helm, values)?;
    let files = properties(&rendered)?;
    for (name, text) in &files {
        match name.as_str() {
            CLIENT => is_accepted_of_client(text)?,
            _ => is_accepted(name, text)?,
        }
    }
    Ok(files.len())
}

/// Renders the chart with the values of a file.
fn render(helm: &Path, values: &Path, more: &[&str]) -> Result<String> {
    let mut template = Command::new(helm);
    template.args(["template", "rel", CHART, "--namespace", "ns"]);
    template.arg("--values").arg(values);
    output_of(template.args(more))
}

/// The pods of the brokers change with what is in them and in their files, and with nothing else; the files that they
/// name are there; and a job that changes has another name, because Kubernetes refuses to change it.
fn replaces(helm: &Path, values: &Path, rendered: &str) -> Result<()> {
    let pods = pods_of_brokers(rendered)?;
    let named = pods.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("configMap: {name: ")?;
        name.strip_suffix('}')
    });
    for name in named {
        let is_there = rendered.contains(&format!("\n  name: {name}\n"));
        ensure!(is_there, "there is no ConfigMap {name}");
    }
    let mut jobs = BTreeMap::new();
    same_jobs(&mut jobs, rendered)?;
    for set in KEEP_BROKERS {
        let changed = render(helm, values, &["--set", set])?;
        let is_same = pods_of_brokers(&changed)? == pods;
        ensure!(is_same, "{set} replaces the brokers");
        same_jobs(&mut jobs, &changed).context(set)?;
    }
    for set in REPLACE_BROKERS {
        let changed = render(helm, values, &["--set", set])?;
        let is_same = pods_of_brokers(&changed)? == pods;
        ensure!(!is_same, "{set} replaces no broker");
        same_jobs(&mut jobs, &changed).context(set)?;
    }
    ensure!(!jobs.is_empty(), "there are no jobs");
    Ok(())
}

/// The specs of jobs are those of former jobs of the same names. Adds the others to these.
fn same_jobs(former: &mut BTreeMap<String, String>, rendered: &str) -> Result<()> {
    for job in objects(rendered, &["Job"]) {
        let (metadata, spec) = job.split_once("\nspec:\n").context("no spec")?;
        let mut lines = metadata.lines();
        let name = lines.find_map(|line| line.strip_prefix("  name: "));
        let name = name.context("no name")?;
        let spec = spec.trim_end();
        let is_same = former.get(name).is_none_or(|former| former == spec);
        ensure!(is_same, "the job {name} has another spec");
        former.insert(name.to_owned(), spec.to_owned());
    }
    Ok(())
}

/// The settings of the brokers override those of every node, and the controllers keep these.
fn overrides(helm: &Path, values: &Path) -> Result<()> {
    let mut more = Vec::new();
    for (key, of_all, of_brokers) in OVERRIDDEN {
        let key = key.replace('.', "\\.");
        more.push(format!("--set=config.{key}={of_all}"));
        more.push(format!("--set=broker.config.{key}={of_brokers}"));
    }
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let files = properties(&render(helm, values, &more)?)?;
    for (name, text) in files.iter().filter(|(name, _)| name != CLIENT) {
        for (key, of_all, of_brokers) in OVERRIDDEN {
            let is_common = name == "controller";
            let value = if is_common { of_all } else { of_brokers };
            let is_there = text.lines().any(|line| line == format!("{key}={value}"));
            ensure!(is_there, "{name}: {key} is not `{value}`");
        }
    }
    Ok(())
}

/// The rendered objects of some kinds.
pub(super) fn objects<'a>(rendered: &'a str, kinds: &'a [&str]) -> impl Iterator<Item = &'a str> {
    rendered.split("\n---").filter(|object| {
        let kind = object.lines().find_map(|line| line.strip_prefix("kind: "));
        kind.is_some_and(|kind| kinds.contains(&kind))
    })
}

/// The template of the brokers' pods.
fn pods_of_brokers(rendered: &str) -> Result<&str> {
    let mut sets = objects(rendered, &["StatefulSet"]);
    let set = sets.find(|set| set.contains("-broker\n"));
    let set = set.context("there are no brokers")?;
    let (_, template) = set.split_once("\n  template:").context("no pods")?;
    Ok(template)
}

/// The chart's configurations on this machine: processes in network namespaces form the cluster, on MinIO.
pub(crate) fn processes() -> Result<Outcome> {
    let Some(minio) = Kind::Minio.build()? else {
        return Ok(Outcome::Skipped("go is missing".to_owned()));
    };
    let mut possible = Command::new("unshare");
    possible.args(["--net", "--mount", "ip", "link"]);
    if !possible
        .output()
        .is_ok_and(|output| output.status.success())
    {
        let missing = "network namespaces (root, util-linux and iproute2) are missing";
        return Ok(Outcome::Skipped(missing.to_owned()));
    }
    let mut template = Command::new(programs::HELM.build()?);
    template.args(["template", "hw", CHART, "--namespace", "ns"]);
    template.args(["--set", "objectStorage.bucket=highwater"]);
    template.args(["--set", "objectStorage.endpoint=http://minio:9000"]);
    let dir = Path::new("target/test-run/chart-processes");
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    for (name, text) in properties(&output_of(&mut template)?)? {
        if name == "broker" {
            for ordinal in 0..PROCESS_BROKERS {
                let text = text.replace(POD_INDEX, &ordinal.to_string());
                let file = format!("hw-highwater-broker-{ordinal}.properties");
                std::fs::write(dir.join(file), text)?;
            }
        } else {
            std::fs::write(dir.join(format!("{name}.properties")), text)?;
        }
    }
    let mut script = Command::new("unshare");
    script.args(["--net", "--mount", "--pid", "--fork", "--kill-child"]);
    script.args(["--mount-proc", "--propagation", "private", PROCESSES]);
    script.arg(std::fs::canonicalize(dir)?);
    script.arg(std::fs::canonicalize(BINARY)?).arg(minio);
    run(&mut script)?;
    Ok(Outcome::Passed)
}

fn conforms(kubeconform: &Path, schemas: &Path, rendered: &str) -> Result<()> {
    let file = Path::new("target/test-run").join("rendered.yaml");
    std::fs::create_dir_all("target/test-run")?;
    std::fs::write(&file, rendered)?;
    let schemas = std::fs::canonicalize(schemas)?;
    let location = "{{.ResourceKind}}{{.KindSuffix}}.json";
    let location = format!("{}/{location}", schemas.display());
    let mut check = Command::new(kubeconform);
    check.args(["-strict", "-summary", "-skip", FOREIGN]);
    check.args(["-schema-location", &location]);
    let told = check.arg(&file).output()?;
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    ensure!(told.status.success(), "kubeconform: {text}");
    say(text.trim());
    Ok(())
}

/// The files in the rendered ConfigMaps, of nodes and of the chart's own jobs: each with its name.
fn properties(rendered: &str) -> Result<Vec<(String, String)>> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut is_inside = false;
    for line in rendered.lines() {
        if let Some(name) = line.trim().strip_suffix(".properties: |") {
            found.push((name.to_owned(), String::new()));
            is_inside = true;
        } else if is_inside && line.starts_with("    ") {
            let (_, text) = found.last_mut().context("a configuration has no name")?;
            text.push_str(line.trim());
            text.push('\n');
        } else {
            is_inside = false;
        }
    }
    ensure!(found.len() > 1, "nothing is rendered");
    Ok(found)
}

/// The binary reads the configuration, in an environment as a pod has it.
fn is_accepted(name: &str, text: &str) -> Result<()> {
    let file = Path::new("target/test-run").join("rendered.properties");
    std::fs::write(&file, text)?;
    let mut config = Command::new(BINARY);
    config.arg("config").arg("--config").arg(&file);
    config.envs([
        ("POD_NAME", "rel-highwater-0"),
        ("POD_IP", "10.0.0.1"),
        ("NODE_IP", "10.1.0.1"),
        ("NODE_ID", "1000"),
        ("POD_INDEX", "0"),
        ("ZONE", "zone-1"),
    ]);
    let told = output_of(&mut config).with_context(|| name.to_owned())?;
    let mut settings = told.lines().filter(|line| !line.starts_with('#'));
    let left = settings.find(|line| line.contains("${"));
    ensure!(
        left.is_none(),
        "{name} has a variable that is not replaced: {left:?}"
    );
    Ok(())
}

/// The binary reads the file of the chart's own jobs and the certificates that it names, as a call shows that follows.
fn is_accepted_of_client(text: &str) -> Result<()> {
    let dir = Path::new("target/test-run/chart-client");
    certificates::make(dir)?;
    std::fs::copy(dir.join("client.pem"), dir.join("tls-combined.pem"))?;
    let file = dir.join("client.properties");
    let certificates = std::fs::canonicalize(dir)?.display().to_string();
    std::fs::write(&file, text.replace(CLIENT_CERTIFICATES, &certificates))?;
    let mut check = Command::new(BINARY);
    check.args(["check", "--timeout=0", "--bootstrap-server", NO_BROKER]);
    let told = check.arg("--command-config").arg(&file).output()?;
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    let calls = told.contains(&format!("at {NO_BROKER}: connection failed"));
    ensure!(calls, "{CLIENT} is not accepted: {told}");
    Ok(())
}
