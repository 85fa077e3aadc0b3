//! The release of the chart under test, the store and the clients around it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::chart::CHART;
use super::control_plane::{Cluster, until};
use crate::jars;
use crate::programs;
use crate::report::say;
use crate::rust::output_of;
use crate::scenario::build_go;
use crate::time::now;

/// The tool that lists the brokers.
pub(super) const CLUSTER: &str = "org.apache.kafka.tools.ClusterTool";
/// The name of the release, and the namespace in which only restricted pods are admitted.
pub(super) const NAME: &str = "hw";
pub(super) const NAMESPACE: &str = "highwater";
/// Where clients inside begin.
pub(super) const INSIDE: &str = "hw-highwater-bootstrap.highwater.svc.cluster.local:9092";
/// Where clients outside begin: a port of any node.
pub(super) const OUTSIDE: &str = "10.77.0.11:31089,10.77.0.12:31089,10.77.0.13:31089";
const MANIFESTS: &str = "tests/kubernetes/cluster";
const TOOLS: &str = "tests/clients/tools";
/// The directory of Kafka's tools among the programs that xtask fetched.
const JARS: &str = "kafka-tools-4.3.1";
/// The program that writes and reads numbered records, there too.
const STREAM: &str = "kubernetes-stream";
/// The node port of broker 0; the next brokers have the next ones.
const FIRST_NODE_PORT: usize = 31_090;
/// The time in which a release becomes ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// That helm waits, and how long.
const WAIT: [&str; 2] = ["--wait", "--timeout=240s"];

/// The cluster with the release.
pub(crate) struct Release {
    pub(super) cluster: Cluster,
    helm: PathBuf,
    /// The programs of clients, on this machine and in the pod `clients`.
    deps: PathBuf,
}

/// What clients are told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) brokers: BTreeSet<i64>,
    pub(super) leaders: BTreeSet<i64>,
}

/// Where clients outside reach one broker, by any node.
pub(super) fn outside(node: &str, broker: usize) -> String {
    format!("{node}:{}", FIRST_NODE_PORT + broker)
}

/// Says how long something took, and fails if that is beyond its bound.
pub(super) fn within(what: &str, took: Duration, max: Duration) -> Result<()> {
    let told = format!("{what}: {:.1} s, of {max:?}", took.as_secs_f64());
    ensure!(took <= max, "too late: {told}");
    say(&told);
    Ok(())
}

impl Release {
    /// Builds what the clients need.
    pub(crate) fn of(cluster: Cluster) -> Result<Self> {
        let helm = programs::HELM.build()?;
        let deps = helm.parent().context("no directory of programs")?;
        let deps = std::fs::canonicalize(deps)?;
        jars::fetch(TOOLS, JARS)?;
        build_go("stream", STREAM)?;
        Ok(Self {
            cluster,
            helm,
            deps,
        })
    }

    /// Starts the store and the pod of the clients, and makes what a release needs to exist.
    pub(crate) fn prepare(&self) -> Result<()> {
        let minio = programs::MINIO.build()?;
        let minio = minio.file_name().context("MinIO has no name")?;
        let store = std::fs::read_to_string(Path::new(MANIFESTS).join("store.yaml"))?;
        let store = store
            .replace("@TEST_DEPS@", &self.deps.display().to_string())
            .replace("@MINIO@", &minio.to_string_lossy());
        self.cluster.apply(&store)?;
        self.namespace(NAMESPACE)?;
        let ready = ["wait", "--namespace=store", "--for=condition=Ready"];
        let pods = ["pod/minio", "pod/clients", "--timeout=120s"];
        self.cluster.kubectl(&[&ready[..], &pods].concat())?;
        Ok(())
    }

    /// Creates a namespace that admits only restricted pods, with the credentials of the store.
    pub(super) fn namespace(&self, name: &str) -> Result<()> {
        let kubectl = |args: &[&str]| self.cluster.kubectl(args);
        kubectl(&["create", "namespace", name])?;
        let enforce = "pod-security.kubernetes.io/enforce=restricted";
        kubectl(&["label", "namespace", name, enforce])?;
        kubectl(&[
            "create",
            "secret",
            "generic",
            "highwater-store",
            &format!("--namespace={name}"),
            "--from-literal=AWS_ACCESS_KEY_ID=highwater",
            "--from-literal=AWS_SECRET_ACCESS_KEY=highwater-secret",
        ])?;
        Ok(())
    }

    /// Runs kubectl in the namespace of the release.
    pub(super) fn kubectl(&self, args: &[&str]) -> Result<String> {
        let namespace = format!("--namespace={NAMESPACE}");
        let (verb, rest) = args.split_first().context("kubectl needs a verb")?;
        self.cluster
            .kubectl(&[&[*verb, namespace.as_str()], rest].concat())
    }

