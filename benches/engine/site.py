"""Where one run takes place: a Redis of its own, a folder, and what was started there."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from engine import resources
from engine.redis_server import BenchRedis
from processes import Process


@dataclass
class Placement:
    """Commands that programs are started by, to run them on one processor."""

    redis: list[str]
    others: list[str]


# Where the scheduler puts them. A client that waits for each answer may come to share Redis's
# processor, which makes a round trip ten times as fast as anything that works at the same time has.
ANYWHERE = Placement([], [])
APART = Placement(["taskset", "-c", "0"], ["taskset", "-c", "1"])


@dataclass
class Site:
    folder: Path
    redis: BenchRedis
    placement: Placement = field(default_factory=lambda: ANYWHERE)
    workers: list[Process] = field(default_factory=list)

    def start_worker(self, name: str, command: list[str], env: dict[str, str]) -> Process:
        log = self.folder / f"{name}.log"
        url = self.redis.url
        shared = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "CELERY_BROKER_URL": url,
            "CELERY_RESULT_BACKEND": url,
            "BENCH_REDIS_PORT": str(self.redis.port),
        }
        worker = Process(self.placement.others + command, log, env=shared | env)
        self.workers.append(worker)
        return worker

    @property
    def template(self) -> Path:
        """The message that queues are filled with copies of."""
        return self.folder / "template.json"

    def worker_pids(self) -> list[int]:
        return [pid for worker in self.workers for pid in resources.family(worker.pid)]

    def check_workers(self) -> None:
        """Fails with the log of a worker that ended by itself."""
        for worker in self.workers:
            if not worker.is_running():
                raise RuntimeError(f"{worker.name} ended by itself:\n{worker.output()[-4000:]}")

    def end_workers(self) -> None:
        """Kills all of them and what they started."""
        for worker in self.workers:
            if worker.is_running():
                for pid in reversed(resources.family(worker.pid)[1:]):
                    os.kill(pid, signal.SIGKILL)
            worker.kill()
        self.workers.clear()


@contextmanager
def new_site(placement: Placement = ANYWHERE) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        site = Site(folder, BenchRedis(folder, placement.redis), placement)
        try:
            yield site
        finally:
            site.end_workers()
            site.redis.stop()
