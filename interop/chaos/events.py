"""What `bench.record` has written: every run of every message, by the ledger's own clock."""

from collections.abc import Iterator
from dataclasses import dataclass

import redis as redis_client

STREAM = "ledger"


@dataclass(frozen=True)
class Event:
    """One line of the ledger."""

    at: float
    """Epoch seconds of the Redis that holds the ledger."""
    event: str
    """`begun` or `ended`."""
    key: str
    retries: int
    pid: int


def read(redis: redis_client.Redis, after: str = "-") -> Iterator[Event]:
    """All events in the order they happened."""
    while page := redis.xrange(STREAM, min=after, count=10_000):
        for stamp, fields in page:
            yield Event(
                at=int(stamp.split("-")[0]) / 1000,
                event=fields["event"],
                key=fields["key"],
                retries=int(fields["retries"]),
                pid=int(fields["pid"]),
            )
        after = f"({page[-1][0]}"


def begun(redis: redis_client.Redis) -> list[Event]:
    return [event for event in read(redis) if event.event == "begun"]


def ended(redis: redis_client.Redis) -> list[Event]:
    return [event for event in read(redis) if event.event == "ended"]
