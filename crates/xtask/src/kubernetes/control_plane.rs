//! A real Kubernetes on this machine, in namespaces of its own: `tests/kubernetes/cluster/start.sh` says how.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::images;
use crate::broker::end;
use crate::jars::has;
use crate::programs;
use crate::report::say;
use crate::rust::run;
use crate::time::{now, pause};

/// The number of nodes, each in a zone of its own.
pub(super) const NODES: u32 = 3;
/// The addresses of the nodes, to which clients outside connect.
pub(super) const NODE_ADDRESSES: [&str; 3] = ["10.77.0.11", "10.77.0.12", "10.77.0.13"];
const DIR: &str = "target/test-run/kubernetes";
/// The file with the number of the process that holds the namespaces of a cluster that is kept.
const KEPT: &str = "holder.pid";
const SCRIPTS: &str = "tests/kubernetes/cluster";
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// The name of the groups under which the nodes' pods are.
const CONTROL_GROUP: &str = "highwater-kubernetes";
/// The hierarchies of control groups (version 1) that containers need.
const HIERARCHIES: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "devices", "freezer"];
/// What must be installed, with the Debian package that has it.
const NEEDED: [(&str, &str, &str); 9] = [
    ("containerd", "--version", "containerd"),
    ("runc", "--version", "runc"),
    ("nft", "--version", "nftables"),
    ("conntrack", "--version", "conntrack"),
    ("iptables", "--version", "iptables"),
    ("openssl", "version", "openssl"),
    ("kcat", "-V", "kcat"),
    ("java", "-version", "default-jdk-headless"),
    ("mvn", "--version", "maven"),
];
const PLUGINS: &str = "/usr/lib/cni/bridge";
const TRY_EVERY: Duration = Duration::from_millis(500);
/// The time in which the nodes become ready; 20 seconds are usual.
const START_MAX: Duration = Duration::from_secs(240);
const END_TRIES: u32 = 20;

/// The cluster, which ends when it is dropped, unless it is to be kept.
pub(crate) struct Cluster {
    /// The directory that the namespaces show as /run/highwater.
    dir: PathBuf,
    path: String,
    /// The process that holds the namespaces, unless they are to be kept.
    holder: Option<Child>,
    /// The first process in the namespaces.
    first: u32,
}

/// Waits until a check holds, and returns how long that took. A check that fails is tried again too, because what it asks
/// may be starting.
pub(super) fn until(
    what: &str,
    max: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let since = now();
    loop {
        let last = holds();
        if matches!(last, Ok(true)) {
            return Ok(since.elapsed());
        }
        if since.elapsed() > max {
            last?;
            bail!("not within {} s: {what}", max.as_secs());
        }
        pause(TRY_EVERY);
    }
}

/// Runs a command that must succeed, and returns what it wrote to standard output.
pub(super) fn output_of(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().with_context(|| format!("{command:?}"))?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    let stderr = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "{command:?}: {}{stdout}", stderr);
    Ok(stdout)
}

/// What this machine lacks, if it lacks something.
pub(crate) fn missing() -> Option<String> {
    if !programs::has_go() {
        return Some("go is missing".to_owned());
    }
    if let Some((_, _, package)) = NEEDED.iter().find(|(program, flag, _)| !has(program, flag)) {
        return Some(format!("the package {package} is missing"));
    }
    if !Path::new(PLUGINS).exists() {
        return Some("the package containernetworking-plugins is missing".to_owned());
    }
    if !images::has_busybox() {
        return Some("the package busybox-static is missing".to_owned());
    }
    let is_there = |name: &&str| Path::new(CONTROL_GROUPS).join(name).is_dir();
    if !HIERARCHIES.iter().all(is_there) {
        return Some("control groups of version 1 are missing".to_owned());
    }
    let mut possible = Command::new("unshare");
    possible.args(["--net", "--mount", "--pid", "--fork", "ip", "link"]);
    let is_possible = possible.output().is_ok_and(|told| told.status.success());
    (!is_possible).then(|| "namespaces (root, util-linux and iproute2) are missing".to_owned())
}

/// Builds the programs that a cluster consists of, and returns the directories in which they are.
pub(crate) fn build() -> Result<Vec<PathBuf>> {
    programs::CLUSTER.iter().map(|set| set.build()).collect()
}

