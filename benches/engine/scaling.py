"""1, 2, 4 and 8 worker processes on one queue: together, each one's share, and what Redis pays."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from engine import contenders, report
from engine.drain import WARM_UP, Drain, measure, warm_up
from engine.nodes import await_nodes, done_by_each
from engine.options import Options
from engine.site import new_site

PROCESSES = (1, 2, 4, 8)
HEAD = ["processes", "tasks/s", "Redis us/task", "CPU us/task", "least share", "most share"]


@dataclass
class Shared:
    """One run, and how many of the tasks each process did, as a part of an even share."""

    drain: Drain
    shares: list[float]

    def as_json(self) -> dict[str, Any]:
        return self.drain.as_json() | {"shares": self.shares}


def main(options: Options) -> None:
    runs: dict[int, list[Shared]] = {processes: [] for processes in PROCESSES}
    for _ in range(options.runs):
        for processes, found in runs.items():
            found.append(run(processes, options))
    print(report.table(HEAD, [row(processes, found) for processes, found in runs.items()]))
    for line in goals(runs):
        print(line)
    figures = {
        str(processes): [one.as_json() for one in found] for processes, found in runs.items()
    }
    report.save("scaling", figures, options.json)


def run(processes: int, options: Options) -> Shared:
    contender = contenders.ours(options.slots)
    tasks = options.tasks * contender.weight
    with new_site() as site:
        contender.start(site, processes)
        await_nodes(site, processes)
        warm_up(contender, site)
        contender.prepare(site, WARM_UP, tasks)
        before = done_by_each(site)
        drain = measure(contender, site, tasks)
        after = done_by_each(site)
        shares = [(after[node] - before[node]) * processes / tasks for node in sorted(after)]
        return Shared(drain, shares)


def row(processes: int, runs: list[Shared]) -> list[str]:
    drains = [run.drain for run in runs]
    return [
        str(processes),
        report.spread([drain.per_second for drain in drains]),
        report.spread([drain.redis_us for drain in drains], 2),
        report.spread([drain.worker_us for drain in drains], 2),
        report.spread([min(run.shares) for run in runs], 2),
        report.spread([max(run.shares) for run in runs], 2),
    ]


def goals(runs: dict[int, list[Shared]]) -> list[str]:
    def median(processes: int, figure: Callable[[Shared], float]) -> float:
        return statistics.median(figure(run) for run in runs[processes])

    lines = []
    for fewer, more in pairwise(PROCESSES):
        grown = median(more, per_second) / median(fewer, per_second)
        name = f"tasks/s of {more} / of {fewer}"
        lines.append(report.goal(name, grown, 1, at_least=True))
    for processes in PROCESSES[1:]:
        cost = median(processes, redis_us) / median(1, redis_us)
        name = f"Redis CPU per task of {processes} / of 1"
        lines.append(report.goal(name, cost, 1.15, at_least=False))
        least = median(processes, lambda run: min(run.shares))
        lines.append(report.goal(f"least share of {processes}", least, 0.8, at_least=True))
        most = median(processes, lambda run: max(run.shares))
        lines.append(report.goal(f"largest share of {processes}", most, 1.2, at_least=False))
    return lines


def per_second(run: Shared) -> float:
    return run.drain.per_second


def redis_us(run: Shared) -> float:
    return run.drain.redis_us
