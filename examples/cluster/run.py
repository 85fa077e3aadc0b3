"""A cluster in one command: three controllers and three brokers on this machine, one of which is killed under load.

    run.py                                        the records are in a local directory
    run.py --s3 s3://bucket/prefix                they are in a bucket; credentials and region come from the environment

It writes to and reads from a topic all the time, kills a broker, stops another one, and prints how long clients waited.
At the end it looks for every acknowledged record. It needs Python alone. If anything is not as it must be, it says
what, and its exit status is 1.
"""

import argparse
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import uuid

from client import Client, Failed, Passing, encode_batch
from nodes import BROKERS, CONTROLLERS, SESSION_S, Nodes, find_binary, wait_for_clean_end

TOPIC, PARTITIONS = "events", 6
BATCH_RECORDS, PAUSE_S = 10, 0.01
# How long records flow before the first event, between the two, and after the second one.
CALM_S = 1.5
# The longest time in which anything may happen.
PATIENCE_S = 60
BEGUN = time.monotonic()


def say(text):
    print(f"{time.monotonic() - BEGUN:6.2f} s  {text}", flush=True)


def listed(numbers):
    return ", ".join(str(number) for number in sorted(numbers))


class Answers:
    """When each answer for a partition came, and from which broker."""

    def __init__(self):
        self.all = []

    def add(self, broker):
        self.all.append((time.monotonic(), broker))

    def resumed(self, broker, since):
        """When another broker answered for the first time after a moment; None if it has not happened."""
        return next((at for at, other in self.all if at > since and other != broker), None)

    def longest_gap(self, since):
        times = [since] + [at for at, _ in self.all if at > since]
        return max(after - before for before, after in zip(times, times[1:] + [time.monotonic()]))


class Workload:
    """A writer and a reader for each partition. The values that are written are a partition and a number that counts up
    from 0."""

    def __init__(self, bootstrap, producer):
        self.bootstrap, self.producer = bootstrap, producer
        self.is_writing = self.is_reading = True
        self.failure = None
        # by partition: the offsets of the acknowledged records, how many are read, and the answers
        self.offsets = {partition: [] for partition in range(PARTITIONS)}
        self.read = dict.fromkeys(range(PARTITIONS), 0)
        self.produced = {partition: Answers() for partition in range(PARTITIONS)}
        self.fetched = {partition: Answers() for partition in range(PARTITIONS)}
        self.writers, self.readers = ([threading.Thread(target=self.guarded, args=(part, partition), daemon=True)
                                       for partition in range(PARTITIONS)] for part in (self.write, self.follow))
        for thread in self.writers + self.readers:
            thread.start()

    def guarded(self, part, partition):
        client = Client(self.bootstrap, TOPIC)
        try:
            part(client, partition)
        except Exception as error:  # reported by the main thread
            self.failure = self.failure or error
        client.close()

    def write(self, client, partition):
        offsets = self.offsets[partition]
        while self.is_writing:
            values = [f"{partition}-{len(offsets) + number}".encode() for number in range(BATCH_RECORDS)]
            batch = encode_batch(values, *self.producer, first_sequence=len(offsets))
            # the same batch again, until a leader acknowledges it
            leader, base = client.retried(lambda: client.produce(partition, batch))
            self.produced[partition].add(leader)
            offsets.extend(range(base, base + BATCH_RECORDS))
            time.sleep(PAUSE_S)

    def follow(self, client, partition):
        """Reads records as they come. Each must be the next one: so none is lost, and none comes twice."""
        offset = 0
        while self.is_reading:
            leader, records, _ = client.retried(lambda: client.fetch(partition, offset))
            for offset_found, value in records:
                expected = f"{partition}-{self.read[partition]}"
                if value.decode() != expected:
                    raise Failed(f"partition {partition} offset {offset_found} is {value.decode()}, not {expected}")
                self.read[partition] += 1
                offset = offset_found + 1
            if records:
                self.fetched[partition].add(leader)

    def acknowledged(self):
        return sum(len(offsets) for offsets in self.offsets.values())

    def consumed(self):
        return sum(self.read.values())

    def finish(self, until):
        """Ends the writers once their last batch is acknowledged, and the readers once they have read everything."""
        self.is_writing = False
        until(lambda: not any(thread.is_alive() for thread in self.writers), "the writers end")
        until(lambda: self.consumed() >= self.acknowledged(), "the readers reach the end")
        self.is_reading = False
        until(lambda: not any(thread.is_alive() for thread in self.readers), "the readers end")


