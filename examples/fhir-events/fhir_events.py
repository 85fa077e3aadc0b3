"""A small model of a health insurer's event stream: FHIR R4 events by patient, a group that processes them, a replay.

    fhir_events.py produce --events 10000          writes events
    fhir_events.py process --members 2             reads them in a consumer group, checks and counts, until idle
    fhir_events.py replay                          reads everything from the beginning and checks it, without a group
    fhir_events.py all --events 2000               all three at once: the replay runs while the stream goes on

Each run of `produce` numbers the events of each patient in each topic from 1 on, and writes the name of the run in a
header. So the events of several runs can be checked together: every event is there once, in order and undamaged. The
example needs confluent-kafka, and a broker at --bootstrap (default 127.0.0.1:9092).
"""

import argparse
import base64
import datetime
import hashlib
import json
import os
import random
import sys
import threading
import time
import uuid
from collections import Counter

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

TOPICS = {
    "fhir.patient": ["Patient"],
    "fhir.coverage": ["Coverage"],
    "fhir.eligibility": ["CoverageEligibilityRequest", "CoverageEligibilityResponse"],
    "fhir.prior-authorisation": ["Claim", "ClaimResponse"],
}
PARTITIONS = 4
LARGEST = 2 * 1024 * 1024
# How long `process` waits for further events, in seconds.
IDLE = 10
GIVEN = ["Amina", "Bo", "Chiara", "Dmitri", "Eun-ji", "Farid", "Grace", "Hedda", "Ibrahim", "Jana"]
FAMILY = ["Andersson", "Bianchi", "Chen", "Dubois", "Eze", "Fischer", "García", "Haddad", "Ivanova", "Jensen"]
PAYERS = ["Acme Health", "Blue Meadow", "Coastal Mutual"]
PROCEDURES = [("70551", "MRI brain without contrast"), ("27447", "Total knee arthroplasty"),
              ("43239", "Upper endoscopy with biopsy"), ("93458", "Coronary angiography")]


class Violation(Exception):
    """An event differs from what was written, or something took too long."""


def require(is_so, what):
    if not is_so:
        raise Violation(what)


