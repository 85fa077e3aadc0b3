"""kafka-python: produce, assign, seek."""

import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

BOOTSTRAP = sys.argv[1]

producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all", compression_type="gzip")
futures = [producer.send("kafka-python", key=f"k{i}".encode(), value=b"v" * i, headers=[("h", b"1")])
           for i in range(500)]
assert [future.get(30).offset for future in futures] == list(range(500))

consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=None, consumer_timeout_ms=10_000)
partition = TopicPartition("kafka-python", 0)
consumer.assign([partition])
consumer.seek_to_beginning(partition)
for i, record in enumerate(consumer):
    assert (record.offset, record.key, len(record.value)) == (i, f"k{i}".encode(), i), record
    assert record.headers == [("h", b"1")] or record.headers == (("h", b"1"),), record.headers
    if i == 499:
        break
assert consumer.end_offsets([partition])[partition] == 500
consumer.close()
producer.close()
