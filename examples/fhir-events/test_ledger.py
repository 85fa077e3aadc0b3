"""Every kind of damage is noticed: run with `python3 -m unittest test_ledger.py`."""

import hashlib
import unittest

import fhir
from ledger import Ledger, Violation


class Message:
    """What the ledger asks of a client's message."""

    def __init__(self, seq, offset, body=b"body", partition=0, sum_of=None):
        self._seq, self._offset, self._body, self._partition = seq, offset, body, partition
        self._sum = hashlib.sha256(body if sum_of is None else sum_of).hexdigest().encode()

    def headers(self):
        return [("patient-seq", str(self._seq).encode()), ("sha256", self._sum)]

    def key(self):
        return b"p"

    def value(self):
        return self._body

    def partition(self):
        return self._partition

    def offset(self):
        return self._offset


class LedgerTest(unittest.TestCase):
    def setUp(self):
        self.ledger = Ledger({"p": 3})
        self.ledger.take(Message(0, 10))
        self.ledger.take(Message(1, 12))

    def refuses(self, text, *args, **kwargs):
        with self.assertRaisesRegex(Violation, text):
            self.ledger.take(*args, **kwargs)

    def test_the_whole_stream_in_order_is_accepted(self):
        self.ledger.take(Message(2, 13))
        self.assertEqual(self.ledger.missing(), 0)
        self.assertIsNone(self.ledger.first_missing())

    def test_an_event_delivered_again_is_accepted_from_a_group_only(self):
        self.ledger.take(Message(1, 12), floor=12, redelivery=True)
        self.assertEqual(self.ledger.redelivered, 1)
        self.refuses("delivered twice", Message(1, 12))

    def test_damage_is_noticed(self):
        self.refuses("gap", Message(5, 20))
        self.refuses("duplicate", Message(1, 13), redelivery=True)
        self.refuses("out of order", Message(2, 11))
        self.refuses("checksum", Message(2, 13, sum_of=b"other"))
        self.refuses("partition 0 before", Message(2, 13, partition=1))
        self.refuses("committed offset 14", Message(2, 13), floor=14, redelivery=True)
        self.ledger.take(Message(2, 13))
        self.refuses("never sent", Message(3, 14))
        self.assertEqual(Ledger({"p": 1}).first_missing(), "p seq=0 of 1")


class EventTest(unittest.TestCase):
    def test_events_are_the_same_each_time_and_of_the_stated_sizes(self):
        plan = list(fhir.plan(7, 10, 200))
        self.assertEqual(plan, list(fhir.plan(7, 10, 200)))
        sizes = []
        for number, seq in plan:
            event = fhir.event(7, number, seq)
            self.assertEqual(event, fhir.event(7, number, seq))
            sizes.append(len(event.body))
        self.assertLess(fhir.SIZE_MAX - 4, max(sizes))
        self.assertLessEqual(fhir.SIZE_MIN, min(sizes))
        self.assertLessEqual(max(sizes), fhir.SIZE_MAX)


if __name__ == "__main__":
    unittest.main()
