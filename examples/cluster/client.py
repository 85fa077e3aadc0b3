"""A client of Kafka's protocol in one file, with Python's standard library alone: as much of it as run.py needs.

A request is a header and a body, and so is the answer; their fields are listed at
https://kafka.apache.org/protocol. Each API is called in one version that both sides know, one of the table "APIs and
versions" in README.md. Records travel in batches (format v2), which the broker stores as they are.
"""

import socket
import struct
import time

PRODUCE, FETCH, METADATA, CREATE_TOPICS, INIT_PRODUCER_ID, DESCRIBE_QUORUM = 0, 1, 3, 19, 22, 55
# The errors after which a client asks who leads the partition, and tries again.
PASSING = {3: "UNKNOWN_TOPIC_OR_PARTITION", 5: "LEADER_NOT_AVAILABLE", 6: "NOT_LEADER_OR_FOLLOWER",
           7: "REQUEST_TIMED_OUT", 13: "NETWORK_EXCEPTION", 14: "COORDINATOR_LOAD_IN_PROGRESS",
           15: "COORDINATOR_NOT_AVAILABLE", 41: "NOT_CONTROLLER", 56: "KAFKA_STORAGE_ERROR", 78: "OFFSET_NOT_AVAILABLE"}
CONNECT_S, ANSWER_S = 1, 10
# How soon a client tries again, and for how long at most.
RETRY_S, PATIENCE_S = 0.02, 60
FETCH_WAIT_MS, FETCH_BYTES, FRAME_BYTES_MAX = 200, 1 << 20, 1 << 26


class Failed(Exception):
    """A broker refused a request, or nothing answered it in time."""


class Passing(Exception):
    """An error after which the client tries again."""


def check(code):
    if code in PASSING:
        raise Passing(PASSING[code])
    if code:
        raise Failed(f"a broker answered with error {code}: see https://kafka.apache.org/protocol#protocol_error_codes")


def string(text):
    """A string as it is sent: its length, and its bytes. None is the null string."""
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text)) + text.encode()


def array(*items):
    return struct.pack(">i", len(items)) + b"".join(items)


class Fields:
    """Reads the fields of an answer one after the other. An answer that is too short raises struct.error."""

    def __init__(self, data):
        self.data, self.at = memoryview(data), 0

    def take(self, form):
        """One number, in the notation of the module struct: b, h, i or q for 1, 2, 4 or 8 bytes."""
        value, = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def bytes(self, length):
        if not 0 <= length <= len(self.data) - self.at:
            raise struct.error("a length beyond the end")
        self.at += length
        return bytes(self.data[self.at - length:self.at])

    def string(self):
        length = self.take("h")
        return None if length < 0 else self.bytes(length).decode()

    def array(self, item):
        return [item() for _ in range(self.take("i"))]

    def unsigned_varint(self):
        """Seven bits a byte, the lowest first; the highest bit of a byte says that another one follows."""
        value = shift = 0
        while True:
            byte = self.take("B")
            value |= (byte & 0x7f) << shift
            if byte < 0x80:
                return value
            shift += 7

    def varint(self):
        value = self.unsigned_varint()
        return value >> 1 ^ -(value & 1)


def varint(value):
    value, encoded = value << 1 ^ value >> 63, bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7f | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def crc_table():
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
        yield value


CRC_TABLE = list(crc_table())


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


def encode_batch(values, producer_id, producer_epoch, first_sequence):
    """A batch of records that have a value and no key.

    The producer's id, its epoch and the sequence number of the first record let the broker recognise a batch that is
    sent again, because the answer to it was lost: it is answered with the same offset, and stored once.
    """
    records = bytearray()
    for number, value in enumerate(values):
        # attributes, time and offset since the batch's, no key, the value, no headers
        record = bytes(1) + varint(0) + varint(number) + varint(-1) + varint(len(value)) + value + varint(0)
        records += varint(len(record)) + record
    now, attributes = int(time.time() * 1000), 0
    body = struct.pack(">hiqqqhii", attributes, len(values) - 1, now, now, producer_id, producer_epoch, first_sequence,
                       len(values)) + records
    # the broker writes the offset and the leader's epoch, which is why the checksum does not cover them
    offset, leader_epoch, magic = 0, -1, 2
    rest = struct.pack(">ibI", leader_epoch, magic, crc32c(body)) + body
    return struct.pack(">qi", offset, len(rest)) + rest


