"""Thousands of damaged messages through one worker, and what became of each of them.

FUZZ_MESSAGES is how many, FUZZ_SEED which ones; a failure names both.
"""

import base64
import copy
import json
import os
import random
from collections import Counter
from typing import Any

import redis as redis_client

import damage
from messages import EMBED, encode, envelope, push, unacked, waiting
from waiting import until

MESSAGES = int(os.environ.get("FUZZ_MESSAGES", "3000"))
SEED = int(os.environ.get("FUZZ_SEED", "20261123"))
# More than wait at once, so that both the full and the empty queue are met.
BATCH = 500

VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 2**31, 2**32 - 1, 2**64, 10**30, 1e15, 1e308,
    "", "x", "\x00", "\ud800", "é" * 300,
    "2020-01-01T00:00:00+00:00", "2016-12-31T23:59:60Z", "9999-12-31T23:59:59.999999-23:59",
    "0001-01-01T00:00:00", "+262142-12-31T23:59:59Z", "application/json", "base64", "utf-8",
    [], {}, [None, None], [[], {}, None], {"id": "x"}, [0.001, None], [1e300, 1e-300], [-1, 0],
]  # fmt: skip
KEYS = [
    "id", "task", "eta", "expires", "retries", "timelimit", "group", "group_index", "root_id",
    "parent_id", "ignore_result", "shadow", "compression", "redelivered", "x-delivery-count",
    "delivery_info", "delivery_tag", "priority", "reply_to", "body_encoding", "correlation_id",
    "content-type", "content-encoding", "body", "headers", "properties", "stamps", "lang", "origin",
]  # fmt: skip
CALLS: list[tuple[str, list[Any]]] = [
    ("bench.noop", []),
    ("bench.add", [2, 2]),
    ("bench.fail", ["on purpose"]),
    ("bench.panic", ["on purpose"]),
    ("bench.retry", [1, 0.0, 3]),
    ("no.such.task", [1]),
]


