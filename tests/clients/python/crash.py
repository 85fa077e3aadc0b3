"""Kills the broker, at named points and at random, while idempotent producers write.

After each restart every acknowledged record is in the log once, in order, at its offset. A record that was not
acknowledged is there once or not at all. The committed offsets of a group that reads and commits all the time never go
back. If a broker ends in another way than the program made it end, or refuses to start, the program prints the broker's
log and ends at once.

Usage: crash.py BINARY DIR PORT [--wal disk|object] [--seed SEED]

With the write-ahead log in the object store, the broker also dies while the next start registers what it left there.

With a seed, the seed chooses the points of the kills, the broker lives longer between them, and the run has a topic of
its own, which it deletes at the end. Therefore one run can follow another in the same directory.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

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
# The points at which starts die after a kill at a random time, each of which leaves one more epoch to be closed, and the
# time within which a start passes them.
START_S = 3
START_POINTS = {"disk": [], "object": ["index-before-put:1", "index-after-put:1"]}[arguments.wal]
# The most passes through a point before the broker dies there.
PASSES_MAX = {"wal-before-write": 200, "wal-after-write": 200, "wal-after-sync": 200, "upload-before-put": 20,
              "upload-after-put": 20, "upload-after-commit": 20, "group-before-put": 100, "group-after-put": 100}
LOG = os.path.join(DIR, "broker.log")
LOG_LINES = 30
asked_to_end = set()
running_brokers = []
os.makedirs(DIR, exist_ok=True)


def fail():
    """Ends the program at once, from any thread, and kills its brokers."""
    for process in running_brokers:
        asked_to_end.add(process.pid)
        process.kill()
    sys.stderr.flush()
    os._exit(1)


def failed_check(kind, value, trace):
    sys.__excepthook__(kind, value, trace)
    fail()


sys.excepthook = failed_check
threading.excepthook = lambda raised: failed_check(raised.exc_type, raised.exc_value, raised.exc_traceback)


def watch(process, point):
    """Waits for a broker to end, and fails unless a crash point or this program ended it."""
    status = process.wait()
    if process.pid not in asked_to_end and not (point and status == -signal.SIGABRT):
        with open(LOG, errors="replace") as log:
            last = log.read().splitlines()[-LOG_LINES:]
        print(f"the broker ended by itself with {status}:", *last, sep="\n", file=sys.stderr, flush=True)
        fail()


def end(process, how):
    asked_to_end.add(process.pid)
    process.send_signal(how)
    process.wait()


def start(point):
    env = dict(os.environ, **({"HIGHWATER_CRASH_AT": point} if point else {}))
    log = open(LOG, "ab")
    process = subprocess.Popen(
        [BINARY, "start", "--set", f"listeners=PLAINTEXT://{BOOTSTRAP}", "--set", f"highwater.data.dir={DIR}/data",
         "--set", "highwater.admin.listener=", "--set", "highwater.upload.interval.ms=150",
         "--set", f"num.partitions={PARTITIONS}", "--set", f"highwater.wal={arguments.wal}",
         "--set", "group.initial.rebalance.delay.ms=100"], env=env, stdout=log, stderr=log)
    asked_to_end.discard(process.pid)
    running_brokers[:] = [process]
    threading.Thread(target=watch, args=(process, point), daemon=True).start()
    for _ in range(400):
        if process.poll() is not None:
            return process
        try:
            socket.create_connection(("127.0.0.1", PORT), 0.2).close()
            return process
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the broker does not start")


def read_all():
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "unused", "enable.auto.commit": False,
                         "fetch.wait.max.ms": 50})
    found = {}
    for partition in range(PARTITIONS):
        target = TopicPartition(TOPIC, partition)
        low, high = consumer.get_watermark_offsets(target, timeout=30)
        assert low == 0, low
        records, deadline = [], time.monotonic() + 60
        consumer.assign([TopicPartition(TOPIC, partition, 0)])
        while len(records) < high and time.monotonic() < deadline:
            for record in consumer.consume(5000, timeout=0.5):
                assert record.error() is None, record.error()
                records.append((record.offset(), record.value()))
        assert [offset for offset, _ in records] == list(range(high)), f"{len(records)} of {high}"
        found[partition] = [value for _, value in records]
    consumer.close()
    return found


def consumer_of(group):
    return Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group, "enable.auto.commit": False, "log_level": 0,
                     "auto.offset.reset": "earliest", "session.timeout.ms": 6_000, "fetch.wait.max.ms": 50,
                     "reconnect.backoff.max.ms": 200})


def committed_now():
    consumer = consumer_of("readers")
    found = consumer.committed([TopicPartition(TOPIC, p) for p in range(PARTITIONS)], timeout=30)
    consumer.close()
    return {partition.partition: max(partition.offset, 0) for partition in found}


committed = dict.fromkeys(range(PARTITIONS), 0)
acknowledged = {}
sent = [0] * PARTITIONS
deaths_at_starts = dict.fromkeys(START_POINTS, 0)
rng = random.Random(1 if arguments.seed is None else arguments.seed)
if arguments.seed is not None:
    drawn = rng.choices([*sorted({point.partition(":")[0] for point in POINTS if point}), None], k=ROUNDS)
    POINTS = [point and f"{point}:{rng.randint(1, PASSES_MAX[point])}" for point in drawn]
for round_number, point in enumerate(POINTS):
    broker = start(point)
    running = True

    def produce():
        producer = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True, "linger.ms": 2,
                             "message.timeout.ms": 60_000, "log_level": 0, "reconnect.backoff.max.ms": 200,
                             "compression.type": rng.choice(["none", "lz4"])})

        def delivered(error, record):
            if error is None:
                acknowledged[(record.partition(), record.value())] = record.offset()

        while running:
            for partition in range(PARTITIONS):
                sent[partition] += 1
                value = f"{partition}-{sent[partition]:08d}".encode() * rng.randint(1, 20)
                producer.produce(TOPIC, value, partition=partition, on_delivery=delivered)
            producer.poll(0.001)
        producer.flush(60)

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
                            committed[partition.partition] = max(committed[partition.partition], partition.offset)
                except KafkaException as error:
                    assert error.args[0].name() not in ("OFFSET_OUT_OF_RANGE", "UNKNOWN"), error
        consumer.close()

    threads = [threading.Thread(target=produce), threading.Thread(target=consume)]
    for thread in threads:
        thread.start()
    if point is None:
        time.sleep(rng.uniform(*LIFE_S))
        end(broker, signal.SIGKILL)
        for start_point in START_POINTS:
            starting = start(start_point)
            try:
                starting.wait(START_S)
                deaths_at_starts[start_point] += 1
            except subprocess.TimeoutExpired:
                # all that was appended before the kill had been uploaded
                end(starting, signal.SIGKILL)
    else:
        try:
            broker.wait(20)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the crash point {point} was never reached")
    broker = start(None)
    time.sleep(0.5)
    running = False
    for thread in threads:
        thread.join()
    for partition, offset in committed_now().items():
        assert offset >= committed[partition], f"partition {partition} committed {committed[partition]}, now {offset}"
    found = read_all()
    for partition, values in found.items():
        assert len(set(values)) == len(values), f"a record stands twice in partition {partition}"
        numbers = [int(value[2:10]) for value in values]
        assert numbers == sorted(numbers), f"records of partition {partition} are out of order"
    for (partition, value), offset in acknowledged.items():
        assert found[partition][offset] == value, f"partition {partition} offset {offset} holds another record"
    end(broker, signal.SIGKILL if round_number % 2 else signal.SIGTERM)
    print(f"crash {point or 'at random'}: {len(acknowledged)} acknowledged records are there, "
          f"committed {sum(committed.values())}", flush=True)
assert arguments.seed is not None or all(deaths_at_starts.values()), deaths_at_starts
assert len(acknowledged) > 1000 and sum(committed.values()) > 1000
if arguments.seed is not None:
    broker = start(None)
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP, "log_level": 0})
    admin.delete_topics([TOPIC], operation_timeout=30)[TOPIC].result()
    end(broker, signal.SIGTERM)
