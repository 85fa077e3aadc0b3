"""One controller and three brokers whose write-ahead logs are in the object store. Brokers are killed with their disks,
stopped and continued (SIGSTOP, SIGCONT), or end cleanly; the controller is killed; all under an idempotent producer and
a group.

At the end every acknowledged record is in the log once, in order, at its offset. A record that was not acknowledged is
there once or not at all. Committed offsets never go back. If a node ends in another way than the program made it end, the
program prints the node's log and ends at once.

Usage: cluster.py BINARY DIR [--seed SEED] [--seconds SECONDS]
"""

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("dir")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--seconds", type=float, default=25)
arguments = parser.parse_args()
BINARY, DIR = arguments.binary, arguments.dir
TOPIC = "cluster"
PARTITIONS = 6
BROKERS = [1, 2, 3]
CONTROLLER = 100
SESSION_MS = 1000
LOG_LINES = 40
# The time between two events, and for which a stopped broker stays stopped: shorter and longer than a session.
PAUSE_S = (0.5, 2.5)
STOPPED_S = (0.3, 4)
# The time within which the clients get their answers once nothing fails any more.
CALM_S = 90
# The errors of a coordinator that moves, which librdkafka hands to the program.
MOVING = ("NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS")
rng = random.Random(arguments.seed)
processes = {}
asked_to_end = set()
os.makedirs(DIR, exist_ok=True)


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


PORTS = {node: free_port() for node in [CONTROLLER, *BROKERS]}
BOOTSTRAP = ",".join(f"127.0.0.1:{PORTS[node]}" for node in BROKERS)


def log_of(node):
    return os.path.join(DIR, f"node-{node}.log")


def fail():
    """Ends the program at once, from any thread, and kills the nodes."""
    for process in list(processes.values()):
        asked_to_end.add(process.pid)
        process.kill()
    sys.stderr.flush()
    os._exit(1)


def failed_check(kind, value, trace):
    sys.__excepthook__(kind, value, trace)
    fail()


sys.excepthook = failed_check
threading.excepthook = lambda raised: failed_check(raised.exc_type, raised.exc_value, raised.exc_traceback)


def watch(node, process):
    status = process.wait()
    if process.pid not in asked_to_end:
        with open(log_of(node), errors="replace") as log:
            last = log.read().splitlines()[-LOG_LINES:]
        print(f"node {node} ended by itself with {status}:", *last, sep="\n", file=sys.stderr, flush=True)
        fail()


def start(node):
    own = {
        "node.id": node,
        "highwater.data.dir": f"{DIR}/node-{node}",
        "highwater.admin.listener": "",
        "controller.listener.names": "CONTROLLER",
        "highwater.wal": "object",
        "highwater.memory.limit": "128MiB",
        "highwater.upload.interval.ms": 700,
        "highwater.object.grace.ms": 2000,
        "broker.session.timeout.ms": SESSION_MS,
        "broker.heartbeat.interval.ms": SESSION_MS // 5,
        "offsets.topic.num.partitions": 6,
        "group.initial.rebalance.delay.ms": 100,
    }
    if "HIGHWATER_OBJECT_STORAGE" not in os.environ:
        own["highwater.object.storage"] = f"file://{os.path.abspath(DIR)}/objects"
    if node == CONTROLLER:
        own |= {"process.roles": "controller", "listeners": f"CONTROLLER://127.0.0.1:{PORTS[node]}",
                "controller.quorum.voters": f"{node}@127.0.0.1:{PORTS[node]}"}
    else:
        own |= {"process.roles": "broker", "listeners": f"PLAINTEXT://127.0.0.1:{PORTS[node]}",
                "controller.quorum.voters": f"{CONTROLLER}@127.0.0.1:{PORTS[CONTROLLER]}"}
    flags = [text for key, value in own.items() for text in ("--set", f"{key}={value}")]
    log = open(log_of(node), "ab")
    process = subprocess.Popen([BINARY, "start", *flags], stdout=log, stderr=log)
    processes[node] = process
    threading.Thread(target=watch, args=(node, process), daemon=True).start()


def end(node, how):
    process = processes.pop(node)
    asked_to_end.add(process.pid)
    process.send_signal(how)
    process.wait()


def kill(node):
    """Kills a broker and its disk, or the controller alone, whose metadata is on its disk."""
    end(node, signal.SIGKILL)
    if node != CONTROLLER:
        shutil.rmtree(f"{DIR}/node-{node}")
    time.sleep(rng.uniform(0, 2.5 * SESSION_MS / 1000))
    start(node)


def pause(node):
    process = processes[node]
    process.send_signal(signal.SIGSTOP)
    time.sleep(rng.uniform(*STOPPED_S))
    process.send_signal(signal.SIGCONT)


def stop(node):
    end(node, signal.SIGTERM)
    start(node)


def consumer_of(group):
    return Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group, "enable.auto.commit": False, "log_level": 0,
                     "auto.offset.reset": "earliest", "session.timeout.ms": 6_000, "fetch.wait.max.ms": 50,
                     "reconnect.backoff.max.ms": 200, "topic.metadata.refresh.interval.ms": 1000})