impl Cluster {
    /// Starts the cluster. Everything in it is gone once this process has ended, unless it is to be kept.
    pub(crate) fn start(is_kept: bool) -> Result<Self> {
        end_kept()?;
        if Path::new(DIR).exists() {
            std::fs::remove_dir_all(DIR)?;
        }
        std::fs::create_dir_all(DIR)?;
        let dir = std::fs::canonicalize(DIR)?;
        images::write(&dir.join("images"))?;
        let path = path()?;
        make_control_groups()?;
        let mut holder = Command::new(if is_kept { "setsid" } else { "setpriv" });
        if !is_kept {
            holder.args(["--pdeathsig", "KILL"]);
        }
        holder.args(["unshare", "--net", "--mount", "--pid", "--ipc", "--uts"]);
        holder.args(["--fork", "--kill-child", "--mount-proc"]);
        holder.args(["--propagation", "private"]);
        holder.arg(std::fs::canonicalize(SCRIPTS)?.join("start.sh"));
        holder.arg(&dir).arg(NODES.to_string());
        let log = File::create(dir.join("start.log"))?;
        holder.env("PATH", &path).stdin(Stdio::null());
        let mut holder = holder.stdout(log.try_clone()?).stderr(log).spawn()?;
        let first = await_nodes(&mut holder, &dir);
        if first.is_err() {
            end(&mut holder);
        }
        let mut cluster = Self {
            dir,
            path,
            holder: Some(holder),
            first: first?,
        };
        cluster.write_way_in()?;
        if is_kept {
            let holder = cluster.holder.take().context("nothing runs")?;
            std::fs::write(cluster.dir.join(KEPT), holder.id().to_string())?;
        }
        Ok(cluster)
    }

    /// The cluster that an earlier run left up, if there is one.
    pub(crate) fn kept() -> Result<Option<Self>> {
        let Some(holder) = kept_holder() else {
            return Ok(None);
        };
        Ok(Some(Self {
            dir: std::fs::canonicalize(DIR)?,
            path: path()?,
            holder: None,
            first: child_of(holder)?,
        }))
    }

    /// Writes a script that runs a command in the cluster's namespaces, for people.
    fn write_way_in(&self) -> Result<()> {
        let file = self.dir.join("inside");
        let text = format!(
            "#!/bin/sh\nexec nsenter --target {} --mount --net --pid --ipc --uts --wdns=\"$PWD\" \\\n    \
             env KUBECONFIG={} PATH={} \"$@\"\n",
            self.first,
            self.kubeconfig(),
            self.path
        );
        std::fs::write(&file, text)?;
        Ok(std::fs::set_permissions(
            &file,
            PermissionsExt::from_mode(0o755),
        )?)
    }

    fn kubeconfig(&self) -> &'static str {
        "/run/highwater/pki/admin.conf"
    }

    /// A command in the cluster's namespaces, beside the nodes: for clients outside of Kubernetes.
    pub(crate) fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string()]);
        command.args(["--mount", "--net", "--pid", "--ipc", "--uts"]);
        command.env("KUBECONFIG", self.kubeconfig());
        command.env("HOME", "/run/highwater/home");
        command.env("PATH", &self.path);
        command.arg(program);
        command
    }

    /// Runs kubectl, and returns what it prints.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Result<String> {
        output_of(self.inside("kubectl").args(args))
    }

    /// Runs kubectl with a text on its standard input.
    pub(crate) fn kubectl_with(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut kubectl = self.inside("kubectl");
        kubectl.args(args).stdin(Stdio::piped());
        let mut child = kubectl
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        Ok(child.wait_with_output()?)
    }

    /// Applies manifests.
    pub(crate) fn apply(&self, manifests: &str) -> Result<()> {
        let told = self.kubectl_with(&["apply", "-f", "-"], manifests)?;
        let error = String::from_utf8_lossy(&told.stderr);
        ensure!(told.status.success(), "kubectl apply: {error}");
        Ok(())
    }

    /// Kills the process of a container.
    pub(super) fn kill_container(&self, node: &str, container: &str) -> Result<()> {
        let mut ctr = self.inside("ctr");
        let socket = format!("/run/highwater/{node}/containerd.sock");
        ctr.args(["--address", &socket, "--namespace", "k8s.io"]);
        output_of(ctr.args(["task", "kill", "--signal", "SIGKILL", container]))?;
        Ok(())
    }

    /// Lets a node lose its power: every process of it is gone, and nothing says so.
    pub(crate) fn kill_node(&self, node: &str) -> Result<()> {
        let holder = std::fs::read_to_string(self.dir.join(format!("{node}.pid")))?;
        run(self.inside("kill").args(["-9", holder.trim()]))
    }

    /// Starts a node again.
    pub(crate) fn start_node(&self, node: &str) -> Result<()> {
        let scripts = std::fs::canonicalize(SCRIPTS)?;
        let mut script = self.inside(scripts.join("node.sh"));
        script.env("dir", &self.dir).env("here", &scripts);
        script.env("run", "/run/highwater");
        run(script.arg(node.trim_start_matches("node")))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(holder) = &mut self.holder else {
            say(&format!(
                "the cluster is left up, and the next run uses it; {DIR}/inside kubectl get pods -A runs a command in \
                 it, and cargo xtask kubernetes --end ends it"
            ));
            return;
        };
        end(holder);
        if let Err(error) = remove_control_groups() {
            say(&format!("control groups are left: {error:#}"));
        }
    }
}