class Story:
    """What happens to the cluster, in order."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.bootstrap = [nodes.addresses[broker] for broker in BROKERS]
        self.client = Client(self.bootstrap, TOPIC)
        self.workload = None

    def until(self, is_so, what):
        """Waits for something, and fails at once if a node or a thread of the workload has ended meanwhile."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            self.nodes.check()
            if self.workload and self.workload.failure:
                raise self.workload.failure
            if time.monotonic() > deadline:
                raise Failed(f"in {PATIENCE_S} s this did not happen: {what}")
            time.sleep(0.01)

    def calm(self):
        end = time.monotonic() + CALM_S
        self.until(lambda: time.monotonic() > end, "time passes")

    def form(self):
        for role, members in ("controllers", CONTROLLERS), ("brokers", BROKERS):
            pids = ", ".join(f"{node} (pid {self.nodes.start(node)})" for node in members)
            say(f"started the {role} {pids}")
        since = time.monotonic()

        def is_formed():
            try:
                return self.client.refresh() == BROKERS
            except Passing:  # no broker listens yet
                return False

        self.until(is_formed, "the brokers form a cluster")
        active, voters = self.client.retried(self.client.quorum)
        say(f"the cluster has formed after {time.monotonic() - since:.1f} s: controller {active} is active, the quorum "
            f"is {listed(voters)}")

    def create_topic(self):
        self.client.retried(lambda: self.client.create_topic(PARTITIONS))
        self.until(lambda: self.leaders() and all(leader > 0 for leader in self.leaders().values()), "leaders")
        say(f"created the topic {TOPIC} with {PARTITIONS} partitions: {self.leaderships()}")

    def leaders(self):
        self.client.retried(self.client.refresh)
        return self.client.leaders

    def leaderships(self):
        leaders = self.leaders()
        led = {broker: [partition for partition in leaders if leaders[partition] == broker] for broker in BROKERS}
        return "; ".join(f"broker {broker} leads {listed(led[broker])}" for broker in BROKERS if led[broker])

    def produce(self):
        self.workload = Workload(self.bootstrap, self.client.retried(self.client.init_producer_id))
        self.until(lambda: all(self.workload.read.values()), "a record of each partition is read")
        self.calm()
        self.count()

    def count(self):
        say(f"{self.workload.acknowledged()} records are acknowledged, {self.workload.consumed()} of them consumed; "
            "writers and readers go on")

    def end_leader(self, how):
        """Ends the leader of partition 0, and waits until other brokers have answered for every partition that it led.

        Returns the broker, its process, its partitions, and the moment of the signal.
        """
        leaders = dict(self.leaders())
        broker = leaders[0]
        led = [partition for partition in leaders if leaders[partition] == broker]
        pid, number = self.nodes.running[broker].pid, getattr(signal, how).value
        say(f"{how} (kill -{number}) to broker {broker} (pid {pid}), which leads {listed(led)}")
        since = time.monotonic()
        process = self.nodes.signal(broker, how)
        for answers in self.workload.produced, self.workload.fetched:
            self.until(lambda: all(answers[partition].resumed(broker, since) for partition in led),
                       f"others take over what broker {broker} led")
        others = [partition for partition in leaders if partition not in led]
        gap = max(self.workload.produced[partition].longest_gap(since) for partition in others)
        say(f"  writers of the other partitions waited {duration(gap)} at most meanwhile")
        return broker, process, led, since

    def kill_leader(self):
        broker, process, led, since = self.end_leader("SIGKILL")
        process.wait()
        shutil.rmtree(self.nodes.directory / f"node-{broker}")
        for partition in led:
            wrote, read = (duration(answers[partition].resumed(broker, since) - since)
                           for answers in (self.workload.produced, self.workload.fetched))
            say(f"  partition {partition}: first acknowledged produce elsewhere after {wrote}, first fetch after "
                f"{read}")
        say(f"  its session ended {SESSION_S} s after its last heartbeat; then the others sealed its log in the object "
            "store")
        say("  and went on from there; its own directory is deleted")
        say(f"  {self.leaderships()}")
        self.calm()
        self.count()

    def stop_leader(self):
        broker, process, led, since = self.end_leader("SIGTERM")
        wait_for_clean_end(broker, process)
        for partition in led:
            wrote, read = (duration(answers[partition].longest_gap(since))
                           for answers in (self.workload.produced, self.workload.fetched))
            say(f"  partition {partition}: its writer waited {wrote}, its reader {read}")
        say("  a planned move: the broker handed its partitions over before it stopped")
        say(f"  {self.leaderships()}")
        self.calm()

    def read_back(self):
        """Reads the topic from its beginning, and compares it with what was acknowledged."""
        self.workload.finish(self.until)
        total = self.workload.acknowledged()
        say(f"writers and readers have ended: {total} records are acknowledged, {self.workload.consumed()} of them "
            "consumed")
        for partition, offsets in self.workload.offsets.items():
            found, offset, end, deadline = [], 0, 1, time.monotonic() + PATIENCE_S
            while offset < end:
                if time.monotonic() > deadline:
                    raise Failed(f"partition {partition} can't be read from offset {offset} to its end at {end}")
                _, records, end = self.client.retried(lambda: self.client.fetch(partition, offset))
                found += records
                offset = found[-1][0] + 1 if found else 0
            expected = [(offset, f"{partition}-{number}".encode()) for number, offset in enumerate(offsets)]
            if found != expected:
                lost, more = set(expected) - set(found), set(found) - set(expected)
                raise Failed(f"partition {partition}: {len(lost)} acknowledged records are lost, {len(more)} are there "
                             f"that were not acknowledged: {sorted(lost | more)[:3]}")
        say(f"read back from the beginning: all {total} acknowledged records are there, none lost, none twice")

    def stop(self):
        self.client.close()
        for members in BROKERS, CONTROLLERS:
            self.nodes.stop(members)
        say("all nodes have stopped")