def decode_batches(data):
    """The records of whole batches, as pairs of offset and value. An answer may end within a batch."""
    fields, records = Fields(data), []
    while len(data) - fields.at >= 12:
        base, length = fields.take("q"), fields.take("i")
        if length > len(data) - fields.at:
            break
        end = fields.at + length
        fields.take("i"), fields.take("b")
        crc = fields.take("I")
        if crc != crc32c(fields.data[fields.at:end]):
            raise Failed(f"the batch at offset {base} is damaged")
        fields.bytes(struct.calcsize(">hiqqqhi"))
        for _ in range(fields.take("i")):
            fields.varint(), fields.take("b"), fields.varint()
            offset = base + fields.varint()
            fields.bytes(max(fields.varint(), 0))
            records.append((offset, fields.bytes(fields.varint())))
            fields.varint()
        fields.at = end
    return records


class Connection:
    """A connection to one broker, with one request at a time."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, CONNECT_S)
        self.socket.settimeout(ANSWER_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests = 0

    def call(self, api, version, body, is_flexible=False):
        """Sends a request, and returns the fields of its answer. A flexible version has room for tagged fields."""
        self.requests += 1
        header = struct.pack(">hhi", api, version, self.requests) + string("example") + bytes(is_flexible)
        self.socket.sendall(struct.pack(">i", len(header + body)) + header + body)
        length, = struct.unpack(">i", self.receive(4))
        if not 4 <= length <= FRAME_BYTES_MAX:
            raise Failed(f"an answer of {length} bytes")
        answer = Fields(self.receive(length))
        if answer.take("i") != self.requests:
            raise Failed("an answer to another request")
        answer.bytes(is_flexible)
        return answer

    def receive(self, length):
        data = bytearray()
        while len(data) < length:
            part = self.socket.recv(length - len(data))
            if not part:
                raise ConnectionError("the broker closed the connection")
            data += part
        return data

    def close(self):
        self.socket.close()


class Client:
    """A client of a cluster and one topic. It is for one thread."""

    def __init__(self, bootstrap, topic):
        self.topic = topic
        # addresses by broker: the bootstrap addresses until the cluster tells its own
        self.addresses = {-number: address for number, address in enumerate(bootstrap, 1)}
        self.connections = {}
        self.leaders = {}

    def at(self, broker, api, version, body, is_flexible=False):
        """Calls one broker. After a failure the next call opens a new connection."""
        try:
            if broker not in self.connections:
                self.connections[broker] = Connection(self.addresses[broker])
            return self.connections[broker].call(api, version, body, is_flexible)
        except OSError:
            if broker in self.connections:
                self.connections.pop(broker).close()
            raise

    def at_any(self, api, version, body, is_flexible=False):
        """Calls the brokers in turn, those with a connection first, until one answers."""
        for broker in sorted(self.addresses, key=lambda broker: broker not in self.connections):
            try:
                return self.at(broker, api, version, body, is_flexible)
            except OSError:
                pass
        raise Passing("no broker answers")

    def at_leader(self, partition, api, version, body):
        """Calls the partition's leader, and returns the leader's id and its answer."""
        if partition not in self.leaders:
            self.refresh()
        leader = self.leaders.get(partition, -1)
        if leader < 0:
            raise Passing("the partition has no leader")
        return leader, self.at(leader, api, version, body)

    def retried(self, ask):
        """Asks until there is an answer. Who leads a partition may have changed after each error that passes."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return ask()
            except (OSError, Passing) as error:
                if time.monotonic() > deadline:
                    raise Failed(f"nothing but errors for {PATIENCE_S} s, the last one: {error}") from error
                self.leaders.clear()
                time.sleep(RETRY_S)

    def refresh(self):
        """Asks any broker for the cluster's brokers and the topic's leaders, and returns the brokers' ids."""
        answer = self.at_any(METADATA, 7, array(string(self.topic)) + struct.pack(">?", False))

        def broker():
            node, host, port = answer.take("i"), answer.string(), answer.take("i")
            answer.string()
            return node, (host, port)

        def partition():
            answer.take("h")
            index, leader, _epoch = answer.take("i"), answer.take("i"), answer.take("i")
            for _replicas in range(3):
                answer.array(lambda: answer.take("i"))
            return index, leader

        def topic():
            answer.take("h"), answer.string(), answer.take("b")
            return answer.array(partition)

        answer.take("i")
        brokers = dict(answer.array(broker))
        if brokers:
            for node in set(self.connections) - set(brokers):
                self.connections.pop(node).close()
            self.addresses = brokers
        answer.string(), answer.take("i")
        self.leaders = dict(answer.array(topic)[0])
        return sorted(brokers)

    def quorum(self):
        """The active controller and all controllers, of which a broker asks the active one."""
        # in a flexible version a length is a varint that is one greater: 2 stands for 1 element
        name = b"__cluster_metadata"
        body = bytes([2, len(name) + 1]) + name + bytes([2]) + struct.pack(">i", 0) + bytes(3)
        answer = self.at_any(DESCRIBE_QUORUM, 0, body, is_flexible=True)
        check(answer.take("h"))
        answer.unsigned_varint(), answer.bytes(answer.unsigned_varint() - 1), answer.unsigned_varint()
        answer.take("i"), check(answer.take("h"))
        active, _epoch, _high_watermark = answer.take("i"), answer.take("i"), answer.take("q")
        voters = []
        for _ in range(answer.unsigned_varint() - 1):
            voters.append(answer.take("i"))
            answer.take("q"), answer.unsigned_varint()
        return active, sorted(voters)

    def create_topic(self, partitions):
        """Creates the topic with the broker's default of replicas."""
        topic = string(self.topic) + struct.pack(">ih", partitions, -1) + array() + array()
        answer = self.at_any(CREATE_TOPICS, 4, array(topic) + struct.pack(">i?", 30_000, False))
        answer.take("i"), answer.take("i"), answer.string()
        check(answer.take("h"))

    def init_producer_id(self):
        """The id and the epoch of a new idempotent producer."""
        answer = self.at_any(INIT_PRODUCER_ID, 1, string(None) + struct.pack(">i", 0))
        answer.take("i"), check(answer.take("h"))
        return answer.take("q"), answer.take("h")

    def produce(self, partition, batch):
        """Writes a batch, and returns the leader that acknowledged it and the offset of its first record."""
        records = struct.pack(">ii", partition, len(batch)) + batch
        acks, timeout_ms = -1, 5_000
        body = string(None) + struct.pack(">hi", acks, timeout_ms) + array(string(self.topic) + array(records))
        leader, answer = self.at_leader(partition, PRODUCE, 7, body)
        answer.take("i"), answer.string(), answer.take("i"), answer.take("i")
        check(answer.take("h"))
        return leader, answer.take("q")

    def fetch(self, partition, offset):
        """Reads from an offset on, and returns the leader, the records, and the offset of the next record to come.

        The leader waits a moment if there is no record yet.
        """
        place = string(self.topic) + array(struct.pack(">iqi", partition, offset, FETCH_BYTES))
        replica, bytes_min, isolation = -1, 1, 0
        body = struct.pack(">iiiib", replica, FETCH_WAIT_MS, bytes_min, FETCH_BYTES, isolation) + array(place)
        leader, answer = self.at_leader(partition, FETCH, 4, body)
        answer.take("i"), answer.take("i"), answer.string(), answer.take("i"), answer.take("i")
        check(answer.take("h"))
        end, _stable = answer.take("q"), answer.take("q")
        answer.array(lambda: (answer.take("q"), answer.take("q")))
        records = decode_batches(answer.bytes(max(answer.take("i"), 0)))
        # a batch is sent whole, even if the first offset that was asked for is in the middle of it
        return leader, [record for record in records if record[0] >= offset], end

    def close(self):
        for connection in self.connections.values():
            connection.close()
