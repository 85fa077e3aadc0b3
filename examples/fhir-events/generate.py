#!/usr/bin/env python3
"""Sends a deterministic stream of FHIR events, keyed by patient. Exits with 1 if any is not acknowledged."""

import itertools
import sys
import time

from confluent_kafka import Producer

import fhir
import options


def main() -> int:
    parser = options.parser(__doc__)
    parser.add_argument("--skip", type=int, default=0, help="events that an earlier run has sent")
    parser.add_argument("--limit", type=int, default=None, help="stop after so many events")
    parser.add_argument("--rate", type=float, default=0, help="events a second; 0: as fast as they are taken")
    parser.add_argument("--compression", default="none", choices=["none", "gzip", "snappy", "lz4", "zstd"])
    args = parser.parse_args()

    producer = Producer(
        {
            "bootstrap.servers": args.bootstrap,
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": args.compression,
            "linger.ms": 5,
            # a body of 2 MiB with its key and headers is a little more
            "message.max.bytes": 3 * 1024 * 1024,
            "queue.buffering.max.kbytes": 64 * 1024,
            "delivery.timeout.ms": int(args.stall_seconds * 1000),
        }
    )
    acknowledged, failures, sent_bytes = 0, [], 0

    def delivered(error, message):
        nonlocal acknowledged
        if error is None:
            acknowledged += 1
        else:
            failures.append(f"{message.key().decode()}: {error}")

    started = time.monotonic()
    end = None if args.limit is None else args.skip + args.limit
    count = 0
    for number, seq in itertools.islice(fhir.plan(args.seed, args.patients, args.events), args.skip, end):
        event = fhir.event(args.seed, number, seq)
        headers = {"patient-seq": str(seq), "sha256": event.sha256, "fhir-type": event.kind}
        while True:
            try:
                producer.produce(args.topic, key=event.patient, value=event.body, headers=headers, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        if failures:
            break
        count += 1
        sent_bytes += len(event.body)
        if args.rate:
            time.sleep(max(0.0, started + count / args.rate - time.monotonic()))
    left = producer.flush(args.stall_seconds)
    seconds = time.monotonic() - started
    print(f"generate: {acknowledged} of {count} acknowledged, {sent_bytes / 1e6:.1f} MB in {seconds:.1f} s", flush=True)
    for failure in failures[:5]:
        print(f"generate: not delivered: {failure}", file=sys.stderr)
    return 0 if not failures and left == 0 and acknowledged == count else 1


if __name__ == "__main__":
    sys.exit(main())
