"""What was seen so far, and whether the next message may follow it."""

import hashlib
import threading
from typing import Dict, List, Optional, Tuple


class Violation(Exception):
    """A promise of the log was broken."""


class Ledger:
    """Every patient's events by sequence number: in order, without a gap, each at one offset, with its checksum.

    Shared by the members of a group. A redelivery is the same event at the same offset; the same event at another
    offset is a duplicate in the log.
    """

    def __init__(self, expected: Dict[str, int]):
        self._lock = threading.Lock()
        self._expected = expected
        self._missing = sum(expected.values())
        self._places: Dict[str, Tuple[int, List[int]]] = {}
        self._committed: Dict[int, int] = {}
        self._ends: Dict[int, int] = {}
        self.messages = 0
        self.bytes = 0
        self.redelivered = 0

    def missing(self) -> int:
        """Events not seen yet."""
        with self._lock:
            return self._missing

    def committed(self, partition: int, offset: int) -> None:
        """Notes that the group has committed up to here."""
        with self._lock:
            self._committed[partition] = max(offset, self._committed.get(partition, 0))

    def floor(self, partition: int) -> int:
        """Where a member that is given this partition now may start at the earliest."""
        with self._lock:
            return self._committed.get(partition, 0)

    def take(self, message, floor: int = 0, redelivery: bool = False) -> None:
        """Checks one message against everything before it; raises Violation."""
        headers = dict(message.headers() or [])
        patient = message.key().decode()
        seq = int(headers["patient-seq"])
        body = message.value()
        partition, offset = message.partition(), message.offset()
        place = f"{patient} seq={seq} partition={partition} offset={offset}"
        if hashlib.sha256(body).hexdigest().encode() != headers["sha256"]:
            raise Violation(f"checksum differs: {place}")
        if offset < floor:
            raise Violation(f"the group went back below its committed offset {floor}: {place}")
        with self._lock:
            self.messages += 1
            self.bytes += len(body)
            known, offsets = self._places.setdefault(patient, (partition, []))
            if known != partition:
                raise Violation(f"the key was in partition {known} before: {place}")
            if seq < len(offsets):
                if offsets[seq] != offset:
                    raise Violation(f"duplicate, first seen at offset {offsets[seq]}: {place}")
                if not redelivery:
                    raise Violation(f"delivered twice: {place}")
                self.redelivered += 1
                return
            if seq > len(offsets):
                raise Violation(f"gap, expected seq {len(offsets)}: {place}")
            if offsets and offsets[-1] >= offset:
                raise Violation(f"out of order, the event before is at offset {offsets[-1]}: {place}")
            if seq >= self._expected.get(patient, 0):
                raise Violation(f"never sent: {place}")
            offsets.append(offset)
            self._ends[partition] = max(offset + 1, self._ends.get(partition, 0))
            self._missing -= 1

    def ends(self) -> Dict[int, int]:
        """Just after the last event of each partition."""
        with self._lock:
            return dict(self._ends)

    def first_missing(self) -> Optional[str]:
        """Names one event that was not seen."""
        with self._lock:
            for patient, count in self._expected.items():
                seen = len(self._places.get(patient, (0, []))[1])
                if seen < count:
                    return f"{patient} seq={seen} of {count}"
        return None
