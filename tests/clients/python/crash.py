"""Kills the broker, at named points and at random, while idempotent producers write.

After each restart every acknowledged record is in the log once, in order, at its offset. A record that was not
acknowledged is there once or not at all. The committed offsets of a group that reads and commits all the time never go
back. If a broker ends in another way than the program made it end, or refuses to start, the program prints the broker's
log and ends at once.

Usage: crash.py BINARY DIR PORT [--wal disk|object] [--seed SEED]

With the write-ahead log in the object store, a broker that is killed at a random time has not uploaded anything before,
and the next starts die while they register what it left there.

With a seed, the seed chooses the points of the kills, the broker lives longer between them, and the run has a topic of
its own, which it deletes at the end. Therefore one run can follow another in the same directory.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import time

from confluent_kafka.admin import AdminClient

from outlive import Nodes, Workload

parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("dir")
parser.add_argument("port", type=int)
parser.add_argument("--wal", choices=["disk", "object"], default="disk")
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
BINARY, DIR, PORT = arguments.binary, arguments.dir, arguments.port
TOPIC = "crash" if arguments.seed is None else f"crash-{arguments.seed}"
LIFE_S = (0.3, 1.5) if arguments.seed is None else (0.3, 10)
ROUNDS = 10
BOOTSTRAP = f"127.0.0.1:{PORT}"
PARTITIONS = 3
UPLOAD_POINTS = ["upload-before-put:2", "upload-after-put:2", "upload-after-commit:2"]
POINTS = {
    "disk": ["wal-before-write:9", "wal-after-write:15", "wal-after-sync:21", *UPLOAD_POINTS, None, None, None, None],
    "object": ["group-before-put:25", "group-after-put:40", *UPLOAD_POINTS, None, None, None, None, None],
}[arguments.wal]
# The points at which starts die after a kill at a random time, each of which leaves one more epoch to be closed.
START_POINTS = {"disk": [], "object": ["index-before-put:1", "index-after-put:1"]}[arguments.wal]
# The most passes through a point before the broker dies there.
PASSES_MAX = {"wal-before-write": 200, "wal-after-write": 200, "wal-after-sync": 200, "upload-before-put": 20,
              "upload-after-put": 20, "upload-after-commit": 20, "group-before-put": 100, "group-after-put": 100}
UPLOAD_MS = 150
# A life shorter than this uploads nothing, so that its records are in the write-ahead log alone.
NO_UPLOAD_MS = 60_000
# The time within which a broker reaches its crash point.
POINT_S = 20
NODE = "broker"
os.makedirs(DIR, exist_ok=True)
nodes = Nodes()


def start(point, upload_ms=UPLOAD_MS):
    settings = {"listeners": f"PLAINTEXT://{BOOTSTRAP}", "highwater.data.dir": f"{DIR}/data",
                "highwater.admin.listener": "", "highwater.upload.interval.ms": upload_ms, "num.partitions": PARTITIONS,
                "highwater.wal": arguments.wal, "group.initial.rebalance.delay.ms": 100}
    process = nodes.start(NODE, [BINARY], settings, os.path.join(DIR, "broker.log"), point)
    for _ in range(400):
        if process.poll() is not None:
            return process
        try:
            socket.create_connection(("127.0.0.1", PORT), 0.2).close()
            return process
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the broker does not start")


def dies_at(point, process):
    try:
        process.wait(POINT_S)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the crash point {point} was never reached") from None


rng = random.Random(1 if arguments.seed is None else arguments.seed)
if arguments.seed is not None:
    drawn = rng.choices([*sorted({point.partition(":")[0] for point in POINTS if point}), None], k=ROUNDS)
    POINTS = [point and f"{point}:{rng.randint(1, PASSES_MAX[point])}" for point in drawn]
workload = Workload(BOOTSTRAP, TOPIC, PARTITIONS, arguments.seed or 1)
for round_number, point in enumerate(POINTS):
    leaves_all = point is None and START_POINTS
    broker = start(point, NO_UPLOAD_MS if leaves_all else UPLOAD_MS)
    workload.start()
    if point is None:
        workload.wait_for_records(1)
        time.sleep(rng.uniform(*LIFE_S))
        nodes.end(NODE, signal.SIGKILL)
        for start_point in START_POINTS:
            dies_at(start_point, start(start_point))
    else:
        dies_at(point, broker)
    start(None)
    time.sleep(0.5)
    workload.stop()
    workload.check_offsets()
    workload.check_records()
    nodes.end(NODE, signal.SIGKILL if round_number % 2 else signal.SIGTERM)
    print(f"crash {point or 'at random'}: {workload}", flush=True)
assert len(workload.acknowledged) > 1000 and sum(workload.committed.values()) > 1000
if arguments.seed is not None:
    start(None)
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP, "log_level": 0})
    admin.delete_topics([TOPIC], operation_timeout=30)[TOPIC].result()
    nodes.end(NODE, signal.SIGTERM)