def duration(seconds):
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def tell(options, binary, directory):
    storage = f"file://{directory}/objects"
    if options.s3:
        # a prefix belongs to one cluster, and each run is a new one
        storage = f"{options.s3.rstrip('/')}/{uuid.uuid4().hex[:8]}"
    say(f"the records are in {storage}, the nodes' logs in {directory}")
    nodes = Nodes(binary, directory, storage, options.endpoint)
    try:
        story = Story(nodes)
        for part in (story.form, story.create_topic, story.produce, story.kill_leader, story.stop_leader,
                     story.read_back, story.stop):
            part()
    finally:
        nodes.kill()
    if options.s3:
        say(f"what is in the bucket stays there: {storage}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the program highwater (default: target/release/highwater, built if need be)")
    parser.add_argument("--dir", type=pathlib.Path, help="an empty directory for all data, which is kept (default: a "
                        "temporary one, which is removed)")
    parser.add_argument("--s3", metavar="URL", help="the records are in a bucket: s3://bucket/prefix")
    parser.add_argument("--endpoint", metavar="URL", help="another S3 service than AWS, such as http://127.0.0.1:9000")
    options = parser.parse_args()
    if options.s3 and not options.s3.startswith("s3://"):
        parser.error(f"{options.s3} is not s3://bucket/prefix")
    if options.endpoint and not options.s3:
        parser.error("--endpoint is for --s3")
    if options.dir and options.dir.exists() and any(options.dir.iterdir()):
        parser.error(f"{options.dir} is not empty")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        binary = find_binary(options.binary)
    except Failed as error:
        sys.exit(f"failed: {error}")
    directory = options.dir.resolve() if options.dir else pathlib.Path(tempfile.mkdtemp(prefix="highwater-"))
    directory.mkdir(parents=True, exist_ok=True)
    is_kept = options.dir is not None
    try:
        tell(options, binary, directory)
    except KeyboardInterrupt:
        say("stopped before it was done")
        sys.exit(130)
    except Exception as error:
        is_kept = True
        if not isinstance(error, Failed):
            traceback.print_exc()
        sys.exit(f"failed: {error}; the nodes' logs are {directory}/node-*.log")
    finally:
        if not is_kept:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
