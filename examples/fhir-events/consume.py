#!/usr/bin/env python3
"""Processes the stream with a consumer group and verifies it: order, no gap, no duplicate, checksums.

Members run as threads of this process and share one ledger. With --churn the last member leaves after a third and a new
one joins, so that partitions move while the stream goes on. Exits with 1 on the first violation.
"""

import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

import fhir
import options
from ledger import Ledger, Violation

COMMIT_EVERY = 100
# a rebalance or a broker that restarts refuses a commit: those events are delivered again
COMMIT_AGAIN = (
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._WAIT_COORD,
)


class Member(threading.Thread):
    """One member: polls, verifies, commits what it has processed."""

    def __init__(self, args, ledger: Ledger, group: "Group"):
        super().__init__(daemon=True)
        self._args, self._ledger, self._group = args, ledger, group
        self._floors = {}
        self._processed = {}
        self._leave = threading.Event()
        self.taken = 0

    def leave(self):
        """Asks the member to commit and leave the group."""
        self._leave.set()

    def run(self):
        consumer = Consumer(
            {
                "bootstrap.servers": self._args.bootstrap,
                "group.id": self._args.group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "partition.assignment.strategy": self._args.strategy,
                "fetch.message.max.bytes": 4 * 1024 * 1024,
                "topic.metadata.refresh.interval.ms": 5000,
                # notices a rebalance soon, though polls are seldom when each event is worked on
                "heartbeat.interval.ms": 500,
            }
        )
        try:
            consumer.subscribe([self._args.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
            while not self._leave.is_set() and not self._group.over():
                self._one(consumer)
            self._commit(consumer)
        except Exception as error:  # whatever ends a member ends the run
            self._group.fail(error)
        finally:
            consumer.close()

    def _one(self, consumer):
        message = consumer.poll(0.2)
        if message is None:
            return
        if message.error():
            if message.error().code() in (KafkaError._PARTITION_EOF, KafkaError.UNKNOWN_TOPIC_OR_PART):
                return
            raise KafkaException(message.error())
        partition = message.partition()
        self._ledger.take(message, self._floors.get(partition, 0), redelivery=True)
        self._processed[partition] = message.offset() + 1
        self.taken += 1
        if self._args.work_ms:
            time.sleep(self._args.work_ms / 1000)
        if self.taken % COMMIT_EVERY == 0:
            self._commit(consumer)

    def _commit(self, consumer):
        offsets = [TopicPartition(self._args.topic, p, offset) for p, offset in self._processed.items()]
        if not offsets:
            return
        try:
            results = consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() in COMMIT_AGAIN:
                return
            raise
        for result in results:
            if result.error is None:
                self._ledger.committed(result.partition, result.offset)
        self._processed.clear()

    def _assigned(self, _consumer, partitions):
        for partition in partitions:
            self._floors[partition.partition] = self._ledger.floor(partition.partition)

    def _revoked(self, consumer, partitions):
        self._commit(consumer)
        self._lost(consumer, partitions)

    def _lost(self, _consumer, partitions):
        for partition in partitions:
            self._floors.pop(partition.partition, None)
            self._processed.pop(partition.partition, None)


class Group:
    """The members, until everything was seen or something is wrong."""

    def __init__(self, args, ledger: Ledger):
        self._args, self._ledger = args, ledger
        self._failure = None
        self.members = []

    def over(self) -> bool:
        return self._failure is not None or self._ledger.missing() == 0

    def fail(self, error: Exception) -> None:
        self._failure = self._failure or error

    def join(self) -> Member:
        member = Member(self._args, self._ledger, self)
        self.members.append(member)
        member.start()
        return member

    def run(self) -> None:
        """Returns when every event was seen; raises what went wrong."""
        for _ in range(self._args.members):
            last = self.join()
        churned = not self._args.churn
        late = self._ledger.missing() * 2 // 3
        progress, since = self._ledger.messages, time.monotonic()
        while not self.over():
            time.sleep(0.05)
            if not churned and self._ledger.missing() <= late:
                churned = True
                last.leave()
                last.join(self._args.stall_seconds)
                self.join()
            if self._ledger.messages != progress:
                progress, since = self._ledger.messages, time.monotonic()
            elif time.monotonic() - since > self._args.stall_seconds:
                self.fail(Violation(f"no progress, missing: {self._ledger.first_missing()}"))
        for member in self.members:
            member.join(self._args.stall_seconds)
        if self._failure is not None:
            raise self._failure
        self._check_committed()

    def _check_committed(self) -> None:
        """What the group has processed is committed, as a client sees it that comes later."""
        ends = self._ledger.ends()
        asked = [TopicPartition(self._args.topic, partition) for partition in ends]
        consumer = Consumer({"bootstrap.servers": self._args.bootstrap, "group.id": self._args.group})
        try:
            for found in consumer.committed(asked, timeout=self._args.stall_seconds):
                if found.error is not None:
                    raise KafkaException(found.error)
                if found.offset != ends[found.partition]:
                    where = f"partition={found.partition} processed to {ends[found.partition]}"
                    raise Violation(f"committed offset is {found.offset}: {where}")
        finally:
            consumer.close()


def main() -> int:
    parser = options.parser(__doc__)
    parser.add_argument("--group", default="fhir-processors")
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--churn", action="store_true", help="after a third one member leaves and another joins")
    parser.add_argument("--work-ms", type=float, default=0, help="how long an event is worked on")
    parser.add_argument("--strategy", default="range", choices=["range", "roundrobin"])
    args = parser.parse_args()
    ledger = Ledger(fhir.expected(args.seed, args.patients, args.events))
    group = Group(args, ledger)
    started = time.monotonic()
    try:
        group.run()
    except (Violation, KafkaException, ValueError, KeyError) as error:
        print(f"consume: VIOLATION: {error}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - started
    shares = ", ".join(str(member.taken) for member in group.members)
    print(
        f"consume: {ledger.messages} messages ({ledger.redelivered} delivered again), {ledger.bytes / 1e6:.1f} MB "
        f"in {seconds:.1f} s, by member: {shares}",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
