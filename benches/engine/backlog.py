"""What a task costs while more and more messages wait behind it."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import contenders, report
from engine.contenders import QUEUE, OnCelerysWire
from engine.drain import WARM_UP, Drain, measure, warm_up
from engine.options import Options
from engine.site import Site, new_site

BACKLOGS = (1_000, 10_000, 100_000, 1_000_000, 5_000_000)
HEAD = ["waiting", "tasks/s", "Redis us/task", "CPU us/task", "worker MiB", "Redis MiB"]
# Of a message in Redis, with its list's overhead.
BYTES_PER_MESSAGE = 1_200


@dataclass
class DownTo(OnCelerysWire):
    """Is done when no more than so many messages wait."""

    backlog: int = 0

    def left(self, site: Site) -> int:
        return max(site.redis.client.llen(QUEUE) - self.backlog, 0)


def main(options: Options) -> None:
    runs: dict[int, list[dict[str, Any]]] = {}
    most = options.backlog or BACKLOGS[-1]
    for _ in range(options.runs):
        for backlog in (size for size in BACKLOGS if size <= most):
            if fits(backlog):
                runs.setdefault(backlog, []).append(run(backlog, options))
            else:
                print(f"not enough memory for {backlog:,} messages: left out")
    print(report.table(HEAD, [row(backlog, found) for backlog, found in runs.items()]))
    for line in goals(runs):
        print(line)
    report.save("backlog", {str(backlog): found for backlog, found in runs.items()}, options.json)


def fits(backlog: int) -> bool:
    """Whether that much memory is to be had without taking more than half of what is free."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return backlog * BYTES_PER_MESSAGE < available * 1024 / 2


def run(backlog: int, options: Options) -> dict[str, Any]:
    base = contenders.ours(options.slots)
    contender = DownTo(base.name, base.command, base.env, base.weight)
    tasks = options.tasks * base.weight
    with new_site() as site:
        contender.start(site)
        warm_up(contender, site)
        contender.prepare(site, WARM_UP, backlog + tasks)
        contender.backlog = backlog
        drain: Drain = measure(contender, site, tasks)
        memory = site.redis.client.info("memory")["used_memory"] / 2**20
        return drain.as_json() | {"redis_mib": memory}


def row(backlog: int, runs: list[dict[str, Any]]) -> list[str]:
    def spread(key: str, digits: int) -> str:
        return report.spread([run[key] for run in runs], digits)

    return [
        f"{backlog:,}",
        spread("per_second", 0),
        spread("redis_us", 2),
        spread("worker_us", 2),
        spread("peak_mib", 1),
        spread("redis_mib", 0),
    ]


def goals(runs: dict[int, list[dict[str, Any]]]) -> list[str]:
    least, most = min(runs), max(runs)

    def median(backlog: int, key: str) -> float:
        return statistics.median(run[key] for run in runs[backlog])

    grown = median(most, "redis_us") / median(least, "redis_us")
    name = f"Redis CPU per task, {most:,} / {least:,} waiting"
    return [report.goal(name, grown, 1.15, at_least=False)]