class Generator:
    """Makes patients and their events. The same seed makes the same events."""

    def __init__(self, seed, patients):
        self.random = random.Random(seed)
        self.patients = [f"{self.random.getrandbits(64):016x}" for _ in range(patients)]
        self.history = Counter()
        self.now = datetime.datetime(2026, 1, 5, 8, 0, tzinfo=datetime.timezone.utc)

    def events(self, count):
        """Yields topic, patient and resource."""
        for _ in range(count):
            # Some patients have many more events than others.
            patient = self.patients[min(int(self.random.expovariate(6 / len(self.patients))), len(self.patients) - 1)]
            self.now += datetime.timedelta(milliseconds=self.random.randint(1, 4000))
            step = self.history[patient]
            self.history[patient] += 1
            if step == 0:
                yield "fhir.patient", patient, self.patient(patient)
            elif step == 1:
                yield "fhir.coverage", patient, self.coverage(patient)
            else:
                yield self.random.choices([self.eligibility_request, self.eligibility_response, self.claim,
                                           self.claim_response, self.address_change],
                                          [30, 28, 20, 18, 4])[0](patient)

    def base(self, kind, patient):
        return {"resourceType": kind, "id": f"{self.random.getrandbits(96):024x}",
                "meta": {"versionId": str(self.history[patient]), "lastUpdated": self.now.isoformat(),
                         "profile": [f"http://hl7.org/fhir/StructureDefinition/{kind}"]},
                "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">'
                         + f"{kind} of patient {patient}. " * self.random.randint(3, 12) + "</div>"}}

    def patient(self, patient):
        return self.base("Patient", patient) | {
            "identifier": [{"system": "urn:oid:2.16.840.1.113883.4.1", "value": patient}],
            "name": [{"family": self.random.choice(FAMILY), "given": [self.random.choice(GIVEN)]}],
            "gender": self.random.choice(["female", "male", "other"]),
            "birthDate": str(datetime.date(1930, 1, 1) + datetime.timedelta(days=self.random.randint(0, 33000))),
            "address": [{"line": [f"{self.random.randint(1, 400)} Mill Lane"], "city": "Springfield"}]}

    def address_change(self, patient):
        return "fhir.patient", patient, self.patient(patient)

    def coverage(self, patient):
        return self.base("Coverage", patient) | {
            "status": "active", "beneficiary": {"reference": f"Patient/{patient}"},
            "payor": [{"display": self.random.choice(PAYERS)}],
            "period": {"start": "2026-01-01", "end": "2026-12-31"}}

    def eligibility_request(self, patient):
        return "fhir.eligibility", patient, self.base("CoverageEligibilityRequest", patient) | {
            "status": "active", "purpose": ["benefits"], "patient": {"reference": f"Patient/{patient}"},
            "created": self.now.isoformat(), "insurer": {"display": self.random.choice(PAYERS)}}

    def eligibility_response(self, patient):
        benefits = [{"type": {"text": name}, "allowedMoney": {"value": self.random.randint(50, 9000), "currency": "USD"}}
                    for _, name in PROCEDURES * self.random.randint(1, 8)]
        return "fhir.eligibility", patient, self.base("CoverageEligibilityResponse", patient) | {
            "status": "active", "purpose": ["benefits"], "patient": {"reference": f"Patient/{patient}"},
            "outcome": "complete", "insurance": [{"inforce": True, "item": [{"benefit": benefits}]}]}

    def claim(self, patient):
        code, name = self.random.choice(PROCEDURES)
        claim = self.base("Claim", patient) | {
            "status": "active", "use": "preauthorization", "patient": {"reference": f"Patient/{patient}"},
            "created": self.now.isoformat(), "priority": {"coding": [{"code": "normal"}]},
            "item": [{"sequence": 1, "productOrService": {"coding": [{"code": code, "display": name}]}}]}
        if self.random.random() < 0.4:
            # Clinical notes and scans: most are small, and a few are as large as the payer accepts.
            size = min(int(2000 * self.random.paretovariate(0.9)), LARGEST * 3 // 4 - 8192)
            claim["supportingInfo"] = [{"sequence": 1, "category": {"coding": [{"code": "attachment"}]},
                                        "valueAttachment": {"contentType": "application/pdf",
                                                            "data": base64.b64encode(self.random.randbytes(size)).decode()}}]
        return "fhir.prior-authorisation", patient, claim

    def claim_response(self, patient):
        return "fhir.prior-authorisation", patient, self.base("ClaimResponse", patient) | {
            "status": "active", "use": "preauthorization", "patient": {"reference": f"Patient/{patient}"},
            "outcome": self.random.choice(["complete", "complete", "queued", "partial"]),
            "preAuthRef": f"PA-{self.random.getrandbits(40):010x}"}


class Checker:
    """Checks the checksum of every event, and the numbers of every patient's events.

    A group may get an event again, at the same offset, if its offset was not committed before a rebalance. If the same
    event comes at another offset, it is in the log twice.
    """

    def __init__(self, may_repeat):
        self.may_repeat = may_repeat
        self.ends = {}
        self.lock = threading.Lock()
        self.last = {}
        self.kinds = Counter()
        self.sizes = []
        self.repeated = 0

    def take(self, record):
        headers = dict(record.headers())
        place = f"{record.topic()}-{record.partition()} at offset {record.offset()}"
        is_sound = headers["sha256"].decode() == hashlib.sha256(record.value()).hexdigest()
        require(is_sound, f"the event in {place} is damaged")
        event = json.loads(record.value())
        kind = event["resourceType"]
        require(kind in TOPICS[record.topic()], f"the event in {place} is a {kind}")
        patient, number = record.key().decode(), int(headers["number"])
        with self.lock:
            end = self.ends.get((record.topic(), record.partition()), 0)
            if self.may_repeat and record.offset() < end:
                self.repeated += 1
                return
            stream = record.topic(), patient, headers["run"].decode()
            last = self.last.get(stream, 0)
            # A group that has committed offsets goes on from there.
            is_next = number == last + 1 or (self.may_repeat and last == 0)
            require(is_next, f"{place}: event {number} of patient {patient} comes after {last}")
            self.ends[record.topic(), record.partition()] = record.offset() + 1
            self.last[stream] = number
            self.kinds[event["resourceType"]] += 1
            self.sizes.append(len(record.value()))

    def count(self):
        with self.lock:
            return len(self.sizes)

    def summary(self):
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.kinds.items()))
        if not self.sizes:
            return "no event"
        sizes = sorted(self.sizes)
        return (f"{len(self.sizes)} events of {len({patient for _, patient, _ in self.last})} patients, {sum(sizes)} bytes, "
                f"from {sizes[0]} to {sizes[-1]}, median {sizes[len(sizes) // 2]}: {kinds}")