    /// A command of helm with the chart and the values of the suite, for a release in a namespace.
    pub(super) fn helm(&self, verb: &str, namespace: &str, more: &[&str]) -> Result<Command> {
        let mut helm = self.cluster.inside(&self.helm);
        helm.arg(verb).arg(NAME).arg(std::fs::canonicalize(CHART)?);
        helm.arg(format!("--namespace={namespace}"));
        let values = std::fs::canonicalize(MANIFESTS)?.join("values.yaml");
        helm.arg("--values").arg(values).args(more);
        Ok(helm)
    }

    /// A command of helm that renders the chart, for a release in a namespace.
    pub(super) fn template(&self, namespace: &str) -> Result<Command> {
        let mut helm = self.cluster.inside(&self.helm);
        helm.args(["template", NAME, "--namespace", namespace]);
        helm.arg(std::fs::canonicalize(CHART)?);
        Ok(helm)
    }

    /// A command of helm that uninstalls the release in a namespace.
    pub(super) fn uninstall(&self, namespace: &str) -> Command {
        let mut helm = self.cluster.inside(&self.helm);
        helm.args(["uninstall", NAME, "--wait", "--namespace", namespace]);
        helm
    }

    /// Installs the release, and waits as users do.
    pub(super) fn install(&self) -> Result<()> {
        let since = now();
        output_of(&mut self.helm("install", NAMESPACE, &WAIT)?)?;
        within("install until all is ready", since.elapsed(), READY_MAX)
    }

    /// A command of helm that upgrades the release as `deploy/README.md` says: it keeps its values but for one.
    pub(super) fn upgrade(&self, set: &str) -> Result<Command> {
        let mut helm = self.cluster.inside(&self.helm);
        helm.args(["upgrade", NAME, "--namespace", NAMESPACE]);
        helm.arg(std::fs::canonicalize(CHART)?);
        helm.args(["--reset-then-reuse-values", "--set", set]);
        Ok(helm)
    }

    /// Upgrades the release but for one value, and waits.
    pub(super) fn upgrade_and_wait(&self, set: &str) -> Result<()> {
        output_of(self.upgrade(set)?.args(WAIT))?;
        Ok(())
    }

    /// Upgrades the release to the suite's values alone, and waits.
    pub(super) fn reset(&self) -> Result<()> {
        let mut helm = self.helm("upgrade", NAMESPACE, &WAIT)?;
        output_of(helm.arg("--reset-values"))?;
        Ok(())
    }

    /// Runs the chart's own test.
    pub(super) fn test(&self) -> Result<()> {
        let mut helm = self.cluster.inside(&self.helm);
        helm.args(["test", NAME, "--namespace", NAMESPACE, "--logs"]);
        output_of(&mut helm)?;
        Ok(())
    }

    /// Waits until so many brokers and all controllers are ready.
    pub(super) fn await_ready(&self, brokers: usize, max: Duration) -> Result<()> {
        let path = "-o=jsonpath={.status.readyReplicas} {.status.replicas}";
        let set = |name: &str| self.kubectl(&["get", "statefulset", name, path]);
        until(&format!("{brokers} brokers are ready"), max, || {
            let of_brokers = set("hw-highwater-broker")?;
            let of_controllers = set("hw-highwater-controller")?;
            Ok(of_brokers == format!("{brokers} {brokers}") && of_controllers == "3 3")
        })?;
        Ok(())
    }

    /// How often the only container of a pod was started again.
    pub(super) fn restarts(&self, pod: &str) -> Result<u32> {
        let path = "-o=jsonpath={.status.containerStatuses[0].restartCount}";
        Ok(self.kubectl(&["get", "pod", pod, path])?.parse()?)
    }

    /// Does what ends a pod, and waits until another pod of the same name is there.
    pub(super) fn replaced(
        &self,
        pod: &str,
        max: Duration,
        ends: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let uid = || self.kubectl(&["get", "pod", pod, "-o=jsonpath={.metadata.uid}"]);
        let before = uid()?;
        ends()?;
        until("the pod is replaced", max, || Ok(uid()? != before))?;
        Ok(())
    }