def retried(ask):
    """Asks until there is an answer, within the time of calm."""
    deadline = time.monotonic() + CALM_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            # negative codes are librdkafka's own: no connection, no answer in time
            passes = error.args[0].retriable() or error.args[0].code() < 0 or error.args[0].name() in MOVING
            if time.monotonic() > deadline or not passes:
                raise
            time.sleep(0.2)


def committed_now():
    consumer = consumer_of("readers")
    asked = [TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)]
    found = retried(lambda: consumer.committed(asked, timeout=10))
    consumer.close()
    return {partition.partition: max(partition.offset, 0) for partition in found}


def read_all():
    consumer = consumer_of("unused")
    found = {}
    for partition in range(PARTITIONS):
        target = TopicPartition(TOPIC, partition)
        low, high = retried(lambda: consumer.get_watermark_offsets(target, timeout=10))
        assert low == 0, low
        records, deadline = [], time.monotonic() + CALM_S
        consumer.assign([TopicPartition(TOPIC, partition, 0)])
        while len(records) < high and time.monotonic() < deadline:
            for record in consumer.consume(5000, timeout=0.5):
                assert record.error() is None or record.error().retriable() or record.error().code() < 0, record.error()
                if record.error() is None:
                    records.append((record.offset(), record.value()))
        assert [offset for offset, _ in records] == list(range(high)), f"{len(records)} of {high}"
        found[partition] = [value for _, value in records]
    consumer.close()
    return found


for node in [CONTROLLER, *BROKERS]:
    start(node)
admin = AdminClient({"bootstrap.servers": BOOTSTRAP, "log_level": 0})
deadline = time.monotonic() + CALM_S
while len(admin.list_topics(timeout=30).brokers) < len(BROKERS):
    assert time.monotonic() < deadline, "the brokers do not register"
    time.sleep(0.1)
admin.create_topics([NewTopic(TOPIC, PARTITIONS, len(BROKERS))])[TOPIC].result()

committed = dict.fromkeys(range(PARTITIONS), 0)
acknowledged = {}
sent = [0] * PARTITIONS
failures = []
running = True


def produce():
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True, "linger.ms": 2, "log_level": 0,
                         "message.timeout.ms": 120_000, "reconnect.backoff.max.ms": 200,
                         "topic.metadata.refresh.interval.ms": 1000})

    def delivered(error, record):
        if error is None:
            acknowledged[(record.partition(), record.value())] = record.offset()
        else:
            failures.append(error)

    while running:
        for partition in range(PARTITIONS):
            sent[partition] += 1
            value = f"{partition}-{sent[partition]:08d}".encode() * (1 + sent[partition] % 20)
            producer.produce(TOPIC, value, partition=partition, on_delivery=delivered)
        producer.poll(0.005)
    assert producer.flush(CALM_S) == 0, "records are still not answered"


def consume():
    consumer = consumer_of("readers")
    consumer.subscribe([TOPIC])
    while running:
        records = consumer.consume(500, timeout=0.05)
        for record in records:
            assert record.error() is None or record.error().retriable() or record.error().code() < 0, record.error()
        if records:
            try:
                for partition in consumer.commit(asynchronous=False) or []:
                    if partition.error is None and partition.offset >= 0:
                        before = committed[partition.partition]
                        committed[partition.partition] = max(before, partition.offset)
            except KafkaException as error:
                assert error.args[0].name() not in ("OFFSET_OUT_OF_RANGE", "UNKNOWN"), error
    consumer.close()


threads = [threading.Thread(target=produce), threading.Thread(target=consume)]
for thread in threads:
    thread.start()
counts = {}
until = time.monotonic() + arguments.seconds
while time.monotonic() < until:
    time.sleep(rng.uniform(*PAUSE_S))
    event = rng.choice([kill, kill, pause, pause, stop])
    node = CONTROLLER if event is not pause and rng.random() < 0.15 else rng.choice(BROKERS)
    name = f"{event.__name__} {'controller' if node == CONTROLLER else 'broker'}"
    counts[name] = counts.get(name, 0) + 1
    event(node)
    before = dict(committed)
    for partition, offset in committed_now().items():
        assert offset >= before[partition], f"partition {partition} committed {before[partition]}, then {offset}"
running = False
for thread in threads:
    thread.join()
assert not failures, failures[:3]
for partition, offset in committed_now().items():
    assert offset >= committed[partition], f"partition {partition} committed {committed[partition]}, now {offset}"
found = read_all()
for partition, values in found.items():
    assert len(set(values)) == len(values), f"a record stands twice in partition {partition}"
    numbers = [int(value[2:10]) for value in values]
    assert numbers == sorted(numbers), f"records of partition {partition} are out of order"
for (partition, value), offset in acknowledged.items():
    assert found[partition][offset] == value, f"partition {partition} offset {offset} holds another record"
assert len(acknowledged) > 1000 and sum(committed.values()) > 100, (len(acknowledged), committed)
for node in [*BROKERS, CONTROLLER]:
    end(node, signal.SIGTERM)
print(f"{len(acknowledged)} acknowledged records are there, committed {sum(committed.values())}; {counts}", flush=True)