def create_topics(bootstrap):
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        admin.list_topics(timeout=10)
    except KafkaException:
        sys.exit(f"No broker answers at {bootstrap}. `cargo run --release -- start` starts one; --bootstrap names another.")
    wanted = [NewTopic(topic, PARTITIONS, config={"max.message.bytes": str(2 * LARGEST), "retention.ms": "-1"})
              for topic in TOPICS]
    for future in admin.create_topics(wanted).values():
        try:
            future.result(30)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def produce(options):
    """Writes the events, and returns when all of them are acknowledged."""
    producer = Producer({"bootstrap.servers": options.bootstrap, "enable.idempotence": True, "compression.type": "zstd",
                         "linger.ms": 5, "message.max.bytes": 2 * LARGEST})
    failures, numbers, run = [], Counter(), uuid.uuid4().hex
    for topic, patient, resource in Generator(options.seed, options.patients).events(options.events):
        value = json.dumps(resource, separators=(",", ":"), ensure_ascii=False).encode()
        require(500 <= len(value) <= LARGEST, f"an event has {len(value)} bytes")
        numbers[topic, patient] += 1
        headers = {"run": run, "number": str(numbers[topic, patient]), "sha256": hashlib.sha256(value).hexdigest(),
                   "content-type": "application/fhir+json"}
        while True:
            try:
                producer.produce(topic, value, key=patient, headers=headers,
                                 on_delivery=lambda error, _: failures.append(error) if error else None)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        if options.rate:
            time.sleep(1 / options.rate)
    require(producer.flush(120) == 0 and not failures, f"not every event was acknowledged: {failures[:3]}")
    print(f"produced: {options.events} events are durable", flush=True)


def process(options, checker, finished):
    """A consumer group: each member checks its events, and commits their offsets afterwards."""
    def member():
        consumer = Consumer({"bootstrap.servers": options.bootstrap, "group.id": options.group,
                             "auto.offset.reset": "earliest", "enable.auto.commit": False,
                             "partition.assignment.strategy": "cooperative-sticky"})
        consumer.subscribe(list(TOPICS))
        while not finished():
            records = consumer.consume(200, timeout=0.2)
            for record in records:
                if record.error():
                    raise KafkaException(record.error())
                checker.take(record)
            if records:
                consumer.commit(asynchronous=False)
        consumer.close()

    failures = []

    def guarded():
        try:
            member()
        except Exception as error:  # reported by the main thread
            failures.append(error)

    members = [threading.Thread(target=guarded) for _ in range(options.members)]
    for thread in members:
        thread.start()
    for thread in members:
        thread.join()
    if failures:
        raise failures[0]
    print(f"processed: {checker.summary()}, {checker.repeated} of them again", flush=True)


