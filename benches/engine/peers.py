"""Other task queues on Redis, each with its own producer, set up for speed as it says itself."""

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from engine.site import Site

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "benches" / "peers"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or CHECKOUT / "target")
VENV, ARQ_VENV = TARGET / "bench-venv" / "bin", TARGET / "bench-venv-arq" / "bin"
BULLMQ = TARGET / "bench-bullmq"
APALIS = TARGET / "bench-apalis" / "release" / "bench-apalis"
PYTHON = FOLDER / "python"


@dataclass
class Peer:
    """Workers whose messages come from a producer of their own, sent while they are stopped."""

    name: str
    worker: list[str | Path]
    producer: list[str | Path]
    # How many results or finished jobs Redis has.
    finished: Callable[[Redis], int]
    # How many messages are waiting or lent.
    unfinished: Callable[[Redis], int]
    weight: int = 1
    # For a worker that, once it found nothing, looks again only after half a minute.
    started_on_release: bool = False
    # The longest queue that it can take.
    most: int | None = None
    finished_before: int = 0
    expected: int = 0

    def start(self, site: Site, processes: int = 1) -> None:
        if not self.started_on_release:
            for _ in range(processes):
                self.start_one(site)

    def start_one(self, site: Site) -> None:
        name = f"worker-{len(site.workers)}"
        site.start_worker(name, [*map(str, self.worker)], environment(site))

    def prepare(self, site: Site, first: int, count: int) -> None:
        self.finished_before = self.finished(site.redis.client)
        self.expected = count
        if self.started_on_release:
            site.end_workers()
        for pid in site.worker_pids():
            os.kill(pid, signal.SIGSTOP)
        command = [*map(str, self.producer), str(count)]
        subprocess.run(command, env=environment(site), cwd=site.folder, check=True)

    def release(self, site: Site) -> None:
        if self.started_on_release:
            self.start_one(site)
        for pid in site.worker_pids():
            os.kill(pid, signal.SIGCONT)

    def left(self, site: Site) -> int:
        redis = site.redis.client
        done = self.finished(redis) - self.finished_before
        return max(self.expected - done, 0) + self.unfinished(redis)


def environment(site: Site) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "BENCH_REDIS_URL": site.redis.url,
        "BENCH_REDIS_PORT": str(site.redis.port),
        "RQ_REDIS_URL": site.redis.url,
        "PYTHONPATH": str(PYTHON),
        "NODE_PATH": str(BULLMQ / "node_modules"),
    }


def all_keys(redis: Redis) -> int:
    return redis.dbsize()


def peers() -> list[Peer]:
    """All of them; docs: benches/README.md."""
    return [
        dramatiq(),
        rq(),
        arq(),
        taskiq(),
        huey(),
        bullmq(),
        apalis(),
    ]


def dramatiq() -> Peer:
    return Peer(
        "dramatiq",
        [VENV / "dramatiq", "dramatiq_app", "--processes", "2", "--threads", "8"],
        [VENV / "python", PYTHON / "send.py", "dramatiq_app"],
        finished=all_keys,
        unfinished=lambda redis: redis.hlen("dramatiq:default.msgs"),
    )


def rq() -> Peer:
    options = ["--num-workers", "2", "--worker-class", "rq.worker.SimpleWorker", "--quiet"]
    return Peer(
        "rq",
        [VENV / "rq", "worker-pool", *options],
        [VENV / "python", PYTHON / "send.py", "rq_tasks"],
        finished=lambda redis: redis.zcard("rq:finished:default"),
        unfinished=lambda redis: redis.zcard("rq:wip:default") + redis.llen("rq:queue:default"),
    )


def arq() -> Peer:
    return Peer(
        "arq",
        [ARQ_VENV / "arq", "arq_app.WorkerSettings"],
        [ARQ_VENV / "python", PYTHON / "send.py", "arq_app"],
        # A result takes the place of its job in one transaction with the queue.
        finished=all_keys,
        unfinished=lambda redis: redis.zcard("arq:queue"),
    )


def taskiq() -> Peer:
    options = ["--workers", "2", "--max-async-tasks", "100", "--log-level", "WARNING"]
    return Peer(
        "taskiq",
        [VENV / "taskiq", "worker", "taskiq_app:broker", *options],
        [VENV / "python", PYTHON / "send.py", "taskiq_app"],
        finished=all_keys,
        unfinished=lambda redis: redis.xpending("taskiq", "taskiq")["pending"],
    )


def huey() -> Peer:
    options = ["--workers", "2", "--worker-type", "process", "--quiet", "--no-periodic"]
    return Peer(
        "huey",
        [VENV / "huey_consumer", "huey_app.huey", *options],
        [VENV / "python", PYTHON / "send.py", "huey_app"],
        finished=lambda redis: redis.hlen("huey.results.bench"),
        unfinished=lambda redis: redis.llen("huey.redis.bench"),
    )


def bullmq() -> Peer:
    return Peer(
        "BullMQ",
        ["node", FOLDER / "bullmq" / "worker.js"],
        ["node", FOLDER / "bullmq" / "send.js"],
        finished=lambda redis: redis.zcard("bull:bench:completed"),
        unfinished=lambda redis: redis.llen("bull:bench:wait") + redis.llen("bull:bench:active"),
    )


def apalis() -> Peer:
    return Peer(
        "apalis-redis",
        [APALIS],
        [APALIS],
        finished=lambda redis: redis.scard("bench:done"),
        unfinished=lambda redis: redis.llen("bench:active"),
        started_on_release=True,
        # Its script that makes what was sent ready fails where more waits (Lua's unpack).
        most=5_000,
    )
