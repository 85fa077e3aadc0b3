"""Writes or reads a number of MiB, while the requests to the object store are counted.

Usage: cost.py BOOTSTRAP write|read MIB
"""

import random
import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP, WHAT, MIB = sys.argv[1], sys.argv[2], int(sys.argv[3])
PARTITIONS, BYTES = 4, 8192
COUNT = (MIB << 20) // BYTES

if WHAT == "write":
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    admin.create_topics([NewTopic("cost", PARTITIONS, 1)])["cost"].result(30)
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 5, "batch.size": 131072, "acks": "all",
                         "queue.buffering.max.kbytes": 65536})
    failed = []
    body = random.Random(1).randbytes(BYTES * 2)

    def delivered(error, _):
        if error is not None:
            failed.append(error)

    for number in range(COUNT):
        at = number % BYTES
        while True:
            try:
                producer.produce("cost", body[at:at + BYTES], partition=number % PARTITIONS, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0 and not failed, failed[:3]
else:
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition("cost", partition, 0) for partition in range(PARTITIONS)])
    read = 0
    while read < COUNT:
        records = consumer.consume(5000, timeout=30)
        assert records, f"{read} of {COUNT} records"
        for record in records:
            assert record.error() is None and len(record.value()) == BYTES, record.error()
        read += len(records)
    consumer.close()
