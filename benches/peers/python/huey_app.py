"""huey: results kept in Redis, also those that are None."""

import os

from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS_URL"], store_none=True)


@huey.task()
def noop() -> None:
    pass


def send(count: int) -> None:
    for _ in range(count):
        noop()
