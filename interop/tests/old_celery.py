"""Celery 5.3 as a producer and as a worker: run with its packages on PYTHONPATH."""

import json
import os
import sys

import celery
from celery import Celery, chain, chord, group, signature
from celery.exceptions import ChordError

URL = os.environ["CELERY_BROKER_URL"]

app = Celery("old_celery", broker=URL, backend=URL)
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True


@app.task(name="bench.add")
def add(x: float, y: float) -> float:
    return x + y


@app.task(name="bench.fail")
def fail(message: str) -> None:
    raise ValueError(message)


def as_list():
    return signature("celery.accumulate", kwargs={"index": 0}, app=app)


CANVASES = {
    "chain": lambda: chain(add.s(1, 2), add.s(3), add.s(4)),
    "group": lambda: group(add.s(1, 1), add.s(2, 2)),
    "chord": lambda: chord([add.s(i, i) for i in range(20)], as_list()),
    "chord of chains": lambda: chord([chain(add.s(i, i), add.s(1)) for i in range(5)], as_list()),
    "chord of groups": lambda: chord([group(add.s(1, 1), add.s(2, 2)), add.s(3, 3)], as_list()),
    "chord in a chain": lambda: chain(add.s(1, 1), group(add.s(1), add.s(2)), as_list()),
    "chord whose header fails": lambda: chord([add.s(1, 1), fail.s("no")], as_list()),
}


def main() -> None:
    shown = {"version": celery.__version__}
    for name, canvas in CANVASES.items():
        try:
            shown[name] = canvas().apply_async().get(timeout=20)
        except (ValueError, ChordError):
            shown[name] = "failed"
    json.dump(shown, sys.stdout)


if __name__ == "__main__":
    main()
