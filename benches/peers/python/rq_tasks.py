"""rq: what its worker runs, and its producer."""

import os

from redis import Redis
from rq import Queue


def noop() -> None:
    pass


def send(count: int) -> None:
    queue = Queue(connection=Redis.from_url(os.environ["BENCH_REDIS_URL"]))
    queue.enqueue_many([Queue.prepare_data(noop) for _ in range(count)])
