//! A real Kubernetes on this machine, in namespaces of its own: `tests/kubernetes/cluster/start.sh` says how.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::control_groups;
use super::images;
use crate::broker::end;
use crate::programs;
use crate::report::say;
use crate::rust::{output_of, run};
use crate::time::{now, pause};

/// The number of nodes, each in a zone of its own.
pub(super) const NODES: u32 = 3;
/// The addresses of the nodes, to which clients outside connect.
pub(super) const NODE_ADDRESSES: [&str; 3] = ["10.77.0.11", "10.77.0.12", "10.77.0.13"];
pub(super) const DIR: &str = "target/test-run/kubernetes";
/// The file with the number of the process that holds the namespaces of a cluster that is kept.
const KEPT: &str = "holder.pid";
const SCRIPTS: &str = "tests/kubernetes/cluster";
const TRY_EVERY: Duration = Duration::from_millis(500);
/// The time in which the nodes become ready; 20 seconds are usual, and the scripts wait less for each part.
const START_MAX: Duration = Duration::from_secs(400);
/// The time in which every process is gone once the cluster is killed.
const END_MAX: Duration = Duration::from_secs(30);
/// The seconds that a command in the cluster may take, so that none hangs for ever.
const COMMAND_SECONDS_MAX: &str = "1200";

/// The cluster, which ends when it is dropped, unless it is to be kept.
pub(crate) struct Cluster {
    /// The directory that the namespaces show as /run/highwater.
    dir: PathBuf,
    path: String,
    /// The process that holds the namespaces, once it is started.
    holder: Option<Child>,
    /// The first process in the namespaces.
    first: u32,
    is_kept: bool,
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
            last.with_context(|| what.to_owned())?;
            bail!("not within {} s: {what}", max.as_secs());
        }
        pause(TRY_EVERY);
    }
}

/// Builds the programs that a cluster consists of, and returns the directories in which they are.
pub(crate) fn build() -> Result<Vec<PathBuf>> {
    programs::CLUSTER.iter().map(|set| set.build()).collect()
}

impl Cluster {
    /// Starts the cluster. Everything in it is gone once this process has ended, unless it is to be kept. A cluster that an
    /// earlier run left up is ended first.
    pub(crate) fn start(is_kept: bool) -> Result<Self> {
        end_kept()?;
        remove_files()?;
        std::fs::create_dir_all(DIR)?;
        let dir = std::fs::canonicalize(DIR)?;
        images::write(&dir.join("images"))?;
        // a failure from here on ends what was started
        let mut cluster = Self {
            dir,
            path: path()?,
            holder: None,
            first: 0,
            is_kept: false,
        };
        control_groups::make(NODES)?;
        let holder = cluster.holder.insert(cluster.command(is_kept)?.spawn()?);
        if is_kept {
            std::fs::write(cluster.dir.join(KEPT), holder.id().to_string())?;
        }
        cluster.first = await_nodes(holder, &cluster.dir)?;
        cluster.write_way_in()?;
        cluster.is_kept = is_kept;
        Ok(cluster)
    }

    /// The command that holds the namespaces.
    fn command(&self, is_kept: bool) -> Result<Command> {
        let mut holder = Command::new(if is_kept { "setsid" } else { "setpriv" });
        if !is_kept {
            holder.args(["--pdeathsig", "KILL"]);
        }
        holder.args(["unshare", "--net", "--mount", "--pid", "--ipc", "--uts"]);
        holder.args(["--fork", "--kill-child", "--mount-proc"]);
        holder.args(["--propagation", "private"]);
        holder.arg(std::fs::canonicalize(SCRIPTS)?.join("start.sh"));
        holder.arg(&self.dir).arg(NODES.to_string());
        let log = File::create(self.dir.join("start.log"))?;
        holder.env("PATH", &self.path).stdin(Stdio::null());
        holder.stdout(log.try_clone()?).stderr(log);
        Ok(holder)
    }

    /// Fails if one of the programs of the cluster has ended, with the end of its log.
    pub(super) fn check(&self) -> Result<()> {
        let failed = self.dir.join("failed");
        if failed.exists() {
            bail!("{}", std::fs::read_to_string(failed)?);
        }
        Ok(())
    }

    /// The file in which the API server tells of every pod that was created.
    pub(super) fn audit_log(&self) -> PathBuf {
        self.dir.join("log/audit.log")
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
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", COMMAND_SECONDS_MAX, "nsenter"]);
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
        if self.is_kept {
            say(&format!(
                "the cluster is left up, and the next run ends it; {DIR}/inside kubectl get pods -A runs a command in \
                 it, and cargo xtask kubernetes --end ends it"
            ));
            return;
        }
        let ended = match &mut self.holder {
            Some(holder) => end_with(holder.id(), || {
                end(holder);
                Ok(())
            }),
            None => control_groups::remove(),
        };
        if let Err(error) = ended {
            say(&format!("something is left of the cluster: {error:#}"));
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
    let Some(holder) = kept_holder() else {
        return control_groups::remove();
    };
    end_with(holder, || {
        run(Command::new("kill").args(["-9", &holder.to_string()]))
    })
}

/// Ends the process that holds the namespaces, and waits until all in them is gone.
fn end_with(holder: u32, kill: impl FnOnce() -> Result<()>) -> Result<()> {
    let first = child_of(holder);
    kill()?;
    if let Ok(first) = first {
        let stat = format!("/proc/{first}/stat");
        until("the processes of the cluster are gone", END_MAX, || {
            // the first process of a namespace is a zombie only once there is no other
            let is_zombie = |stat: String| {
                let state = stat.rsplit_once(") ").map(|(_, state)| state);
                state.is_some_and(|state| state.starts_with('Z'))
            };
            Ok(std::fs::read_to_string(&stat).map_or(true, is_zombie))
        })?;
    }
    control_groups::remove()
}

/// Removes the files of a cluster that has ended.
pub(super) fn remove_files() -> Result<()> {
    if Path::new(DIR).exists() {
        std::fs::remove_dir_all(DIR)?;
    }
    Ok(())
}
