"""The options that every script here takes."""

import argparse


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options that say which stream it is."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--bootstrap", default="127.0.0.1:9092", help="host:port of a broker")
    made.add_argument("--topic", default="fhir-events")
    made.add_argument("--seed", type=int, default=1, help="the same seed makes the same events")
    made.add_argument("--patients", type=int, default=40)
    made.add_argument("--events", type=int, default=600, help="events of the whole stream")
    made.add_argument("--stall-seconds", type=float, default=60, help="without progress for so long, give up")
    return made