    /// Evicts a pod; the reason if that is refused.
    pub(super) fn evict(&self, pod: &str) -> Result<Option<String>> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction");
        let metadata = format!(r#""metadata":{{"name":"{pod}","namespace":"{NAMESPACE}"}}"#);
        let eviction = format!(r#"{{"apiVersion":"policy/v1","kind":"Eviction",{metadata}}}"#);
        let create = ["create", "--raw", &path, "-f", "-"];
        let told = self.cluster.kubectl_with(&create, &eviction)?;
        let why = String::from_utf8_lossy(&told.stderr).into_owned();
        Ok((!told.status.success()).then_some(why))
    }

    /// Fails unless its disruption budget keeps a pod from being evicted.
    pub(super) fn is_not_evicted(&self, pod: &str) -> Result<()> {
        let refused = self.evict(pod)?;
        let is_kept = refused.as_ref();
        ensure!(
            is_kept.is_some_and(|why| why.contains("disruption budget")),
            "the eviction of {pod} is not refused: {refused:?}"
        );
        Ok(())
    }

    /// The nodes of the pods 0, 1 and 2 of a component.
    pub(super) fn nodes_of(&self, component: &str) -> Result<Vec<String>> {
        let pods = (0..3).map(|ordinal| format!("{NAME}-highwater-{component}-{ordinal}"));
        pods.map(|pod| self.node_of(&pod)).collect()
    }

    /// The node on which a pod is.
    pub(super) fn node_of(&self, pod: &str) -> Result<String> {
        self.kubectl(&["get", "pod", pod, "-o=jsonpath={.spec.nodeName}"])
    }

    /// Kills the process of a pod's only container, and waits until it runs again and is ready.
    pub(super) fn restart(&self, pod: &str, max: Duration) -> Result<()> {
        let before = self.restarts(pod)?;
        let path = "-o=jsonpath={.status.containerStatuses[0].containerID}";
        let container = self.kubectl(&["get", "pod", pod, path])?;
        let container = container.trim_start_matches("containerd://");
        self.cluster
            .kill_container(&self.node_of(pod)?, container)?;
        let path = "-o=jsonpath={.status.containerStatuses[0].ready}";
        until(&format!("{pod} is started again"), max, || {
            let is_started = self.restarts(pod)? > before;
            Ok(is_started && self.kubectl(&["get", "pod", pod, path])? == "true")
        })?;
        Ok(())
    }

    /// A command of this machine's programs in the pod of the clients.
    pub(super) fn in_pod(&self, program: &str) -> Command {
        let mut exec = self.cluster.inside("kubectl");
        exec.args(["exec", "--namespace=store", "--stdin", "clients", "--"]);
        exec.arg(program);
        exec
    }

    /// The program that writes and reads numbered records, outside of Kubernetes.
    pub(super) fn stream_outside(&self) -> Command {
        self.cluster.inside(self.deps.join(STREAM))
    }

    /// The same in the pod of the clients.
    pub(super) fn stream_in_pod(&self) -> Command {
        self.in_pod(&format!("/test-deps/{STREAM}"))
    }

    /// Runs one of Kafka's tools, inside or outside. The one for the cluster takes the bootstrap after its command, and
    /// the one for the quorum before.
    pub(super) fn tool(&self, is_inside: bool, class: &str, args: &[&str]) -> Result<String> {
        let (mut java, jars, bootstrap) = if is_inside {
            let jars = format!("/test-deps/{JARS}/*");
            (self.in_pod("java"), jars, INSIDE)
        } else {
            let jars = format!("{}/{JARS}/*", self.deps.display());
            (self.cluster.inside("java"), jars, OUTSIDE)
        };
        java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
        java.args(["-Dorg.apache.logging.log4j.level=OFF", "-cp", &jars]);
        let (before, after) = args.split_at(usize::from(class == CLUSTER));
        java.arg(class).args(before);
        output_of(java.args(["--bootstrap-server", bootstrap]).args(after))
    }

    /// The brokers that clients outside are told of, and the leaders of all partitions.
    pub(super) fn metadata(&self, bootstrap: &str) -> Result<Metadata> {
        let told = self.kcat(false, bootstrap, "$K -L -J")?;
        let told: Value = serde_json::from_str(&told)?;
        let ids = |list: &Value, key: &str| -> BTreeSet<i64> {
            let list = list.as_array().into_iter().flatten();
            list.filter_map(|each| each[key].as_i64()).collect()
        };
        let topics = told["topics"].as_array().into_iter().flatten();
        Ok(Metadata {
            brokers: ids(&told["brokers"], "id"),
            leaders: topics
                .flat_map(|topic| ids(&topic["partitions"], "leader"))
                .collect(),
        })
    }

    /// Runs kcat with a shell's line, inside or outside: `$K` in it stands for kcat and its bootstrap.
    pub(super) fn kcat(&self, is_inside: bool, bootstrap: &str, line: &str) -> Result<String> {
        let mut shell = match is_inside {
            true => self.in_pod("sh"),
            false => self.cluster.inside("sh"),
        };
        let line = format!("set -e; K='kcat -b {bootstrap}'; {line}");
        output_of(shell.args(["-c", &line]))
    }
}