def replay(options):
    """Reads all topics from their beginning to the end that they had at the start; returns a checker."""
    consumer = Consumer({"bootstrap.servers": options.bootstrap, "group.id": "replay-without-a-group",
                         "enable.auto.commit": False, "enable.partition.eof": True})
    ends = {}
    for topic in TOPICS:
        for partition in range(PARTITIONS):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            if high > low:
                ends[topic, partition] = high
    consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in ends])
    checker = Checker(may_repeat=False)
    while ends:
        for record in consumer.consume(500, timeout=1):
            if record.error() and record.error().code() == KafkaError._PARTITION_EOF:
                continue
            if record.error():
                raise KafkaException(record.error())
            place = record.topic(), record.partition()
            if record.offset() < ends.get(place, 0):
                checker.take(record)
            if record.offset() + 1 >= ends.get(place, 1 << 63):
                del ends[place]
    consumer.close()
    print(f"replayed: {checker.summary()}", flush=True)
    return checker


def until_idle(checker, seconds):
    """Tells whether no event arrived for some seconds, even if the group has processed all events."""
    state = {"count": 0, "since": time.monotonic()}

    def finished():
        count = checker.count()
        if count != state["count"]:
            state.update(count=count, since=time.monotonic())
        return time.monotonic() - state["since"] > seconds

    return finished


def process_rest(options):
    """Processes the events that the group has not processed, until no more arrive for a while."""
    checker = Checker(may_repeat=True)
    process(options, checker, until_idle(checker, IDLE))


def everything(options):
    # Events of earlier runs that the group has not processed are not counted.
    before = replay(options).count()
    if before:
        process_rest(options)
    checker = Checker(may_repeat=True)
    failures = []
    deadline = time.monotonic() + options.timeout

    def guarded(part, *arguments):
        try:
            part(*arguments)
        except Exception as error:
            failures.append(error)

    def finished():
        require(time.monotonic() < deadline, f"{checker.count()} of {options.events} events are processed in time")
        return checker.count() >= options.events or failures

    writing = threading.Thread(target=guarded, args=(produce, options))
    reading = threading.Thread(target=guarded, args=(process, options, checker, finished))
    writing.start()
    reading.start()
    while checker.count() < options.events // 4 and not failures:
        time.sleep(0.05)
    guarded(replay, options)
    writing.join()
    reading.join()
    if failures:
        raise failures[0]
    again = replay(options)
    require(again.count() == before + options.events, f"{again.count()} events are replayed, {options.events} were written")
    is_same = all(again.last.get(stream) == number for stream, number in checker.last.items())
    require(is_same, "the replay is not what was processed")


def number(kind, least, or_more):
    """The type of an option: a number of a kind that is at least `least`; `or_more` describes it."""
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        # A nan is not at least anything.
        if value is None or not least <= value < 1 << 62:
            raise argparse.ArgumentTypeError(f"{text} is not {or_more}")
        return value
    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    count = number(int, 1, "a whole number of 1 or more")
    whole = number(int, 0, "a whole number of 0 or more")
    any_number = number(float, 0, "a number of 0 or more")
    parts = {"produce": produce, "process": process_rest, "replay": replay, "all": everything}
    parser.add_argument("what", nargs="?", choices=list(parts), help="the part to run, as above")

    def option(name, default, text, kind=str):
        parser.add_argument(name, type=kind, default=default, help=f"{text} (default: {default})")

    option("--bootstrap", "127.0.0.1:9092", "the address of a broker, host:port")
    option("--events", 10_000, "the number of events to write", count)
    option("--patients", 200, "the number of patients", count)
    option("--rate", 0, "events per second; 0 means as fast as possible", any_number)
    option("--members", 2, "the number of consumers in the group", count)
    option("--group", "prior-authorisation-desk", "the consumer group's name")
    option("--seed", 1, "the seed of the events: the same seed makes the same events", whole)
    option("--timeout", 120, "the seconds within which `all` must process its events", any_number)
    options = parser.parse_args()
    if options.what is None:
        parser.error("name the part to run: produce, process, replay or all")
    try:
        create_topics(options.bootstrap)
        parts[options.what](options)
    except (Violation, KafkaException) as error:
        sys.exit(f"{options.what}: {error}")
    except KeyboardInterrupt:
        # The process ends without waiting for its threads.
        print(f"{options.what}: stopped before it was done", file=sys.stderr, flush=True)
        os._exit(130)


if __name__ == "__main__":
    main()
