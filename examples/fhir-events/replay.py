#!/usr/bin/env python3
"""Reads the whole topic from the beginning, without a group, while the stream goes on, and verifies every event.

Exits with 1 on the first violation: here an event may be delivered only once.
"""

import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

import fhir
import options
from ledger import Ledger, Violation


def read(args, ledger: Ledger) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": args.bootstrap,
            "group.id": "fhir-replay-without-group",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "fetch.message.max.bytes": 4 * 1024 * 1024,
        }
    )
    try:
        partitions = sorted(consumer.list_topics(args.topic, timeout=args.stall_seconds).topics[args.topic].partitions)
        consumer.assign([TopicPartition(args.topic, p, OFFSET_BEGINNING) for p in partitions])
        next_offset = {}
        since = time.monotonic()
        while ledger.missing() > 0:
            message = consumer.poll(0.2)
            if message is None or (message.error() and message.error().code() == KafkaError._PARTITION_EOF):
                if time.monotonic() - since > args.stall_seconds:
                    raise Violation(f"no progress, missing: {ledger.first_missing()}")
                continue
            if message.error():
                raise KafkaException(message.error())
            partition, offset = message.partition(), message.offset()
            if offset < next_offset.get(partition, 0):
                raise Violation(f"offset {offset} of partition {partition} after {next_offset[partition] - 1}")
            next_offset[partition] = offset + 1
            ledger.take(message)
            since = time.monotonic()
    finally:
        consumer.close()


def main() -> int:
    args = options.parser(__doc__).parse_args()
    ledger = Ledger(fhir.expected(args.seed, args.patients, args.events))
    started = time.monotonic()
    try:
        read(args, ledger)
    except (Violation, KafkaException, ValueError, KeyError) as error:
        print(f"replay: VIOLATION: {error}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - started
    print(f"replay: {ledger.messages} messages, {ledger.bytes / 1e6:.1f} MB in {seconds:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
