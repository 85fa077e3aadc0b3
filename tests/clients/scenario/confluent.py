"""The scenario with librdkafka through confluent-kafka, by the part of its API that exists since 1.9."""

import os
import sys
import time
import warnings

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

warnings.simplefilter("ignore", DeprecationWarning)  # 1.9 has only list_groups
BOOTSTRAP, NAME = sys.argv[1:]
ALONE = "," not in BOOTSTRAP
TIMEOUT = 30
COUNT, GROUP_COUNT, MORE, LARGEST = 120, 2000, 100, 1_048_516
SIZES = [1, 10, 100, 1000, 10_000, 300_000]
BASE = int(time.time() * 1000) - 100_000
PATTERN = bytes(range(251)) * 4200
STALE = ["NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "FENCED_LEADER_EPOCH", "UNKNOWN_LEADER_EPOCH",
         "_TRANSPORT"]
HEADERS = [("a", b"1"), ("a", b"\xff"), ("n", None)]


def key(i):
    return None if i % 3 == 0 else f"k{i}".encode()


def value(i):
    return None if i % 10 == 0 else PATTERN[7 * i % 251:][:SIZES[i % 6]]


def wait(what, condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, what


def settings():
    """What every client has; it is on TLS if there is a directory of keys and certificates."""
    tls = os.environ.get("SCENARIO_TLS")
    secured = {"security.protocol": "ssl", "ssl.ca.location": f"{tls}/ca.crt",
               "ssl.certificate.location": f"{tls}/client.crt", "ssl.key.location": f"{tls}/client.key"}
    return {"bootstrap.servers": BOOTSTRAP, **(secured if tls else {})}


def producer(codec="none"):
    return Producer({**settings(), "compression.type": codec, "linger.ms": 5,
                     "enable.idempotence": True, "message.max.bytes": 2_000_000})


def consumer(group="unused", **more):
    return Consumer({**settings(), "group.id": group, "enable.auto.commit": False,
                     "auto.offset.reset": "earliest", "fetch.wait.max.ms": 100, **more})


def take(client, records):
    for record in client.consume(500, timeout=0.05):
        assert record.error() is None, record.error()
        records.append(record)


def again(call):
    """The answer of a call that librdkafka leaves to the program to repeat when a partition has another leader."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return call()
        except KafkaException as error:
            if error.args[0].name() not in STALE or time.monotonic() > deadline:
                raise


def administration(admin):
    def partitions():
        listed = admin.list_topics(timeout=TIMEOUT).topics
        return len(listed[topic.topic].partitions) if topic.topic in listed else 0

    topic = NewTopic(f"{NAME}-admin", num_partitions=3, replication_factor=1, config={"retention.ms": "1234567"})
    admin.create_topics([topic])[topic.topic].result(TIMEOUT)
    try:
        admin.create_topics([topic])[topic.topic].result(TIMEOUT)
        raise AssertionError("the topic is made twice")
    except KafkaException as error:
        assert error.args[0].name() == "TOPIC_ALREADY_EXISTS", error
    wait("three partitions", lambda: partitions() == 3)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic.topic)
    assert admin.describe_configs([resource])[resource].result(TIMEOUT)["retention.ms"].value == "1234567"
    admin.create_partitions([NewPartitions(topic.topic, 5)])[topic.topic].result(TIMEOUT)
    wait("five partitions", lambda: partitions() == 5)
    admin.delete_topics([topic.topic])[topic.topic].result(TIMEOUT)
    wait("the topic is gone", lambda: partitions() == 0)


def same(record, i):
    assert record.offset() == i, f"offset {record.offset()} instead of {i}"
    assert record.key() == key(i) and record.value() == value(i), f"record {i}"
    assert record.timestamp()[1] == BASE + i and record.headers() == HEADERS, f"record {i}"


def codec(name):
    partition, failures = TopicPartition(f"{NAME}-{name}", 0, 0), []
    sender = producer(name)
    for i in range(COUNT):
        sender.produce(partition.topic, value(i), key(i), 0, timestamp=BASE + i, headers=HEADERS,
                       on_delivery=lambda error, _: failures.append(error) if error else None)
    assert sender.flush(TIMEOUT) == 0 and not failures, failures
    reader, records = consumer(), []
    reader.assign([partition])
    wait(f"all of {name}", lambda: take(reader, records) or len(records) >= COUNT)
    for i, record in enumerate(records):
        same(record, i)
    [found] = again(lambda: reader.offsets_for_times([TopicPartition(partition.topic, 0, BASE + 50)], TIMEOUT))
    assert found.offset == 50, found
    assert again(lambda: reader.get_watermark_offsets(partition, TIMEOUT)) == (0, COUNT)
    reader.seek(TopicPartition(partition.topic, 0, 77))
    records.clear()
    wait(f"a seek in {name}", lambda: take(reader, records) or records)
    same(records[0], 77)
    reader.close()


def largest():
    sender, errors = producer(), []
    for size in [LARGEST, LARGEST + 1]:
        sender.produce(f"{NAME}-largest", PATTERN[:size], on_delivery=lambda error, _: errors.append(error))
        assert sender.flush(TIMEOUT) == 0
    assert errors[0] is None and errors[1].name() == "MSG_SIZE_TOO_LARGE", errors


def made_again(admin):
    topic, failures, values = NewTopic(f"{NAME}-again", num_partitions=1, replication_factor=1), [], []
    admin.create_topics([topic])[topic.topic].result(TIMEOUT)
    sender = producer()

    def send(first):
        for i in range(first, first + 5):
            sender.produce(topic.topic, str(i), on_delivery=lambda error, _: failures.append(error) if error else None)
            assert sender.flush(TIMEOUT) == 0 and not failures, failures

    send(0)
    admin.delete_topics([topic.topic])[topic.topic].result(TIMEOUT)
    admin.create_topics([topic])[topic.topic].result(TIMEOUT)
    send(5)
    reader = consumer()
    reader.assign([TopicPartition(topic.topic, 0, 0)])
    wait("what was sent since", lambda: take(reader, values) or len(values) >= 5)
    assert [int(record.value()) for record in values] == list(range(5, 10)), values
    reader.close()


def fill(first, end):
    sender = producer("lz4")
    for i in range(first, end):
        sender.produce(f"{NAME}-group", str(i), f"k{i % 97}")
    assert sender.flush(TIMEOUT) == 0


def group(admin):
    topic = f"{NAME}-group"
    admin.create_topics([NewTopic(topic, num_partitions=4, replication_factor=1)])[topic].result(TIMEOUT)
    fill(0, GROUP_COUNT)
    members = [consumer(NAME, **{"session.timeout.ms": 6000, "heartbeat.interval.ms": 300}) for _ in range(2)]
    for member in members:
        member.subscribe([topic])
    records = []

    def shared():
        for member in members:
            take(member, records)
        values = {record.value() for record in records}
        return [len(member.assignment()) for member in members] == [2, 2] and len(values) == GROUP_COUNT

    def committed(member):
        try:
            member.commit(asynchronous=False)
            return True
        except KafkaException as error:
            # it was assigned anew and has read nothing since
            assert error.args[0].name() == "_NO_OFFSET", error
            return shared() and False

    wait("two members share", shared)
    for member in members:
        wait("a member commits", lambda: committed(member))

    def is_stable():
        [described] = admin.list_groups(NAME, timeout=TIMEOUT)
        return (described.state, described.protocol, len(described.members)) == ("Stable", "range", 2)

    wait("a stable group of two", is_stable)
    members[0].close()
    records.clear()
    wait("the other takes over", lambda: take(members[1], records) or len(members[1].assignment()) == 4)
    fill(GROUP_COUNT, GROUP_COUNT + MORE)
    more = set(range(GROUP_COUNT, GROUP_COUNT + MORE))
    values = lambda: {int(record.value()) for record in records}
    wait("the other reads on", lambda: take(members[1], records) or more <= values())
    assert values() == more or not ALONE, "what was committed is read again"
    members[1].commit(asynchronous=False)
    committed = members[1].committed([TopicPartition(topic, p) for p in range(4)], TIMEOUT)
    assert sum(partition.offset for partition in committed) == GROUP_COUNT + MORE, committed
    members[1].close()


admin_client = AdminClient(settings())
administration(admin_client)
for each in ["none", "gzip", "snappy", "lz4", "zstd"]:
    codec(each)
largest()
made_again(admin_client)
group(admin_client)
print(f"confluent-kafka {confluent_kafka.version()[0]} on librdkafka {confluent_kafka.libversion()[0]}: the scenario holds")
