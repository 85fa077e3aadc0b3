"""Writes a record every 50 ms for some seconds, or reads the records back; prints their number.

Usage: trickle.py BOOTSTRAP write SECONDS
       trickle.py BOOTSTRAP read COUNT
"""

import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP, WHAT, NUMBER = sys.argv[1], sys.argv[2], int(sys.argv[3])
TOPIC = "trickle"

if WHAT == "write":
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(30)
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "acks": "all"})
    failed, sent = [], 0
    until = time.monotonic() + NUMBER
    while time.monotonic() < until:
        producer.produce(TOPIC, str(sent), on_delivery=lambda error, _: failed.append(error) if error else None)
        producer.poll(0.05)
        sent += 1
    assert producer.flush(30) == 0 and not failed, failed[:3]
    print(sent)
else:
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    read = []
    while len(read) < NUMBER:
        record = consumer.poll(30)
        assert record is not None and record.error() is None, f"{len(read)} of {NUMBER} records"
        read.append(int(record.value()))
    assert read == list(range(NUMBER)), read[:10]
    consumer.close()
    print(len(read))
