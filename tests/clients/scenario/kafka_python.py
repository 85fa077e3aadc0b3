"""The scenario with kafka-python."""

import os
import sys
import time

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import (CoordinatorLoadInProgressError, CoordinatorNotAvailableError, MessageSizeTooLargeError,
                          NotCoordinatorError, TopicAlreadyExistsError, UnknownBrokerIdError)

BOOTSTRAP, NAME = sys.argv[1:]
ALONE = "," not in BOOTSTRAP
TIMEOUT = 30
COUNT, GROUP_COUNT, MORE, LARGEST = 120, 2000, 100, 1_048_516
SIZES = [1, 10, 100, 1000, 10_000, 300_000]
BASE = int(time.time() * 1000) - 100_000
PATTERN = bytes(range(251)) * 4200
HEADERS = [("a", b"1"), ("a", b"\xff"), ("n", b"")]  # kafka-python refuses null


def key(i):
    if i % 30 == 0:
        return b""  # kafka-python refuses a record with neither key nor value
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
    secured = {"security_protocol": "SSL", "ssl_cafile": f"{tls}/ca.crt", "ssl_certfile": f"{tls}/client.crt",
               "ssl_keyfile": f"{tls}/client.key"}
    return {"bootstrap_servers": BOOTSTRAP, **(secured if tls else {})}


def producer(codec=None):
    return KafkaProducer(**settings(), compression_type=codec, linger_ms=5, enable_idempotence=True,
                         max_request_size=2_000_000)


def consumer(**more):
    return KafkaConsumer(**settings(), enable_auto_commit=False, auto_offset_reset="earliest",
                         fetch_max_wait_ms=100, **more)


def take(client, records):
    for some in client.poll(timeout_ms=50).values():
        records.extend(some)


# What an admin client hands to the program when the broker that it asks has gone or no longer coordinates: it keeps the
# ids of the brokers that take changes and that coordinate groups, and does not ask for them again.
MOVED = (UnknownBrokerIdError, NotCoordinatorError, CoordinatorNotAvailableError, CoordinatorLoadInProgressError)


class Admin:
    """Asks a new admin client for each call, and another one if the broker that it asked has gone."""

    def __getattr__(self, call):
        def asked(*arguments):
            deadline = time.monotonic() + TIMEOUT
            while True:
                client = KafkaAdminClient(**settings())
                try:
                    return getattr(client, call)(*arguments)
                except MOVED as error:
                    assert not ALONE and time.monotonic() < deadline, error
                    time.sleep(0.2)
                finally:
                    client.close()

        return asked


def administration(admin):
    name = f"{NAME}-admin"
    topic = NewTopic(name=name, num_partitions=3, replication_factor=1, topic_configs={"retention.ms": "1234567"})
    admin.create_topics([topic])
    try:
        admin.create_topics([topic])
        raise AssertionError("the topic is made twice")
    except TopicAlreadyExistsError:
        pass
    wait("the topic is listed", lambda: name in admin.list_topics())
    wait("three partitions", lambda: len(admin.describe_topics([name])[0]["partitions"]) == 3)
    configs = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    assert configs["topic"][name]["retention.ms"]["value"] == "1234567", configs
    admin.create_partitions({name: NewPartitions(5)})
    wait("five partitions", lambda: len(admin.describe_topics([name])[0]["partitions"]) == 5)
    admin.delete_topics([name])
    wait("the topic is gone", lambda: name not in admin.list_topics())


def same(record, i):
    assert record.offset == i, f"offset {record.offset} instead of {i}"
    assert record.key == key(i) and record.value == value(i), f"record {i}"
    assert record.timestamp == BASE + i and list(record.headers) == HEADERS, f"record {i}"


def codec(name):
    partition = TopicPartition(f"{NAME}-{name}", 0)
    sender = producer(None if name == "none" else name)
    futures = [sender.send(partition.topic, value(i), key(i), HEADERS, 0, BASE + i) for i in range(COUNT)]
    assert [future.get(TIMEOUT).offset for future in futures] == list(range(COUNT))
    sender.close()
    reader, records = consumer(group_id=None), []
    reader.assign([partition])
    reader.seek_to_beginning(partition)
    wait(f"all of {name}", lambda: take(reader, records) or len(records) >= COUNT)
    for i, record in enumerate(records):
        same(record, i)
    assert reader.offsets_for_times({partition: BASE + 50})[partition].offset == 50
    assert reader.end_offsets([partition])[partition] == COUNT
    reader.seek(partition, 77)
    records.clear()
    wait(f"a seek in {name}", lambda: take(reader, records) or records)
    same(records[0], 77)
    reader.close()


def largest():
    sender = producer()
    sender.send(f"{NAME}-largest", PATTERN[:LARGEST]).get(TIMEOUT)
    try:
        sender.send(f"{NAME}-largest", PATTERN[:LARGEST + 1]).get(TIMEOUT)
        raise AssertionError("more than the largest is taken")
    except MessageSizeTooLargeError:
        pass
    sender.close()


def fill(first, end):
    sender = producer("lz4")
    for i in range(first, end):
        sender.send(f"{NAME}-group", str(i).encode(), f"k{i % 97}".encode())
    sender.close()


def group(admin):
    topic = f"{NAME}-group"
    admin.create_topics([NewTopic(name=topic, num_partitions=4, replication_factor=1)])
    fill(0, GROUP_COUNT)
    members = [consumer(group_id=NAME, session_timeout_ms=6000, heartbeat_interval_ms=300) for _ in range(2)]
    for member in members:
        member.subscribe([topic])
    records = []

    def shared():
        for member in members:
            take(member, records)
        values = {record.value for record in records}
        return [len(member.assignment()) for member in members] == [2, 2] and len(values) == GROUP_COUNT

    wait("two members share", shared)
    for member in members:
        member.commit()

    def is_stable():
        described = admin.describe_groups([NAME])[NAME]
        return (described["group_state"], len(described["members"])) == ("Stable", 2)

    wait("a stable group of two", is_stable)
    members[0].close()
    records.clear()
    wait("the other takes over", lambda: take(members[1], records) or len(members[1].assignment()) == 4)
    fill(GROUP_COUNT, GROUP_COUNT + MORE)
    more = set(range(GROUP_COUNT, GROUP_COUNT + MORE))
    values = lambda: {int(record.value) for record in records}
    wait("the other reads on", lambda: take(members[1], records) or more <= values())
    assert values() == more or not ALONE, "what was committed is read again"
    members[1].commit()
    members[1].close()
    offsets = admin.list_group_offsets([NAME])[NAME].values()
    assert sum(each.offset for each in offsets) == GROUP_COUNT + MORE, offsets
    admin.delete_groups([NAME])


administration(Admin())
for each in ["none", "gzip", "snappy", "lz4", "zstd"]:
    codec(each)
largest()
group(Admin())
print(f"kafka-python {kafka.__version__}: the scenario holds")
