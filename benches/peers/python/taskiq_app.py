"""taskiq: the broker that acknowledges (a Redis stream), results kept in Redis."""

import asyncio
import os

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

URL = os.environ["BENCH_REDIS_URL"]
broker = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL))


@broker.task(task_name="noop")
async def noop() -> None:
    pass


async def send_all(count: int) -> None:
    await broker.startup()
    for first in range(0, count, 100):
        await asyncio.gather(*(noop.kiq() for _ in range(first, min(first + 100, count))))
    await broker.shutdown()


def send(count: int) -> None:
    asyncio.run(send_all(count))
