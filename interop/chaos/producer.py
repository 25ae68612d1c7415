"""Sends numbered messages as Celery would, and knows of each attempt whether it arrived."""

import json
import random
import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import redis as redis_client
from redis.backoff import NoBackoff
from redis.retry import Retry

from messages import envelope

LISTS = ["celery"] * 5 + [f"celery\x06\x16{step}" for step in (3, 6, 9)]


@dataclass(frozen=True)
class Sending:
    """One attempt to send one message. All attempts of a number have the same task id."""

    key: str
    """`number.attempt`, which the task writes into the ledger."""
    number: int
    task_id: str
    retries: int
    acknowledged: bool
    """Redis has confirmed it; else it may be there or not."""


def produce(port: int, seed: int, numbers: range, per_second: float, log: Path) -> None:
    """Sends the messages at that rate, each until Redis has confirmed it."""
    rng = random.Random(seed)  # noqa: S311  # a campaign, no secret
    # One attempt is one LPUSH: a client that repeats it by itself would hide duplicates.
    redis = redis_client.Redis(
        port=port, socket_timeout=3, socket_connect_timeout=3, retry=Retry(NoBackoff(), 0)
    )
    begin = time.monotonic()
    with log.open("w") as file:
        for place, number in enumerate(numbers):
            time.sleep(max(0, begin + place / per_second - time.monotonic()))
            task_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
            seconds, countdown, retries = _kind(rng)
            lst = rng.choice(LISTS)
            attempt, acknowledged = 0, False
            while not acknowledged:
                key = f"{number}.{attempt}"
                message = _message(task_id, key, seconds, countdown, retries)
                try:
                    redis.lpush(lst, message)
                    acknowledged = True
                except redis_client.RedisError:
                    redis.close()
                    time.sleep(rng.uniform(0.05, 0.3))
                sending = Sending(key, number, task_id, retries, acknowledged)
                file.write(json.dumps(vars(sending)) + "\n")
                attempt += 1


def sendings(log: Path) -> list[Sending]:
    return [Sending(**json.loads(line)) for line in log.read_text().splitlines()]


def _kind(rng: random.Random) -> tuple[float, float, int]:
    """Seconds that the task takes, seconds until it is due, number of its retries."""
    kind = rng.random()
    if kind < 0.75:
        return rng.uniform(0, 0.02), 0, 0
    if kind < 0.80:
        return rng.uniform(0.5, 3), 0, 0
    if kind < 0.90:
        return rng.uniform(0, 0.02), rng.uniform(0.5, 5), 0
    return rng.uniform(0.02, 0.3), 0, 2


def _message(task_id: str, key: str, seconds: float, countdown: float, retries: int) -> bytes:
    message = envelope("bench.record", key, seconds, retries, task_id=task_id)
    if countdown:
        due = datetime.now(timezone.utc) + timedelta(seconds=countdown)
        message["headers"]["eta"] = due.isoformat()
    return json.dumps(message).encode()
