"""Three controllers and three brokers whose write-ahead logs are in the object store. Brokers are killed with their disks,
stopped and continued (SIGSTOP, SIGCONT), or end cleanly, or die in the middle of a takeover or of a planned move;
controllers are killed, keep their disks, are stopped and continued, or end cleanly, one at a time; all under an idempotent
producer and a group. With --namespaces each node is in a network namespace of its own, and links between any two nodes,
or all links of one, are cut too, one way or both ways. With --rolling nothing fails: every node is stopped cleanly and
started again, one after the other, twice. With --former too, all nodes begin as processes of that binary. (Nodes in
namespaces can't be restarted so, because their health is seen in their namespace alone.)

At the end every acknowledged record is in the log once, in order, at its offset. A record that was not acknowledged is
there once or not at all. Committed offsets never go back. If a node ends in another way than the program made it end, the
program prints the node's log and ends at once.

Usage: cluster.py BINARY DIR [--seed SEED] [--seconds SECONDS] [--controllers N] [--brokers N] [--namespaces]
       [--rolling [--former BINARY]]
"""

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from network import CLIENTS, Network
from outlive import CALM_S, Nodes, Workload, retried

parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("dir")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--seconds", type=float, default=25)
parser.add_argument("--controllers", type=int, default=3)
parser.add_argument("--brokers", type=int, default=3)
parser.add_argument("--namespaces", action="store_true")
parser.add_argument("--rolling", action="store_true")
parser.add_argument("--former")
arguments = parser.parse_args()
BINARY, DIR = arguments.binary, arguments.dir
TOPIC = "cluster"
PARTITIONS = 6
BROKERS = [1 + number for number in range(arguments.brokers)]
CONTROLLERS = [100 + number for number in range(arguments.controllers)]
SESSION_MS = 1000
# The time between two events, and for which a node is stopped or a link is cut: shorter and longer than a session.
PAUSE_S = (0.5, 2.5)
STOPPED_S = (0.3, 4)
# The points at which a broker dies while it takes another one over, and how long it has to come there: it may be the
# second of the sealers, or the other broker is back before.
TAKEOVER_POINTS = ["takeover-before-seal", "takeover-after-seal", "takeover-before-close", "takeover-after-close"]
TAKEOVER_S = 3
# The points at which a broker that stops dies while it hands its partitions over, and how long it has to get some.
HAND_OVER_POINTS = ["hand-over-before-put", "hand-over-after-put", "hand-over-after-commit"]
HAND_OVER_S = 2
rng = random.Random(arguments.seed)
os.makedirs(DIR, exist_ok=True)
nodes = Nodes()
network = Network() if arguments.namespaces else None
if network:
    nodes.at_failure = network.close
HOSTS = {node: network.add(node) if network else "127.0.0.1" for node in [*CONTROLLERS, *BROKERS]}


def is_free(port):
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


# below those that the system gives to connections, so that no connection takes one before its node listens
FREE = filter(is_free, random.sample(range(20_000, 32_000), 1000))
PORTS = {node: next(FREE) for node in [*CONTROLLERS, *BROKERS]}
ADMIN_PORTS = {node: next(FREE) for node in PORTS}
ADDRESSES = {node: f"{HOSTS[node]}:{port}" for node, port in PORTS.items()}
VOTERS = ",".join(f"{node}@{ADDRESSES[node]}" for node in CONTROLLERS)
BOOTSTRAP = ",".join(ADDRESSES[node] for node in BROKERS)


def start(node, crash_at=None, binary=BINARY):
    own = {
        "node.id": node,
        "highwater.data.dir": f"{DIR}/node-{node}",
        "highwater.admin.listener": f"127.0.0.1:{ADMIN_PORTS[node]}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": VOTERS,
        "highwater.wal": "object",
        "highwater.memory.limit": "128MiB",
        "highwater.upload.interval.ms": 700,
        "highwater.object.grace.ms": 2000,
        "leader.imbalance.check.interval.seconds": 1,
        "broker.session.timeout.ms": SESSION_MS,
        "broker.heartbeat.interval.ms": SESSION_MS // 5,
        "offsets.topic.num.partitions": 6,
        "group.initial.rebalance.delay.ms": 100,
    }
    if "HIGHWATER_OBJECT_STORAGE" not in os.environ:
        own["highwater.object.storage"] = f"file://{os.path.abspath(DIR)}/objects"
    if node in CONTROLLERS:
        own |= {"process.roles": "controller", "listeners": f"CONTROLLER://{ADDRESSES[node]}"}
    else:
        own |= {"process.roles": "broker", "listeners": f"PLAINTEXT://{ADDRESSES[node]}"}
    command = [*network.within(node), binary] if network else [binary]
    return nodes.start(node, command, own, os.path.join(DIR, f"node-{node}.log"), crash_at)


