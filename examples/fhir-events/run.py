#!/usr/bin/env python3
"""Runs the whole example: creates a topic, sends the stream, processes it with a group, replays it while it goes on.

The first half is sent while the group reads; then the replay starts at the beginning, and the second half is sent while
it reads. Exits with 1 if anything is lost, repeated, out of order or changed.
"""

import pathlib
import subprocess
import sys
import time
import uuid

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

import options

HERE = pathlib.Path(__file__).resolve().parent
# patients, events, partitions, members, milliseconds of work on each event (so that members come and go in between)
SCALES = {"small": (40, 600, 4, 2, 10), "medium": (2_000, 20_000, 12, 3, 1), "large": (20_000, 500_000, 32, 6, 0)}


def create_topic(args, partitions: int) -> None:
    """Creates the topic, with room for the largest event, and waits until it is there."""
    admin = AdminClient({"bootstrap.servers": args.bootstrap})
    # an event of 2 MiB, its key and headers, and the batch around it
    config = {"max.message.bytes": str(3 * 1024 * 1024)}
    topic = NewTopic(args.topic, num_partitions=partitions, replication_factor=1, config=config)
    admin.create_topics([topic])[args.topic].result(args.stall_seconds)
    deadline = time.monotonic() + args.stall_seconds
    while True:
        found = admin.list_topics(args.topic, timeout=args.stall_seconds).topics[args.topic]
        if found.error is None and len(found.partitions) == partitions:
            return
        if time.monotonic() > deadline:
            raise KafkaException(found.error)
        time.sleep(0.1)


def script(args, name: str, *more: str) -> subprocess.Popen:
    """Starts one of the scripts beside this one on the same stream."""
    stream = ["--bootstrap", args.bootstrap, "--topic", args.topic, "--seed", str(args.seed)]
    stream += ["--patients", str(args.patients), "--events", str(args.events)]
    stream += ["--stall-seconds", str(args.stall_seconds)]
    return subprocess.Popen([sys.executable, str(HERE / name), *stream, *more])


def main() -> int:
    parser = options.parser(__doc__)
    parser.set_defaults(topic=None, patients=None, events=None)
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--compression", default="none", choices=["none", "gzip", "snappy", "lz4", "zstd"])
    parser.add_argument("--rate", type=float, default=0, help="events a second; 0: as fast as they are taken")
    args = parser.parse_args()
    patients, events, partitions, members, work_ms = SCALES[args.scale]
    args.patients = args.patients or patients
    args.events = args.events or events
    args.topic = args.topic or f"fhir-events-{uuid.uuid4().hex[:8]}"
    try:
        create_topic(args, partitions)
    except KafkaException as error:
        print(f"run: cannot create the topic {args.topic} at {args.bootstrap}: {error}", file=sys.stderr)
        return 1
    print(f"run: {args.events} events of {args.patients} patients, seed {args.seed}, topic {args.topic}", flush=True)

    half = args.events // 2
    pace = ["--rate", str(args.rate), "--compression", args.compression]
    running = []
    try:
        group = ["--group", f"{args.topic}-processors", "--members", str(members)]
        group += ["--work-ms", str(work_ms), "--churn"]
        running.append(script(args, "consume.py", *group))
        generator = script(args, "generate.py", "--limit", str(half), *pace)
        running.append(generator)
        if generator.wait() == 0:
            running.append(script(args, "replay.py"))
            running.append(script(args, "generate.py", "--skip", str(half), *pace))
            failed = any([process.wait() != 0 for process in running])
        else:
            failed = True
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
                process.wait()
    print("run: FAILED" if failed else "run: every event was there once, in order, unchanged", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
