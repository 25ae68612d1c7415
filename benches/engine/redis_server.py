"""The Redis of one run."""

from collections.abc import Sequence
from pathlib import Path

import redis

from processes import Process
from servers import free_port
from waiting import until

# Nothing is written to disk, so that no arm waits for one; the rest is Redis's default.
CONFIGURATION = ["--save", "", "--appendonly", "no", "--loglevel", "warning"]


class BenchRedis:
    """A new redis-server on TCP of 127.0.0.1, the same for every contender."""

    def __init__(self, folder: Path, on: Sequence[str] = ()) -> None:
        self.port = free_port()
        self._process = Process(
            [
                *on,
                "redis-server",
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--dir",
                str(folder),
            ]
            + CONFIGURATION,
            folder / f"redis-{self.port}.log",
        )
        self.client = redis.Redis(port=self.port)
        until(self._answers, f"redis-server answers on port {self.port}")

    def _answers(self) -> bool:
        if not self._process.is_running():
            raise RuntimeError(f"redis-server did not start:\n{self._process.output()}")
        try:
            return self.client.ping()
        except redis.ConnectionError:
            return False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        self.client.close()
        self._process.kill()