def kill(node):
    """Kills a broker and its disk, or a controller alone, whose metadata is on its disk."""
    nodes.end(node, signal.SIGKILL)
    if node not in CONTROLLERS:
        shutil.rmtree(f"{DIR}/node-{node}")
    time.sleep(rng.uniform(0, 2.5 * SESSION_MS / 1000))
    start(node)


def pause(node):
    process = nodes.running[node]
    process.send_signal(signal.SIGSTOP)
    time.sleep(rng.uniform(*STOPPED_S))
    process.send_signal(signal.SIGCONT)


def stop(node):
    nodes.end(node, signal.SIGTERM)
    start(node)


def restart(node):
    """Stops a node and starts it again, and waits until it is ready, as an operator does."""
    stop(node)
    deadline = time.monotonic() + CALM_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN_PORTS[node]}/health/ready", timeout=5):
                return
        except OSError as error:
            assert time.monotonic() < deadline, f"node {node} is not ready: {error}"
            time.sleep(0.1)


def crash(node):
    """Kills a broker and its disk; one that takes it over dies half-way, if it comes to that."""
    sealer = rng.choice([broker for broker in BROKERS if broker != node])
    nodes.end(sealer, signal.SIGTERM)
    process = start(sealer, rng.choice(TAKEOVER_POINTS))
    kill(node)
    try:
        process.wait(TAKEOVER_S)
        nodes.running.pop(sealer)
    except subprocess.TimeoutExpired:
        nodes.end(sealer, signal.SIGTERM)
    start(sealer)


def leave(node):
    """Stops a broker, which dies with its disk while it hands its partitions over, if it has any."""
    nodes.end(node, signal.SIGTERM)
    start(node, rng.choice(HAND_OVER_POINTS))
    time.sleep(rng.uniform(0, HAND_OVER_S))
    nodes.end(node, signal.SIGTERM)
    shutil.rmtree(f"{DIR}/node-{node}")
    start(node)


def cut(node):
    """Cuts the link of a node to another one or to the clients."""
    other = rng.choice([other for other in [CLIENTS, *CONTROLLERS, *BROKERS] if other != node])
    cut_all([(node, other)])


def isolate(node):
    """Cuts all links of a node to other nodes; clients reach it."""
    cut_all([(node, other) for other in [*CONTROLLERS, *BROKERS] if other != node])


def cut_all(links):
    ways = rng.choice(["out", "in", "both"])
    out = links if ways != "in" else []
    back = [(other, node) for node, other in links] if ways != "out" else []
    for link in [*out, *back]:
        network.cut(*link)
    time.sleep(rng.uniform(*STOPPED_S))
    for link in [*out, *back]:
        network.mend(*link)


EVENTS = [kill, kill, pause, pause, stop, crash, leave, *([cut, cut, isolate, isolate] if network else [])]
for node in [*CONTROLLERS, *BROKERS]:
    start(node, binary=arguments.former or BINARY)
admin = AdminClient({"bootstrap.servers": BOOTSTRAP, "log_level": 0})
deadline = time.monotonic() + CALM_S
while len(retried(lambda: admin.list_topics(timeout=10)).brokers) < len(BROKERS):
    assert time.monotonic() < deadline, "the brokers do not register"
    time.sleep(0.1)
try:
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 3)])[TOPIC].result()
except KafkaException as error:
    # librdkafka sends a request again whose answer it did not get
    if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
        raise

workload = Workload(BOOTSTRAP, TOPIC, PARTITIONS, arguments.seed, pause_s=0.005)
workload.start()
counts = {}
for _ in range(2 if arguments.rolling else 0):
    for node in [*CONTROLLERS, *BROKERS]:
        workload.wait_for_records(500)
        restart(node)
        counts["restarts"] = counts.get("restarts", 0) + 1
        workload.check_offsets()
until = time.monotonic() + (0 if arguments.rolling else arguments.seconds)
while time.monotonic() < until:
    time.sleep(rng.uniform(*PAUSE_S))
    event = rng.choice(EVENTS)
    node = rng.choice(CONTROLLERS if event not in (crash, leave) and rng.random() < 0.3 else BROKERS)
    name = f"{event.__name__} {'controller' if node in CONTROLLERS else 'broker'}"
    counts[name] = counts.get(name, 0) + 1
    event(node)
    workload.check_offsets()
workload.stop()
workload.check_offsets()
workload.check_records()
assert len(workload.acknowledged) > 1000 and sum(workload.committed.values()) > 100, workload
for node in [*BROKERS, *CONTROLLERS]:
    nodes.end(node, signal.SIGTERM)
print(f"{workload}; {counts}", flush=True)
