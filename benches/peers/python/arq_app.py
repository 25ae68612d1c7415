"""arq: without a pause between its polls, as many jobs at once as it does best."""

import asyncio
import os
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import RedisSettings

SETTINGS = RedisSettings.from_dsn(os.environ["BENCH_REDIS_URL"])


async def noop(ctx: dict[str, Any]) -> None:
    pass


class WorkerSettings:
    functions: ClassVar = [noop]
    redis_settings = SETTINGS
    max_jobs = 100
    poll_delay = 0.001


async def send_all(count: int) -> None:
    pool = await create_pool(SETTINGS)
    for first in range(0, count, 500):
        await asyncio.gather(
            *(pool.enqueue_job("noop") for _ in range(first, min(first + 500, count)))
        )
    await pool.aclose()


def send(count: int) -> None:
    asyncio.run(send_all(count))
