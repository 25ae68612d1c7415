"""Who takes part: what starts a worker, fills its queue, and tells how much is left to do."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from engine import template
from engine.probe import probe
from engine.site import Site
from programs import binary

WAITING = "bench:waiting"
QUEUE = "celery"


class Contender(Protocol):
    """A worker of some kind."""

    name: str
    # Of how many tasks a run consists, against the slowest: runs of all should last seconds.
    weight: int

    def start(self, site: Site, processes: int = 1) -> None:
        """Starts so many of its workers."""

    def prepare(self, site: Site, first: int, count: int) -> None:
        """Has messages wait where no worker takes them yet."""

    def release(self, site: Site) -> None:
        """Lets the workers at them."""

    def left(self, site: Site) -> int:
        """How many of the released are not done with: result stored and acknowledged."""


@dataclass
class OnCelerysWire:
    """Workers that take Celery's messages: all get copies of the very same one."""

    name: str
    command: list[str]
    env: dict[str, str]
    weight: int
    ignore_result: bool = False
    task: str = "bench.noop"
    args: tuple[Any, ...] = ()
    keys_before: int = 0
    expected: int = 0

    def start(self, site: Site, processes: int = 1) -> None:
        # Before there is a worker that would take it.
        template.capture(site, self.task, self.args, ignore_result=self.ignore_result)
        for number in range(processes):
            node = ["-n", f"bench-{number}@%h"]
            site.start_worker(f"worker-{number}", self.command + node, self.env)

    def prepare(self, site: Site, first: int, count: int) -> None:
        self.keys_before = site.redis.client.dbsize()
        self.expected = count
        probe(site, "fill", list=WAITING, first=first, count=count)

    def release(self, site: Site) -> None:
        site.redis.client.rename(WAITING, QUEUE)

    def left(self, site: Site) -> int:
        with site.redis.client.pipeline(transaction=False) as pipeline:
            waiting, unacked, keys = pipeline.llen(QUEUE).hlen("unacked").dbsize().execute()
        left = waiting + unacked
        if self.ignore_result or left:
            return left
        # A handful of keys comes and goes with workers; each result is one more.
        missing = self.expected - (keys - self.keys_before)
        return missing if missing > 10 else 0


def ours(slots: int, *, ignore_result: bool = False) -> OnCelerysWire:
    return OnCelerysWire(
        "ours, ignore_result" if ignore_result else "ours",
        [binary("interop-worker"), "-c", str(slots), "-l", "warn"],
        {},
        weight=20,
        ignore_result=ignore_result,
    )


def celery(pool: str, concurrency: int, *, ignore_result: bool = False) -> OnCelerysWire:
    command = [sys.executable, "-m", "celery", "-A", "engine.celery_app", "worker"]
    command += ["-l", "warning", "-P", pool, "-c", str(concurrency)]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    name = f"celery {pool}" + (f" -c {concurrency}" if pool != "solo" else "")
    return OnCelerysWire(
        name,
        command,
        {"PYTHONPATH": str(Path(__file__).parents[1])},
        weight=1,
        ignore_result=ignore_result,
    )
