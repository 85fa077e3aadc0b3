"""librdkafka through confluent-kafka, beside the scenario: cold reads, topic administration."""

import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec,
                                   ResourceType)

BOOTSTRAP = sys.argv[1]
TIMEOUT = 30


def consumer():
    return Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "unused", "enable.auto.commit": False,
                     "auto.offset.reset": "earliest", "fetch.wait.max.ms": 100})


def read(topic, partition, offset, count):
    client = consumer()
    client.assign([TopicPartition(topic, partition, offset)])
    records = []
    deadline = time.monotonic() + TIMEOUT
    while len(records) < count and time.monotonic() < deadline:
        for record in client.consume(1000, timeout=0.5):
            assert record.error() is None, record.error()
            records.append(record)
    client.close()
    assert len(records) >= count, f"{len(records)} of {count} records of {topic}"
    return records


def cold():
    """Records that were uploaded and evicted from memory read the same, as do records that are written meanwhile."""
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 5})
    for i in range(20_000):
        producer.produce("cold", f"value-{i}".encode() * 20)
        if i % 5000 == 0:
            producer.flush(TIMEOUT)
    assert producer.flush(TIMEOUT) == 0
    records = read("cold", 0, 0, 20_000)
    assert [record.value() for record in records] == [f"value-{i}".encode() * 20 for i in range(20_000)]


def administration():
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    topic = NewTopic("admin", num_partitions=3, replication_factor=1, config={"retention.ms": "1234567"})
    admin.create_topics([topic])["admin"].result(TIMEOUT)
    try:
        admin.create_topics([topic])["admin"].result(TIMEOUT)
        raise AssertionError("the topic is created twice")
    except KafkaException as error:
        assert error.args[0].name() == "TOPIC_ALREADY_EXISTS", error
    resource = ConfigResource(ResourceType.TOPIC, "admin")
    configs = admin.describe_configs([resource])[resource].result(TIMEOUT)
    assert configs["retention.ms"].value == "1234567"
    assert configs["segment.bytes"].value == "1073741824"
    change = ConfigResource(ResourceType.TOPIC, "admin", incremental_configs=[
        ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
        ConfigEntry("max.message.bytes", "2000000", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND)])
    [altered] = admin.incremental_alter_configs([change]).values()
    altered.result(TIMEOUT)
    configs = admin.describe_configs([resource])[resource].result(TIMEOUT)
    assert configs["retention.ms"].value == "604800000" and configs["retention.ms"].is_default
    assert configs["max.message.bytes"].value == "2000000"
    assert configs["cleanup.policy"].value == "delete,compact", configs["cleanup.policy"].value
    bad = ConfigResource(ResourceType.TOPIC, "admin", incremental_configs=[
        ConfigEntry("retention.mz", "1", incremental_operation=AlterConfigOpType.SET)])
    try:
        [altered] = admin.incremental_alter_configs([bad]).values()
        altered.result(TIMEOUT)
        raise AssertionError("an unknown config is set")
    except KafkaException as error:
        assert error.args[0].name() == "INVALID_CONFIG", error
    reset = ConfigResource(ResourceType.TOPIC, "admin", incremental_configs=[
        ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.SUBTRACT)])
    [altered] = admin.incremental_alter_configs([reset]).values()
    altered.result(TIMEOUT)
    admin.create_partitions([NewPartitions("admin", 5)])["admin"].result(TIMEOUT)
    assert len(admin.list_topics("admin", timeout=TIMEOUT).topics["admin"].partitions) == 5
    producer = Producer({"bootstrap.servers": BOOTSTRAP})
    for i in range(10):
        producer.produce("admin", str(i), partition=4)
    assert producer.flush(TIMEOUT) == 0
    partition = TopicPartition("admin", 4)
    latest = admin.list_offsets({partition: OffsetSpec.latest()})[partition].result(TIMEOUT)
    assert latest.offset == 10
    deleted = admin.delete_records([TopicPartition("admin", 4, 7)])
    [result] = [future.result(TIMEOUT) for future in deleted.values()]
    assert result.low_watermark == 7
    assert read("admin", 4, 7, 3)[0].value() == b"7"
    cluster = admin.describe_cluster().result(TIMEOUT)
    assert len(cluster.nodes) == 1 and cluster.controller.id == 1
    admin.delete_topics(["admin"])["admin"].result(TIMEOUT)
    assert "admin" not in admin.list_topics(timeout=TIMEOUT).topics


cold()
administration()
