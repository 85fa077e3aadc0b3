"""The nodes of a cluster on this machine: where the binary is, how they are started, and how they end."""

import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess

from client import Failed

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
CONTROLLERS, BROKERS = [100, 101, 102], [1, 2, 3]
# A broker that is silent for so long counts as dead. It is the default.
SESSION_S = 3
# A node that is asked to stop takes 20 s at most.
STOP_S = 30
LOG_LINES = 15


def find_binary(named):
    """The binary that was named, or the checkout's, which is built if it is not there."""
    if named:
        found = shutil.which(named)
        if not found:
            raise Failed(f"{named} is not a program")
        return found
    binary = CHECKOUT / "target" / "release" / "highwater"
    if not binary.exists():
        build = ["cargo", "build", "--release", "--locked", "--package", "highwater"]
        print(f"building Highwater, which takes minutes once: {' '.join(build)}", flush=True)
        try:
            subprocess.run(build, cwd=CHECKOUT, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Failed(f"{error}; --binary names one that is built") from error
    return str(binary)


def is_free(port):
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports():
    # below those that the system gives to connections, so that no connection takes one before its node listens
    return filter(is_free, random.sample(range(20_000, 32_000), 1000))


class Nodes:
    """Three controllers and three brokers, each of them a process with a directory and a log of its own."""

    def __init__(self, binary, directory, storage, endpoint=None):
        self.binary, self.directory = binary, directory
        ports = dict(zip(CONTROLLERS + BROKERS, free_ports()))
        self.addresses = {node: ("127.0.0.1", port) for node, port in ports.items()}
        # all processes, and those that are not to end, by node
        self.processes, self.running = [], {}
        self.settings = {
            # the one place for all records; the nodes' own directories hold none that matters
            "highwater.object.storage": storage,
            "highwater.wal": "object",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": ",".join(f"{node}@127.0.0.1:{ports[node]}" for node in CONTROLLERS),
            "broker.session.timeout.ms": SESSION_S * 1000,
            "highwater.memory.limit": "128MiB",
            "highwater.admin.listener": "",
        }
        if endpoint:
            self.settings["highwater.object.storage.endpoint"] = endpoint

    def start(self, node):
        role, listener = ("controller", "CONTROLLER") if node in CONTROLLERS else ("broker", "PLAINTEXT")
        settings = self.settings | {
            "process.roles": role,
            "node.id": node,
            "highwater.data.dir": self.directory / f"node-{node}",
            "listeners": f"{listener}://127.0.0.1:{self.addresses[node][1]}",
        }
        flags = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
        with open(self.log(node), "ab") as log:
            # in a session of its own, so that Ctrl-C reaches this program alone, which then ends the nodes
            process = subprocess.Popen([self.binary, "start", *flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True)
        self.processes.append(process)
        self.running[node] = process
        return process.pid

    def log(self, node):
        return self.directory / f"node-{node}.log"

    def signal(self, node, name):
        """Sends a signal to a node that is to end by it."""
        process = self.running.pop(node)
        process.send_signal(getattr(signal, name))
        return process

    def stop(self, nodes):
        """Stops those of these nodes that run, all at once and cleanly."""
        for node, process in [(node, self.signal(node, "SIGTERM")) for node in nodes if node in self.running]:
            wait_for_clean_end(node, process)

    def check(self):
        """Fails if a node has ended by itself."""
        for node, process in self.running.items():
            if process.poll() is not None:
                with open(self.log(node), errors="replace") as log:
                    last = "".join(log.readlines()[-LOG_LINES:])
                raise Failed(f"node {node} ended by itself with status {process.returncode}; its log ends with\n{last}")

    def kill(self):
        """Ends whatever still runs."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


def wait_for_clean_end(node, process):
    try:
        status = process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Failed(f"node {node} did not stop within {STOP_S} s") from None
    if status:
        raise Failed(f"node {node} stopped with status {status}")
