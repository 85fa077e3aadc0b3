"""Consumer groups through librdkafka and kafka-python: two members, a member that leaves, commits, administration."""

import sys
import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from kafka import KafkaConsumer, OffsetAndMetadata
from kafka import TopicPartition as Partition

BOOTSTRAP = sys.argv[1]
TIMEOUT = 30
PARTITIONS = 4
COUNT = 2000


def member(group, **options):
    return Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group, "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500,
                     "fetch.wait.max.ms": 100, **options})


def wait(what, condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def fill(topic):
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True})
    for i in range(COUNT):
        producer.produce(topic, str(i), key=str(i % 97))
    assert producer.flush(TIMEOUT) == 0


def share(admin):
    """Two members read everything once between them; when one leaves, the other takes its partitions."""
    admin.create_topics([NewTopic("shared", PARTITIONS)])["shared"].result(TIMEOUT)
    members = [member("share"), member("share")]
    for consumer in members:
        consumer.subscribe(["shared"])

    def poll(seen):
        for consumer in members:
            for record in consumer.consume(500, timeout=0.05):
                assert record.error() is None, record.error()
                seen.append(record.value())

    seen = []

    def balanced():
        poll(seen)
        return [len(consumer.assignment()) for consumer in members] == [2, 2]

    wait("two members share four partitions", balanced)
    fill("shared")
    wait("every record arrives", lambda: poll(seen) or len(seen) >= COUNT)
    assert sorted(map(int, seen)) == list(range(COUNT)), len(seen)
    for consumer in members:
        consumer.commit(asynchronous=False)
    described = admin.describe_consumer_groups(["share"])["share"].result(TIMEOUT)
    assert described.state.name == "STABLE" and len(described.members) == 2, described.state
    assert described.partition_assignor == "range", described.partition_assignor
    try:
        admin.delete_consumer_groups(["share"])["share"].result(TIMEOUT)
        raise AssertionError("a group with members is deleted")
    except KafkaException as error:
        assert error.args[0].name() == "NON_EMPTY_GROUP", error
    members[0].close()
    last = members[1]
    members.pop(0)

    def alone():
        poll(seen)
        return len(last.assignment()) == PARTITIONS

    wait("the other member takes over", alone)
    assert len(seen) == COUNT, "nothing is read twice after a commit"
    last.close()
    listed = {group.group_id: group for group in admin.list_consumer_groups().result(TIMEOUT).valid}
    assert listed["share"].state.name == "EMPTY", listed["share"].state


def offsets(admin):
    [found] = [f.result(TIMEOUT) for f in admin.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions("share")]).values()]
    committed = {partition.partition: partition.offset for partition in found.topic_partitions}
    ends = admin.list_offsets({TopicPartition("shared", p): OffsetSpec.latest() for p in range(PARTITIONS)})
    for partition, end in ends.items():
        assert committed[partition.partition] == end.result(TIMEOUT).offset
    moved = [ConsumerGroupTopicPartitions("share", [TopicPartition("shared", 0, 1)])]
    [changed] = [f.result(TIMEOUT) for f in admin.alter_consumer_group_offsets(moved).values()]
    assert changed.topic_partitions[0].error is None
    consumer = member("share")
    [first, other] = consumer.committed([TopicPartition("shared", 0), TopicPartition("nothing", 7)], TIMEOUT)
    assert (first.offset, other.offset) == (1, -1001), (first, other)
    consumer.close()
    admin.delete_consumer_groups(["share"])["share"].result(TIMEOUT)
    assert "share" not in {group.group_id for group in admin.list_consumer_groups().result(TIMEOUT).valid}




def kafka_python():
    first = KafkaConsumer("shared", bootstrap_servers=BOOTSTRAP, group_id="python", auto_offset_reset="earliest",
                          enable_auto_commit=False, consumer_timeout_ms=15_000, session_timeout_ms=6000)
    values = []
    for record in first:
        values.append(int(record.value))
        if len(values) == COUNT:
            break
    assert sorted(values) == list(range(COUNT))
    first.commit({Partition("shared", 2): OffsetAndMetadata(17, "why", -1)})
    first.close()
    second = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id="python")
    assert second.committed(Partition("shared", 2)) == 17
    assert second.committed(Partition("shared", 2), metadata=True).metadata == "why"
    second.close()


admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
share(admin)
offsets(admin)
kafka_python()