/// The PATH in a cluster: its programs and those of the machine.
fn path() -> Result<String> {
    let built = build()?;
    let mut dirs: Vec<String> = built.iter().map(|dir| dir.display().to_string()).collect();
    dirs.push("/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    Ok(dirs.join(":"))
}

/// Waits until the nodes are ready, and returns the first process in the namespaces.
fn await_nodes(holder: &mut Child, dir: &Path) -> Result<u32> {
    let ready = dir.join("ready");
    let took = until("the nodes are ready", START_MAX, || {
        Ok(ready.exists() || holder.try_wait()?.is_some())
    })?;
    if !ready.exists() {
        let told = std::fs::read_to_string(dir.join("start.log"))?;
        bail!("the control plane ended: {told}");
    }
    let seconds = took.as_secs_f64();
    say(&format!("{NODES} nodes are ready after {seconds:.0} s"));
    child_of(holder.id())
}

/// The only child of a process.
fn child_of(process: u32) -> Result<u32> {
    let children = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(children)?;
    let child = children.split_whitespace().next();
    Ok(child.context("nothing runs in the namespaces")?.parse()?)
}

/// The process that holds the namespaces of a cluster that an earlier run left up.
fn kept_holder() -> Option<u32> {
    let holder = std::fs::read_to_string(Path::new(DIR).join(KEPT)).ok()?;
    let command = std::fs::read(format!("/proc/{holder}/cmdline")).ok()?;
    let is_ours = String::from_utf8_lossy(&command).contains(SCRIPTS);
    is_ours.then(|| holder.parse().ok()).flatten()
}

/// Ends a cluster that an earlier run left up.
pub(crate) fn end_kept() -> Result<()> {
    if let Some(holder) = kept_holder() {
        run(Command::new("kill").args(["-9", &holder.to_string()]))?;
        std::fs::remove_file(Path::new(DIR).join(KEPT))?;
    }
    remove_control_groups()
}

/// The directories of our control groups, one for each hierarchy.
fn control_groups() -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for hierarchy in std::fs::read_dir(CONTROL_GROUPS)? {
        let hierarchy = hierarchy?;
        if hierarchy.file_type()?.is_dir() {
            all.push(hierarchy.path().join(CONTROL_GROUP));
        }
    }
    Ok(all)
}

/// Makes a control group for the pods of each node, because the kubelet does not.
fn make_control_groups() -> Result<()> {
    for group in control_groups()? {
        let mut groups = vec![group.clone()];
        groups.extend((1..=NODES).map(|node| group.join(format!("node{node}"))));
        for group in groups {
            std::fs::create_dir_all(&group)?;
            // a new group of this hierarchy has no processors until it is given some
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let above = group.parent().context("a group has a parent")?.join(file);
                if above.exists() {
                    std::fs::copy(above, group.join(file))?;
                }
            }
        }
    }
    Ok(())
}

/// Removes the control groups, in which processes that were killed may be for a moment.
fn remove_control_groups() -> Result<()> {
    let groups = control_groups()?;
    for tries in 1.. {
        let left = groups.iter().try_for_each(|group| remove_group(group));
        match left {
            Ok(()) => break,
            Err(error) if tries == END_TRIES => return Err(error),
            Err(_) => pause(TRY_EVERY),
        }
    }
    Ok(())
}

/// Removes a control group and those below it: only the directories, because the files in them are the kernel's.
fn remove_group(group: &Path) -> Result<()> {
    if !group.exists() {
        return Ok(());
    }
    for below in std::fs::read_dir(group)? {
        let below = below?;
        if below.file_type()?.is_dir() {
            remove_group(&below.path())?;
        }
    }
    Ok(std::fs::remove_dir(group)?)
}