class Mutator:
    """Makes messages; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  # repeatable on purpose
        self._captured = [case.pushed for case in damage.cases() if "megabyte" not in case.name]
        self._captured = [pushed for pushed in self._captured if len(_bytes(pushed)) < 100_000]

    def message(self, number: int) -> bytes:
        pick = self._random.random()
        if pick < 0.1:
            return self._damaged(_bytes(self._random.choice(self._captured)))
        message = self._call(number)
        for _ in range(self._random.randint(1, 3)):
            self._change(message)
        data = _bytes(message)
        return self._damaged(data) if pick < 0.3 else data

    def _call(self, number: int) -> dict[str, Any]:
        task, args = self._random.choice(CALLS)
        return envelope(task, *args, task_id=f"fuzz-{number}")

    def _change(self, message: dict[str, Any]) -> None:
        place = self._random.choice([message, "headers", "properties", "body", "body"])
        if place == "body":
            message["body"] = self._body(message)
            return
        target = place if isinstance(place, dict) else message.get(place)
        if not isinstance(target, dict):
            return
        key = self._random.choice(KEYS)
        if self._random.random() < 0.2:
            target.pop(key, None)
        else:
            target[key] = self._value()

    def _body(self, message: dict[str, Any]) -> str:
        try:
            body = json.loads(base64.b64decode(message["body"]))
            args, kwargs, embed = body
        except (KeyError, TypeError, ValueError):
            args, kwargs, embed = [], {}, EMBED
        match self._random.randrange(5):
            case 0 if isinstance(args, list) and args:
                args[self._random.randrange(len(args))] = self._value()
            case 1 if isinstance(args, list):
                args = [*args, self._value()]
            case 2:
                kwargs = self._random.choice([self._value(), {"x": self._value()}])
            case 3:
                part = self._random.choice([*EMBED, "other"])
                embed = {**EMBED, part: self._value()}
            case _:
                return encode(self._value())
        return encode([args, kwargs, embed])

    def _value(self) -> Any:
        value = copy.deepcopy(self._random.choice(VALUES))
        return [value] * self._random.randint(1, 3) if self._random.random() < 0.1 else value

    def _damaged(self, data: bytes) -> bytes:
        data = bytearray(data)
        for _ in range(self._random.randint(1, 4)):
            at = self._random.randrange(len(data) + 1)
            match self._random.randrange(4):
                case 0:
                    data[at : at + 1] = bytes([self._random.randrange(256)])
                case 1:
                    data[at:at] = bytes([self._random.randrange(256)])
                case 2:
                    del data[at:]
                case _:
                    data += data[at:]
        return bytes(data)


def _bytes(pushed: Any) -> bytes:
    if isinstance(pushed, bytes):
        return pushed
    return (pushed if isinstance(pushed, str) else json.dumps(pushed)).encode(errors="replace")


def test_every_damaged_message_is_accounted_for_and_the_worker_works_on(
    app, programs, redis, broker_url
):
    worker = programs.interop_worker("-c", "4", RUST_LOG="error")
    mutator = Mutator(SEED)
    sent = Counter(mutator.message(number) for number in range(MESSAGES))
    pushed = 0
    for data, times in sent.items():
        for _ in range(times):
            push(redis, data)
        pushed += times
        if pushed % BATCH == 0:
            until(
                lambda: waiting(redis) + unacked(redis) == 0,
                f"the first {pushed} of seed {SEED} are settled",
                60,
            )

    until(
        lambda: waiting(redis) + unacked(redis) + redis.zcard("unacked_index") == 0,
        f"all {MESSAGES} of seed {SEED} are settled",
        120,
    )

    assert worker.is_running()
    assert app.send_task("bench.add", (2, 2)).get(timeout=30) == 4
    ledger = account(broker_url, sent)
    print(f"\n{MESSAGES} messages of seed {SEED}: {dict(ledger)}")  # noqa: T201  # the record
    assert ledger["unaccounted"] == 0
    # Each way out was taken, or the messages are not what they should be.
    for way in ["SUCCESS", "FAILURE", "dead letter"]:
        assert ledger[way] > 0, ledger


def account(broker_url: str, sent: Counter) -> Counter:
    """What became of each message: a result under its id, a dead letter, a later instant."""
    with redis_client.Redis.from_url(broker_url) as client:
        dead = Counter(client.hvals("_celery_redis.dead_messages"))
        scheduled = client.hvals("_celery_redis.scheduled_messages")
        ledger: Counter = Counter()
        for data, times in sent.items():
            if dead[data]:
                ledger["dead letter"] += times
            elif any(value.endswith(data) for value in scheduled):
                ledger["scheduled"] += times
            elif (task_id := named(data)) is not None:
                # Whoever sent it reads its end here; a task without a result leaves only its log.
                record = client.get(f"celery-task-meta-{task_id}")
                ignored = ignores_result(data)
                state = json.loads(record)["status"] if record else None
                ledger[state or ("result ignored" if ignored else "unaccounted")] += times
                if state is None and not ignored:
                    print(f"unaccounted: {data[:2000]!r}")  # noqa: T201  # what to look at
            else:
                ledger["unaccounted"] += times
                print(f"unaccounted: {data[:2000]!r}")  # noqa: T201
        return ledger


def named(data: bytes) -> str | None:
    """The id that a result would be stored under."""
    message = read(data)
    headers = message.get("headers") or {}
    if "id" in headers or "task" in headers:
        return headers.get("id")
    try:
        body = message["body"]
        if (message.get("properties") or {}).get("body_encoding") == "base64":
            body = base64.b64decode(body)
        return json.loads(body)["id"]
    except (KeyError, TypeError, ValueError):
        return None


def ignores_result(data: bytes) -> bool:
    return (read(data).get("headers") or {}).get("ignore_result") is True


def read(data: bytes) -> dict[str, Any]:
    message = json.loads(data)
    return message if isinstance(message, dict) else {}
