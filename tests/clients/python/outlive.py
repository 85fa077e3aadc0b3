"""What the programs that kill brokers share: nodes that end only when they are asked to, and a workload whose every
acknowledged record and committed offset is looked for afterwards.

The workload is an idempotent producer, which writes numbered records to all partitions of a topic, and a group, which
reads and commits all the time.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

LOG_LINES = 40
# The time within which clients get their answers once nothing fails any more.
CALM_S = 90
# The errors of a coordinator that moves, which librdkafka hands to the program.
MOVING = ("NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS")
GROUP = "readers"


class Nodes:
    """Processes of the broker. One that ends without being asked ends the whole program, which prints the node's log."""

    def __init__(self):
        self.running = {}
        self.asked_to_end = set()
        # What is called before the program ends because of a failure.
        self.at_failure = lambda: None
        sys.excepthook = self.failed_check
        threading.excepthook = lambda raised: self.failed_check(raised.exc_type, raised.exc_value, raised.exc_traceback)

    def start(self, node, command, settings, log, crash_at=None):
        """Starts a node: the binary, after a command that runs it elsewhere. With a crash point, it may end there with
        SIGABRT."""
        flags = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
        env = dict(os.environ, **({"HIGHWATER_CRASH_AT": crash_at} if crash_at else {}))
        with open(log, "ab") as output:
            process = subprocess.Popen([*command, "start", *flags], env=env, stdout=output, stderr=output)
        self.running[node] = process
        threading.Thread(target=self.watch, args=(node, process, log, crash_at), daemon=True).start()
        return process

    def end(self, node, how):
        process = self.running.pop(node)
        self.asked_to_end.add(process.pid)
        process.send_signal(how)
        process.wait()

    def watch(self, node, process, log, crash_at):
        status = process.wait()
        if process.pid not in self.asked_to_end and not (crash_at and status == -signal.SIGABRT):
            with open(log, errors="replace") as lines:
                last = lines.read().splitlines()[-LOG_LINES:]
            print(f"node {node} ended by itself with {status}:", *last, sep="\n", file=sys.stderr, flush=True)
            self.fail()

    def failed_check(self, kind, value, trace):
        sys.__excepthook__(kind, value, trace)
        self.fail()

    def fail(self):
        """Ends the program at once, from any thread, and kills the nodes."""
        for process in list(self.running.values()):
            self.asked_to_end.add(process.pid)
            process.kill()
        self.at_failure()
        sys.stderr.flush()
        os._exit(1)


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


def is_passing(error):
    """Whether a consumer goes on by itself after an error."""
    return error.retriable() or error.code() < 0


class Workload:
    """A producer and a group on one topic, from `start` to `stop`, as often as wanted."""

    def __init__(self, bootstrap, topic, partitions, seed, pause_s=0.001):
        self.client = {"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200,
                       "topic.metadata.refresh.interval.ms": 1000}
        self.topic, self.partitions, self.pause_s = topic, range(partitions), pause_s
        self.rng = random.Random(seed)
        self.sent = [0] * partitions
        self.acknowledged = {}
        self.failures = []
        self.committed = dict.fromkeys(self.partitions, 0)
        self.threads = []
        self.running = False

    def start(self):
        self.running = True
        self.threads = [threading.Thread(target=self.produce), threading.Thread(target=self.consume)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.running = False
        for thread in self.threads:
            thread.join()
        assert not self.failures, self.failures[:3]

    def wait_for_records(self, count):
        """Waits until so many more records are acknowledged."""
        wanted, deadline = len(self.acknowledged) + count, time.monotonic() + CALM_S
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, "nothing is acknowledged"
            time.sleep(0.01)

    def produce(self):
        producer = Producer({**self.client, "enable.idempotence": True, "linger.ms": 2, "message.timeout.ms": 120_000,
                             "compression.type": self.rng.choice(["none", "lz4"])})

        def delivered(error, record):
            if error is None:
                self.acknowledged[(record.partition(), record.value())] = record.offset()
            else:
                self.failures.append(error)

        while self.running:
            for partition in self.partitions:
                self.sent[partition] += 1
                value = f"{partition}-{self.sent[partition]:08d}".encode() * self.rng.randint(1, 20)
                producer.produce(self.topic, value, partition=partition, on_delivery=delivered)
            producer.poll(self.pause_s)
        assert producer.flush(CALM_S) == 0, "records are still not answered"

    def consumer_of(self, group):
        return Consumer({**self.client, "group.id": group, "enable.auto.commit": False, "fetch.wait.max.ms": 50,
                         "auto.offset.reset": "earliest", "session.timeout.ms": 6_000})

    def consume(self):
        consumer = self.consumer_of(GROUP)
        consumer.subscribe([self.topic])
        while self.running:
            records = consumer.consume(500, timeout=0.05)
            for record in records:
                assert record.error() is None or is_passing(record.error()), record.error()
            if records:
                try:
                    for partition in consumer.commit(asynchronous=False) or []:
                        if partition.error is None and partition.offset >= 0:
                            before = self.committed[partition.partition]
                            self.committed[partition.partition] = max(before, partition.offset)
                except KafkaException as error:
                    assert error.args[0].name() not in ("OFFSET_OUT_OF_RANGE", "UNKNOWN"), error
        consumer.close()

    def check_offsets(self):
        """Fails if a committed offset is now before one that the group was told of."""
        before = dict(self.committed)
        consumer = self.consumer_of(GROUP)
        asked = [TopicPartition(self.topic, partition) for partition in self.partitions]
        found = retried(lambda: consumer.committed(asked, timeout=10))
        consumer.close()
        for partition in found:
            number, offset = partition.partition, max(partition.offset, 0)
            assert offset >= before[number], f"partition {number} committed {before[number]}, now {offset}"

    def check_records(self):
        """Fails unless every acknowledged record is in the log once, in order, at its offset, and each other record once
        or not at all."""
        found = self.read_all()
        for partition, values in found.items():
            assert len(set(values)) == len(values), f"a record stands twice in partition {partition}"
            numbers = [int(value[2:10]) for value in values]
            assert numbers == sorted(numbers), f"records of partition {partition} are out of order"
        for (partition, value), offset in self.acknowledged.items():
            assert found[partition][offset] == value, f"partition {partition} offset {offset} holds another record"

    def read_all(self):
        consumer = self.consumer_of("unused")
        found = {}
        for partition in self.partitions:
            target = TopicPartition(self.topic, partition)
            low, high = retried(lambda: consumer.get_watermark_offsets(target, timeout=10))
            assert low == 0, low
            records, deadline = [], time.monotonic() + CALM_S
            consumer.assign([TopicPartition(self.topic, partition, 0)])
            while len(records) < high and time.monotonic() < deadline:
                for record in consumer.consume(5000, timeout=0.5):
                    assert record.error() is None or is_passing(record.error()), record.error()
                    if record.error() is None:
                        records.append((record.offset(), record.value()))
            assert [offset for offset, _ in records] == list(range(high)), f"{len(records)} of {high}"
            found[partition] = [value for _, value in records]
        consumer.close()
        return found

    def __str__(self):
        records, offsets = len(self.acknowledged), sum(self.committed.values())
        return f"{records} acknowledged records are there, committed {offsets}"
